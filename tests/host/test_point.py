"""Point: completion, serialization and shared neighbour maps."""

import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host.standalone.convolutions import SubMConv3d
from pointins_plugin.host.standalone.modules import PointModule, PointSequential
from pointins_plugin.host.standalone.point import (
    Point,
    batch2offset,
    offset2batch,
    offset2bincount,
)


def cloud(num=50, clouds=2, seed=0):
    torch.manual_seed(seed)
    coord = torch.rand(num * clouds, 3)
    return {
        "coord": coord,
        "feat": torch.randn(num * clouds, 4),
        "offset": torch.arange(1, clouds + 1) * num,
        "grid_size": 0.1,
    }


def test_offsets_batches_and_counts():
    offset = torch.tensor([2, 2, 5])
    assert offset2bincount(offset).tolist() == [2, 0, 3]
    assert offset2batch(offset).tolist() == [0, 0, 2, 2, 2]
    assert batch2offset(torch.tensor([0, 0, 2, 2, 2])).tolist() == [2, 2, 5]


def test_offset_and_batch_complete_each_other():
    assert Point(offset=torch.tensor([1, 3])).batch.tolist() == [0, 1, 1]
    assert Point(batch=torch.tensor([0, 1, 1])).offset.tolist() == [1, 3]
    alone = Point(coord=torch.rand(5, 3), grid_size=0.1)
    alone.serialization()
    assert alone.offset.tolist() == [5]


def test_grid_is_truncated_from_the_lowest_corner_of_the_batch():
    coord = torch.tensor([[1.0, 2.0, 3.0], [1.26, 2.0, 3.0], [1.0, 2.19, 3.31]])
    point = Point(coord=coord, offset=torch.tensor([2, 3]), grid_size=0.1)
    point.serialization()
    assert point.grid_coord.tolist() == [[0, 0, 0], [2, 0, 0], [0, 1, 3]]


def test_serialization_orders_and_inverts():
    point = Point(cloud())
    point.serialization(order=("z", "hilbert"))
    assert point.serialized_depth == 4
    assert point.serialized_order.shape == (2, 100)
    for code, order, inverse in zip(
        point.serialized_code,
        point.serialized_order,
        point.serialized_inverse,
        strict=True,
    ):
        assert (code[order].diff() >= 0).all()
        assert order[inverse].tolist() == list(range(100))
        assert (point.batch[order].diff() >= 0).all()


def test_points_of_one_cell_keep_their_order():
    point = Point(grid_coord=torch.zeros(20, 3).int(), offset=torch.tensor([20]))
    point.serialization(order=("hilbert",))
    assert point.serialized_order[0].tolist() == list(range(20))


def test_shuffled_orders_are_the_same_orders():
    plain, shuffled = Point(cloud()), Point(cloud())
    names = ("z", "z-trans", "hilbert", "hilbert-trans")
    plain.serialization(order=names)
    torch.manual_seed(3)
    shuffled.serialization(order=names, shuffle_orders=True)
    torch.manual_seed(3)
    permutation = torch.randperm(4)
    assert permutation.tolist() != [0, 1, 2, 3]
    assert shuffled.serialized_code.equal(plain.serialized_code[permutation])
    assert shuffled.serialized_inverse.equal(plain.serialized_inverse[permutation])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"coord": torch.rand(3, 3), "offset": torch.tensor([3])}, "grid_size"),
        ({"coord": torch.rand(0, 3), "grid_size": 1, "offset": [0]}, "no points"),
        ({"grid_coord": torch.tensor([[0, 0, 1 << 16]])}, "too large"),
    ],
)
def test_what_cannot_be_serialized(batch, message):
    if isinstance(batch.get("offset"), list):
        batch = batch | {"offset": torch.tensor(batch["offset"])}
    with pytest.raises(UserError, match=message):
        Point(batch).serialization()


def test_neighbour_maps_are_built_once_for_each_key():
    point = Point(cloud())
    point.sparsify()
    assert len(point.sparse_shape) == 3
    pairs = point.submanifold(3, "stage0")
    assert point.submanifold(3, "stage0") is pairs
    assert point.submanifold(5, "stage0") is not pairs
    assert point.submanifold(3, None) is not pairs


def test_sequential_gives_points_to_point_modules_and_features_to_others():
    class Stamp(PointModule):
        def forward(self, point):
            point.stamp = point.feat.shape[1]
            return point

    sequence = PointSequential(torch.nn.Linear(4, 6), stamp=Stamp())
    sequence.add(SubMConv3d(6, 2, indice_key="a"), name="conv")
    point = Point(cloud())
    point.sparsify()
    point = sequence(point)
    assert point.stamp == 6
    assert point.feat.shape == (100, 2)
    assert list(sequence.state_dict()) == [
        "0.weight",
        "0.bias",
        "conv.weight",
        "conv.bias",
    ]
    assert sequence[-1] is sequence.conv
    assert len(sequence) == 3
    with pytest.raises(KeyError, match="conv"):
        sequence.add(torch.nn.Identity(), name="conv")


def test_sequential_passes_tensors_through():
    assert PointSequential(torch.nn.Linear(4, 6))(torch.randn(5, 4)).shape == (5, 6)
