"""Contrastive losses between the points of two views."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.host import LOSSES
from pointins_plugin.losses.checks import check_choice, check_counts
from pointins_plugin.ops.gather import first_generator, gather_rows

SCOPES = ("batch", "process")

# Elements of a similarity matrix that are formed at a time.
_CHUNK = 1 << 22
_CUDA_CHUNK = 1 << 27


def unit_vectors(feature: Tensor) -> Tensor:
    """Return features (N, C) of length one, at least float32; zero ones stay zero."""
    with torch.autocast(feature.device.type, enabled=False):
        feature = feature.float() if feature.dtype.itemsize < 4 else feature
        return F.normalize(feature, dim=1)


def matched_entries(
    pairs: Tensor, rows: Tensor, columns: Tensor, num_columns: int
) -> Tensor:
    """Find the matches in a matrix of some first points against some second ones.

    Args:
        pairs: (P, 2) all matches, as (first point, second point).
        rows: (R,) first points, in any order, repeated or not.
        columns: (K,) second points, each once.
        num_columns: number of second points there are.

    Returns:
        (E, 2) entries (row, column), sorted by row, where ``(rows[row],
        columns[column])`` is a match.
    """
    pairs = pairs[torch.argsort(pairs[:, 0])]
    first = pairs[:, 0].contiguous()
    begin = torch.searchsorted(first, rows.contiguous())
    count = torch.searchsorted(first, rows.contiguous(), right=True) - begin
    row = torch.repeat_interleave(count)
    before = torch.cumsum(count, 0) - count
    place = torch.arange(len(row), device=row.device) - before[row] + begin[row]
    position = columns.new_full((num_columns,), -1)
    position[columns] = torch.arange(len(columns), device=columns.device)
    column = position[pairs[place, 1]]
    return torch.stack([row, column], dim=1)[column >= 0]


@torch.no_grad()
def hardest_negative(query: Tensor, key: Tensor, matched: Tensor) -> Tensor:
    """Find for every query the most similar key that does not match it.

    Args:
        query: (R, C) unit vectors.
        key: (K, C) unit vectors.
        matched: (E, 2) entries (query, key) that match, sorted by query.

    Returns:
        (R,) long index into ``key``; -1 where every key matches. The matrix of
        similarities is never formed as a whole.
    """
    hardest = torch.full((len(query),), -1, dtype=torch.long, device=query.device)
    if not len(key):
        return hardest
    chunk = _CUDA_CHUNK if query.is_cuda else _CHUNK
    step = max(1, chunk // len(key))
    starts = torch.arange(0, len(query) + step, step, device=query.device)
    bounds = torch.searchsorted(matched[:, 0].contiguous(), starts).tolist()
    for place, start in enumerate(range(0, len(query), step)):
        similarity = query[start : start + step] @ key.t()
        row, column = matched[bounds[place] : bounds[place + 1]].unbind(1)
        similarity[row - start, column] = -torch.inf
        best, index = similarity.max(dim=1)
        hardest[start : start + step] = torch.where(best > -torch.inf, index, -1)
    return hardest


def hardest_contrastive(
    query: Tensor,
    key: Tensor,
    pairs: Tensor,
    chosen: Tensor,
    query_candidates: Tensor,
    key_candidates: Tensor,
    positive_margin: float = 0.1,
    negative_margin: float = 1.4,
) -> Tensor:
    """Pull matches within one margin, push the hardest others beyond another.

    With unit features and ``d`` their Euclidean distance, over chosen matches (i, j):
    ``mean [d(f_i, g_j) - m_p]+^2 + 1/2 mean [m_n - min_k d(f_i, g_k)]+^2 +
    1/2 mean [m_n - min_k d(f_k, g_j)]+^2``, where k runs over the candidates that do
    not match. A mean is taken over the matches that have such a candidate.

    Args:
        query, key: (N, C), (M, C) features of the two views.
        pairs: (P, 2) all matches.
        chosen: (R,) rows of ``pairs`` that take part.
        query_candidates, key_candidates: points of either view that may be negatives,
            each once.

    Returns:
        A scalar, differentiable in both; zero with a zero gradient without matches.

    Source: PointContrast (ECCV 2020), equation 1. The released code hinges the
    positive term on the squared distance, ``[d^2 - m_p]+``, and drops a match whose
    nearest candidate is one of its matches; here the next one is taken.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, key = unit_vectors(query), unit_vectors(key)
        first, second = pairs[chosen].unbind(1)
        anchor, partner = query[first], key[second]
        positive = (_distance(anchor, partner) - positive_margin).relu().square()
        total = positive.sum() / max(len(chosen), 1)
        sides = (
            (anchor, first, key, key_candidates, pairs),
            (partner, second, query, query_candidates, pairs.flip(1)),
        )
        for feature, points, others, candidates, matches in sides:
            matched = matched_entries(matches, points, candidates, len(others))
            negatives = others[candidates]
            index = hardest_negative(feature, negatives, matched)
            found = torch.nonzero(index >= 0)[:, 0]
            distance = _distance(feature[found], negatives[index[found]])
            hinge = (negative_margin - distance).relu().square()
            total = total + 0.5 * hinge.sum() / max(len(found), 1)
        return total


