"""Space-filling curves: Pointcept's codes and the curves' own properties."""

import numpy as np
import pytest
import torch

from pointins_plugin.host.standalone.serialization import ORDERS, encode


def cube(depth):
    axis = torch.arange(1 << depth)
    return torch.cartesian_prod(axis, axis, axis)


@pytest.mark.parametrize("order", ORDERS)
def test_equals_pointcept(golden_dir, order):
    data = np.load(golden_dir / "serialization.npz")
    for name in sorted({key.split("/")[0] for key in data}):
        grid, batch = (
            torch.from_numpy(data[f"{name}/{part}"]) for part in ("grid_coord", "batch")
        )
        depth = int(name.removeprefix("depth"))
        code = encode(grid, batch, depth, order)
        np.testing.assert_array_equal(code.numpy(), data[f"{name}/{order}"], name)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("depth", [1, 3])
def test_a_curve_visits_every_cell_once(order, depth):
    code = encode(cube(depth), depth=depth, order=order)
    assert code.sort().values.tolist() == list(range(8**depth))


@pytest.mark.parametrize("order", ["hilbert", "hilbert-trans"])
def test_hilbert_steps_to_a_face_neighbour(order):
    grid = cube(4)
    walk = grid[encode(grid, depth=4, order=order).argsort()]
    assert (walk.diff(dim=0).abs().sum(1) == 1).all()


def test_z_by_hand():
    assert encode(torch.tensor([[1, 0, 1]]), depth=4).item() == 0b101
    assert encode(torch.tensor([[2, 1, 0]]), depth=4).item() == 0b100010
    assert encode(torch.tensor([[0, 1, 0]]), depth=4, order="z-trans").item() == 0b100


@pytest.mark.parametrize("order", ORDERS)
def test_the_largest_cell_and_cloud_keep_clear_of_the_sign(order):
    grid, batch = torch.full((1, 3), (1 << 16) - 1).int(), torch.tensor([1 << 14])
    code = encode(grid, batch, 16, order)
    assert code.item() >> 48 == 1 << 14


def test_clouds_come_before_cells():
    grid = torch.randint(1 << 5, (200, 3))
    batch = torch.arange(4).repeat_interleave(50)
    code = encode(grid, batch, 5, "hilbert")
    assert batch[code.argsort()].tolist() == batch.tolist()


def test_unknown_order():
    with pytest.raises(ValueError, match="spiral"):
        encode(torch.zeros(1, 3), order="spiral")
