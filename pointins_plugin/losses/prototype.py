"""Balanced assignment to prototypes, and its cross-entropy: the loss of Sonata."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.losses.offset import mean_per_cloud
from pointins_plugin.ops.sinkhorn import sinkhorn


@torch.no_grad()
def prototype_target(
    similarity: Tensor, temperature: float, num_iters: int = 3
) -> Tensor:
    """Assign points to prototypes so that all prototypes are used equally.

    Rounds of {prototypes to equal mass, points to equal mass} on
    ``exp(similarity / temperature)``, over the points of all ranks.

    Args:
        similarity: (N, K) cosines of the teacher's features and prototypes.
        temperature: of the teacher.
        num_iters: rounds.

    Returns:
        (N, K) float32 assignment; rows sum to one.

    Source: Sonata (Pointcept ``Sonata-v1m1``), ``sinkhorn_knopp``.
    """
    plan = sinkhorn(
        similarity.float() / temperature,
        num_iters=num_iters,
        first="columns",
        log_range=2.0 / temperature,
        distributed=True,
    )
    # Every row's mass is one over the number of rows of all ranks.
    return plan.div_(plan.sum(dim=1, keepdim=True))


def prototype_loss(
    target: Tensor,
    similarity: Tensor,
    batch: Tensor,
    num_clouds: int,
    temperature: float = 0.1,
) -> Tensor:
    """Return the cross-entropy of the student's assignment: mean per cloud, then mean.

    Args:
        target: (N, K) rows that sum to one.
        similarity: (N, K) cosines of the student, row i matched to target row i.
        batch: (N,) cloud of every row.
        num_clouds: B; clouds without rows count as zero.
        temperature: of the student.

    Returns:
        A scalar, differentiable in ``similarity``; it starts at ``ln K``.

    Source: Sonata (Pointcept ``Sonata-v1m1``).
    """
    with torch.autocast(similarity.device.type, enabled=False):
        similarity = similarity.float() if similarity.dtype.itemsize < 4 else similarity
        target = target.to(similarity.dtype)
        values = F.cross_entropy(similarity / temperature, target, reduction="none")
        return mean_per_cloud(values, batch, num_clouds)
