"""Observable softmaps with a Zipf prior: the semantic objective of DOS."""

import torch
from torch import Tensor

from pointins_plugin.losses.checks import check_choice
from pointins_plugin.ops.segments import segment_count, segment_max, segment_sum
from pointins_plugin.ops.sinkhorn import sinkhorn, zipf_weights

SCOPES = ("batch", "cloud")


def log_softmap(logits: Tensor, batch: Tensor, num_clouds: int) -> Tensor:
    """Normalise each prototype's logits over the points of a cloud.

    ``log S(i, k) = l_ik - log sum_{j in cloud of i} exp(l_jk)``: over points for each
    prototype, not over prototypes for each point.

    Args:
        logits: (N, K) similarities over temperature.
        batch: (N,) cloud of every point.
        num_clouds: B.

    Returns:
        (N, K) float32 log-probabilities, differentiable in ``logits``.

    Source: DOS (arXiv 2512.11465), softmap.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float() if logits.dtype.itemsize < 4 else logits
        # Shifting a column changes nothing, so the shift carries no gradient.
        peak = segment_max(logits.detach(), batch, num_clouds)
        logits = logits - peak[batch]
        total = segment_sum(torch.exp(logits), batch, num_clouds)
        return logits - torch.log(total)[batch]


@torch.no_grad()
def softmap_target(
    similarity: Tensor,
    batch: Tensor,
    num_clouds: int,
    temperature: float = 0.06,
    alpha: float = 1.3,
    num_iters: int = 10,
    scope: str = "batch",
) -> Tensor:
    """Balance the teacher's softmap by Zipf-Sinkhorn.

    Rounds of {points to equal mass, prototypes to ``w_k ~ k^-alpha``}, then every
    column is normalised over the points of each cloud.

    Args:
        similarity: (N, K) cosines of the teacher's features and prototypes.
        batch: (N,) cloud of every point, non-decreasing.
        num_clouds: B.
        temperature: of the teacher.
        alpha: exponent of the Zipf prior; 0 is plain Sinkhorn.
        num_iters: rounds; under a Zipf prior 10 (temperature .07) to 20 (.04) are
            needed for the marginals to converge.
        scope: ``"batch"`` balances over all clouds of all ranks, ``"cloud"`` over each
            cloud alone. The paper does not say.

    Returns:
        (N, K) float32 target; each column sums to one over each cloud.

    Source: DOS, Zipf-Sinkhorn.
    """
    check_choice("scope", scope, SCOPES)
    weights = zipf_weights(similarity.shape[1], alpha, similarity.device)
    options = {
        "column_mass": weights,
        "num_iters": num_iters,
        "log_range": 2.0 / temperature,
    }
    logits = similarity.float() / temperature
    if scope == "batch":
        plan = sinkhorn(logits, distributed=True, **options)
    else:
        sizes = segment_count(batch, num_clouds).tolist()
        plan = torch.cat([sinkhorn(part, **options) for part in logits.split(sizes)])
    total = segment_sum(plan, batch, num_clouds)
    return plan / total.clamp(min=torch.finfo(plan.dtype).tiny)[batch]


def softmap_loss(
    target: Tensor,
    similarity: Tensor,
    batch: Tensor,
    num_clouds: int,
    temperature: float = 0.1,
) -> Tensor:
    """Return ``1/K sum_k KL(target(:, k) || softmap of the student(:, k))``.

    Args:
        target: (N, K) columns that sum to one over each cloud.
        similarity: (N, K) cosines of the student, row i matched to target row i.
        batch: (N,) cloud of every row.
        num_clouds: B; clouds without rows count as zero in the mean over clouds.
        temperature: of the student.

    Returns:
        A scalar, differentiable in ``similarity``; its gradient in the student's
        logits is ``(S - target) / (K B)``.

    Source: DOS, loss.
    """
    with torch.autocast(similarity.device.type, enabled=False):
        similarity = similarity.float() if similarity.dtype.itemsize < 4 else similarity
        target = target.to(similarity.dtype)
        log_map = log_softmap(similarity / temperature, batch, num_clouds)
        entropy = torch.special.entr(target).sum()
        cross_entropy = -(target * log_map).sum()
        return (cross_entropy - entropy) / (similarity.shape[1] * num_clouds)