def whole_batch(
    query: Tensor,
    key: Tensor,
    pairs: Tensor,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor, torch.Generator | None]:
    """Join the points and matches of all processes; each must call it.

    Args:
        query, key: (N, C), (M, C) features of this process.
        pairs: (P, 2) matches of its points.
        generator: CPU generator; all draw from that of the first process.

    Returns:
        The arguments for the whole batch; on one process they themselves.
    """
    generator = first_generator(generator, query.device)
    query, own_query = gather_rows(query)
    key, own_key = gather_rows(key)
    pairs, _ = gather_rows(pairs + pairs.new_tensor([own_query.start, own_key.start]))
    return query, key, pairs, generator


def one_match_each(pairs: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Choose one match of every first point at random.

    Args:
        pairs: (P, 2) matches.
        generator: CPU generator.

    Returns:
        (Q,) rows of ``pairs``, by first point.
    """
    order = torch.randperm(len(pairs), generator=generator).to(pairs.device)
    order = order[torch.argsort(pairs[order, 0], stable=True)]
    first = pairs[order, 0]
    new = torch.ones_like(first, dtype=torch.bool)
    new[1:] = first[1:] != first[:-1]
    return order[new]


def point_info_nce(
    query: Tensor, key: Tensor, index: Tensor | None = None, temperature: float = 0.07
) -> Tensor:
    """Return the cross-entropy of telling a point's match from the others' matches.

    ``-mean_i log( exp(f_i.g_i / t) / sum_k exp(f_i.g_k / t) )`` on unit features.

    Args:
        query, key: (P, C) features, row i of one matched to row i of the other.
        index: (P,) which point a row of ``key`` is; rows of one point are no
            negatives of each other. None: all are different.
        temperature: t.

    Returns:
        A scalar, differentiable in both; zero with a zero gradient without rows.

    Source: PointContrast (ECCV 2020), equation 2; ``index`` is ours.
    """
    with torch.autocast(query.device.type, enabled=False):
        query, key = unit_vectors(query), unit_vectors(key)
        if not len(query):
            return query.sum() + key.sum()
        logits = query @ key.t() / temperature
        if index is not None:
            same = index[:, None] == index[None]
            logits = logits.masked_fill(same.fill_diagonal_(False), -torch.inf)
        label = torch.arange(len(query), device=query.device)
        return F.cross_entropy(logits, label)


@LOSSES.register_module()
class HardestContrastiveLoss(nn.Module):
    """PointContrast's hardest-contrastive loss.

    Args:
        positive_margin, negative_margin: m_p and m_n, distances of unit features.
        num_pairs: matches that take part, drawn at random; None takes all.
        num_negatives: points of either view that may be negatives, drawn at random;
            None takes all.
        scope: ``"batch"`` draws matches and negatives from the batch of all processes,
            so that their number changes nothing; ``"process"`` lets each draw its own
            from its share, as the released code does.
        loss_weight: factor of the result.

    Shapes:
        query (N, C), key (M, C) the features of all points of the first and of the
        second views of a batch; pairs (P, 2) long, all matches. Returns a scalar.

    Source: PointContrast (ECCV 2020), equation 1; see ``hardest_contrastive``.
    """

    def __init__(
        self,
        positive_margin: float = 0.1,
        negative_margin: float = 1.4,
        num_pairs: int | None = 4096,
        num_negatives: int | None = 2048,
        loss_weight: float = 1.0,
        scope: str = "batch",
    ):
        super().__init__()
        check_choice("scope", scope, SCOPES)
        check_counts(num_pairs=num_pairs, num_negatives=num_negatives)
        self.scope = scope
        if not 0 <= positive_margin < negative_margin:
            raise ValueError(
                "margins must be 0 <= positive_margin < negative_margin, found "
                f"{positive_margin} and {negative_margin}"
            )
        self.positive_margin = positive_margin
        self.negative_margin = negative_margin
        self.num_pairs = num_pairs
        self.num_negatives = num_negatives
        self.loss_weight = loss_weight

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        pairs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        if self.scope == "batch":
            query, key, pairs, generator = whole_batch(query, key, pairs, generator)
        chosen = _draw(len(pairs), self.num_pairs, pairs.device, generator)
        query_candidates = _draw(
            len(query), self.num_negatives, pairs.device, generator
        )
        key_candidates = _draw(len(key), self.num_negatives, pairs.device, generator)
        return self.loss_weight * hardest_contrastive(
            query,
            key,
            pairs,
            chosen,
            query_candidates,
            key_candidates,
            self.positive_margin,
            self.negative_margin,
        )


@LOSSES.register_module()
class PointInfoNCELoss(nn.Module):
    """PointContrast's PointInfoNCE loss.

    Every first point takes part with one of its matches; the other matched second
    points are its negatives.

    Args:
        temperature: of the softmax; the paper's best is .07, its scripts use .4.
        num_pairs: first points that take part, drawn at random; None takes all.
            Memory grows with its square.
        scope: ``"batch"`` draws matches and negatives from the batch of all processes,
            so that their number changes nothing; ``"process"`` lets each draw its own
            from its share, as the released code does.
        loss_weight: factor of the result.

    Shapes:
        query (N, C), key (M, C) the features of all points of the first and of the
        second views of a batch; pairs (P, 2) long, all matches. Returns a scalar.

    Source: PointContrast (ECCV 2020), equation 2; see ``point_info_nce``.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        num_pairs: int | None = 4096,
        loss_weight: float = 1.0,
        scope: str = "batch",
    ):
        super().__init__()
        check_choice("scope", scope, SCOPES)
        check_counts(num_pairs=num_pairs)
        self.scope = scope
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, found {temperature}")
        self.temperature = temperature
        self.num_pairs = num_pairs
        self.loss_weight = loss_weight

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        pairs: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        if self.scope == "batch":
            query, key, pairs, generator = whole_batch(query, key, pairs, generator)
        chosen = one_match_each(pairs, generator)
        chosen = chosen[_draw(len(chosen), self.num_pairs, chosen.device, generator)]
        first, second = pairs[chosen].unbind(1)
        return self.loss_weight * point_info_nce(
            query[first], key[second], second, self.temperature
        )


def _draw(
    count: int,
    wanted: int | None,
    device: torch.device,
    generator: torch.Generator | None,
) -> Tensor:
    """Return ``wanted`` different indices below ``count``, or all of them in order."""
    if wanted is None or wanted >= count:
        return torch.arange(count, device=device)
    return torch.randperm(count, generator=generator)[:wanted].to(device)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the distances (N,) of rows, with a gradient of zero where they meet."""
    return torch.linalg.vector_norm(a - b, dim=1)
