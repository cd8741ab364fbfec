"""Tokens: strides, up-casting, cells and block masks."""

import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import Point
from pointins_plugin.models.tokens import (
    backbone_tokens,
    block_mask,
    cell_tokens,
    cube_mask,
    grid_coordinates,
    input_to_token,
    pool_cells,
    token_stride,
    up_cast,
)


def test_token_stride():
    assert token_stride((2, 2, 2, 2), 2) == 4
    assert token_stride((2, 3), 1) == 2
    assert token_stride((2, 2), 2) == 1
    assert token_stride((), 0) == 1
    with pytest.raises(ValueError, match="up_cast_level"):
        token_stride((2, 2), 3)


def pyramid():
    """Four points pooled in pairs, then all together."""
    fine = Point(
        coord=torch.tensor([[0.0, 0, 0], [1, 0, 0], [10, 0, 0], [11, 0, 0]]),
        feat=torch.arange(4.0)[:, None],
        offset=torch.tensor([4]),
    )
    middle = Point(
        coord=torch.tensor([[0.5, 0, 0], [10.5, 0, 0]]),
        feat=torch.tensor([[10.0], [20.0]]),
        offset=torch.tensor([2]),
        pooling_parent=fine,
        pooling_inverse=torch.tensor([0, 0, 1, 1]),
    )
    return Point(
        coord=torch.tensor([[5.5, 0, 0]]),
        feat=torch.tensor([[100.0]]),
        offset=torch.tensor([1]),
        pooling_parent=middle,
        pooling_inverse=torch.tensor([0, 0]),
    )


def test_up_cast_concatenates_finest_first():
    tokens, relative = up_cast(pyramid(), 2, pitch=0.5)
    expected = [[0.0, 10, 100], [1, 10, 100], [2, 20, 100], [3, 20, 100]]
    assert tokens.feat.tolist() == expected
    # the first point is .5 m from its pair's centre and 5.5 m from the cloud's
    assert relative[0].tolist() == [1.0, 0, 0, 11.0, 0, 0]
    assert relative[3].tolist() == [-1.0, 0, 0, -11.0, 0, 0]


def test_partial_up_cast_maps_inputs_to_tokens():
    tokens, relative = up_cast(pyramid(), 1)
    assert tokens.feat.tolist() == [[10.0, 100], [20, 100]]
    assert relative.tolist() == [[5.0, 0, 0], [-5.0, 0, 0]]
    assert input_to_token(tokens).tolist() == [0, 0, 1, 1]
    none, relative = up_cast(pyramid(), 0)
    assert relative.shape == (1, 0)
    assert input_to_token(none).tolist() == [0, 0, 0, 0]


def test_up_cast_past_the_input_is_refused():
    with pytest.raises(ValueError, match="traceable=True"):
        up_cast(pyramid(), 3)


def test_grid_starts_at_zero_in_every_cloud():
    coord = torch.tensor([[5.0, 5, 5], [5.25, 5, 5], [-3, 0, 1], [-3, 0.1, 1.31]])
    grid = grid_coordinates(coord, torch.tensor([2, 4]), 0.1)
    assert grid.tolist() == [[0, 0, 0], [2, 0, 0], [0, 0, 0], [0, 1, 3]]


def cloud(n=3000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 40, (n, 3), generator=generator)


@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_masks_whole_blocks_of_about_the_share_asked(ratio):
    grid, offset = cloud(), torch.tensor([1000, 3000])
    masked = block_mask(
        grid, offset, stride=2, edge=3, ratio=ratio, generator=torch.Generator()
    )
    assert masked.float().mean() == pytest.approx(ratio, abs=0.06)
    # every token (2 x 2 x 2 cells) is masked as a whole
    batch = torch.arange(3000) >= 1000
    token = torch.cat([batch[:, None], grid // 2], dim=1)
    _, owner = torch.unique(token, dim=0, return_inverse=True)
    total = torch.bincount(owner)
    inside = torch.bincount(owner, weights=masked.double())
    assert ((inside == 0) | (inside == total)).all()


def test_something_stays_visible_in_every_cloud():
    grid = torch.zeros(4, 3, dtype=torch.long)
    grid[2:, 0] = 30
    masked = block_mask(grid, torch.tensor([1, 4]), stride=1, edge=4, ratio=1.0)
    assert not masked[0]
    assert masked[1:].sum() in (1, 2)


def test_mask_follows_its_generator():
    runs = [
        block_mask(
            cloud(),
            torch.tensor([3000]),
            stride=1,
            edge=4,
            ratio=0.5,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (0, 0, 1)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


class PerPoint(torch.nn.Module):
    """A backbone that returns a feature for every point, as sparse U-Nets do."""

    def forward(self, point):
        return 2 * point["feat"]


def flat_points():
    """Four clouds of cells along x, of which the second and the last are empty."""
    cells = torch.tensor([0, 1, 2, 5, 3, 0, 7, 6])
    coord = torch.stack([cells * 0.1, 0.0 * cells, 0.0 * cells], 1)
    return {
        "coord": coord,
        "origin_coord": coord + 1,
        "feat": torch.arange(8.0)[:, None],
        "grid_coord": torch.stack([cells, 0 * cells, 0 * cells], 1),
        "offset": torch.tensor([5, 5, 8, 8]),
    }


def test_point_features_are_averaged_to_tokens():
    tokens, relative = backbone_tokens(PerPoint(), Point(flat_points()), 0, pool=2)
    assert tokens.grid_coord[:, 0].tolist() == [0, 1, 2, 0, 3]
    assert tokens.batch.tolist() == [0, 0, 0, 2, 2]
    assert tokens.offset.tolist() == [3, 3, 5, 5]
    assert tokens.feat[:, 0].tolist() == [1.0, 12.0 / 2, 6.0, 10.0, 13.0]
    torch.testing.assert_close(
        tokens.coord[:, 0], torch.tensor([0.05, 0.25, 0.5, 0.0, 0.65])
    )
    torch.testing.assert_close(tokens.origin_coord, tokens.coord + 1)
    assert input_to_token(tokens).tolist() == [0, 0, 1, 2, 1, 3, 4, 4]
    assert relative.shape == (5, 0)


class Linear(torch.nn.Module):
    """A backbone that fails by itself on features that it was not built for."""

    def __init__(self, channels):
        super().__init__()
        self.embedding = torch.nn.Linear(channels, 2)
        self.embedding.in_channels = channels

    def forward(self, point):
        return self.embedding(point.feat)


def test_features_of_another_number_are_told():
    with pytest.raises(UserError, match=r"feat has 1 channels.*built for 6"):
        backbone_tokens(Linear(6), Point(flat_points()), 0)
    backbone = Linear(6)
    backbone.embedding.in_channels = 1  # as it should be: what failed is not this
    with pytest.raises(RuntimeError, match="mat1"):
        backbone_tokens(backbone, Point(flat_points()), 0)


def test_one_cell_a_token_changes_nothing():
    point = Point(flat_points())
    assert pool_cells(point, 1) is point
    tokens, _ = backbone_tokens(PerPoint(), point, 0)
    assert tokens.feat[:, 0].tolist() == [0.0, 2, 4, 6, 8, 10, 12, 14]
    assert input_to_token(tokens).tolist() == list(range(8))


def test_pooled_tokens_are_those_that_blocks_mask_as_a_whole():
    cells = torch.randint(0, 40, (600, 3), generator=torch.Generator().manual_seed(0))
    offset = torch.tensor([300, 600])
    point = {"coord": cells * 0.1, "feat": cells.float(), "grid_coord": cells}
    tokens, _ = backbone_tokens(PerPoint(), Point({**point, "offset": offset}), 0, 1, 4)
    mask = block_mask(cells, offset, stride=4, edge=2, ratio=0.5)
    masked = torch.zeros(len(tokens.coord)).index_add_(
        0, input_to_token(tokens), mask.float()
    )
    count = torch.bincount(input_to_token(tokens))
    assert ((masked == 0) | (masked == count)).all()
    assert 0 < mask.sum() < 600


def test_all_pools_may_be_undone():
    tokens, relative = up_cast(pyramid(), None)
    expected, _ = up_cast(pyramid(), 2)
    assert tokens.feat.tolist() == expected.feat.tolist()
    assert relative.shape == (4, 6)


def test_clouds_may_share_a_grid():
    coord = torch.tensor([[5.0, 5, 5], [5.25, 5, 5], [-3, 0, 1]])
    grid = grid_coordinates(coord, torch.tensor([2, 3]), 0.5, shared=True)
    assert grid.tolist() == [[16, 10, 8], [16, 10, 8], [0, 0, 0]]


def test_cubes_are_tokens_in_metres():
    coord = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.3, 0, 0], [0.0, 0, 0]])
    feat = torch.tensor([[1.0], [3.0], [5.0], [7.0]])
    tokens, owner = cell_tokens(coord, feat, torch.tensor([3, 4]), 0.2)
    assert owner.tolist() == [0, 0, 1, 2]
    assert tokens.feat[:, 0].tolist() == [2.0, 5.0, 7.0]
    assert tokens.offset.tolist() == [2, 3]
    torch.testing.assert_close(tokens.coord[0], torch.tensor([0.05, 0, 0]))


@pytest.mark.parametrize("ratio", [0.0, 0.4, 1.0])
def test_cubes_are_masked_as_a_whole(ratio):
    coord = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * 4
    offset = torch.tensor([1500, 4000])
    masked = cube_mask(coord, offset, 0.5, ratio, torch.Generator().manual_seed(1))
    batch = (torch.arange(4000) >= 1500).long()
    cells = grid_coordinates(coord, offset, 0.5)
    cube = torch.cat([batch[:, None], cells], 1)
    _, owner = torch.unique(cube, dim=0, return_inverse=True)
    total = torch.bincount(owner)
    inside = torch.bincount(owner, weights=masked.double())
    assert ((inside == 0) | (inside == total)).all()
    assert int((inside > 0).sum()) == int(len(total) * ratio)
