"""Shapes of rooms: "all" is what it was, "seen" and "held_out" share none."""

from collections import defaultdict

import numpy as np
import pytest

from pointins_plugin.datasets.room_layout import CLASSES, THINGS, furnish
from pointins_plugin.datasets.room_shapes import RANGES, STYLES, Shapes
from pointins_plugin.datasets.rooms import RoomsDataset, make_room, write_rooms
from pointins_plugin.datasets.solids import ELLIPSOID
from pointins_plugin.errors import UserError
from pointins_plugin.study.ladder import Ladder, Unit

SPLIT = ("seen", "held_out")


@pytest.fixture(scope="module")
def furnished():
    return {
        name: [
            furnish(np.random.default_rng([9, seed]), Shapes(name))
            for seed in range(30)
        ]
        for name in ("all", *SPLIT)
    }


def objects(rooms):
    """Yield class, shape and solids (their rows) of every object."""
    for room in rooms:
        assert len(room.shapes) == room.instance.max() + 1
        for number, shape in enumerate(room.shapes):
            rows = np.flatnonzero(room.instance == number)
            yield CLASSES[room.label[rows[0]]], shape, room.solids, rows


def traits(rooms):
    """Return the values of every trait that occurs."""
    found = defaultdict(set)
    for _, shape, _, _ in objects(rooms):
        for trait, value in shape.items():
            found[trait].add(value)
    return found


@pytest.mark.parametrize(
    ("split", "solids", "objects", "total", "points"),
    [
        ("train", 536, 68, 4624.227830342801, 55903),
        ("val", 344, 46, 3139.0116765984612, 50298),
        ("test", 276, 47, 2007.3327613687602, 56608),
    ],
)
def test_all_shapes_are_the_rooms_of_published_numbers(
    split, solids, objects, total, points
):
    """Sums, and points but for a thousandth: the last bits are a machine's."""
    room = furnished_as_by_make_room(split)
    assert (len(room.solids), room.instance.max() + 1) == (solids, objects)
    assert measure(room) == pytest.approx(total, rel=1e-9)
    assert len(make_room(split, 0)["coord"]) == pytest.approx(points, rel=1e-3)


def furnished_as_by_make_room(split):
    number = ("train", "val", "test").index(split)
    return furnish(
        np.random.default_rng(np.random.SeedSequence([0, number, 0]).spawn(1)[0])
    )


def measure(room):
    """Return one number that any solid's place, size and colour changes."""
    solids = room.solids
    return np.sum(solids.centre**2) + np.sum(solids.half) + np.sum(solids.color) / 255


def test_nothing_of_one_is_in_the_other(furnished):
    seen, held_out = (traits(furnished[name]) for name in SPLIT)
    assert seen.keys() == held_out.keys() == {*STYLES, *RANGES}
    for trait, (mine, others) in STYLES.items():
        assert seen[trait] == set(mine), trait
        assert held_out[trait] == set(others), trait
    for trait, (mine, others) in RANGES.items():
        spans = sorted((tuple(mine), tuple(others)))
        assert spans[0][1] < spans[1][0], trait
        for found, (low, high) in ((seen, mine), (held_out, others)):
            assert low <= min(found[trait]) <= max(found[trait]) <= high, trait


def test_all_is_both_together():
    for trait, (mine, others) in STYLES.items():
        for style in (*mine, *others):
            assert Shapes().style(trait, style) == style
            assert Shapes("seen").style(trait, style) in mine
            assert Shapes("held_out").style(trait, style) in others
    for trait, spans in RANGES.items():
        low, high = Shapes().span(trait)
        assert (low, high) == (np.min(spans), np.max(spans))
        assert (Shapes("seen").span(trait), Shapes("held_out").span(trait)) == spans


@pytest.mark.parametrize("name", SPLIT)
def test_every_class_is_there_and_every_object_has_a_shape(furnished, name):
    kinds = set()
    for kind, shape, _, _ in objects(furnished[name]):
        assert shape, kind
        kinds.add(kind)
    assert kinds == set(THINGS)
    count = [room.instance.max() + 1 for room in furnished[name]]
    usual = [room.instance.max() + 1 for room in furnished["all"]]
    assert np.mean(count) > 0.7 * np.mean(usual)


def test_shapes_differ_where_they_are_measured(furnished):
    """Of the solids themselves, whatever the furniture says of its style."""
    found = {}
    for name in SPLIT:
        found[name] = measured = defaultdict(list)
        for kind, _, solids, rows in objects(furnished[name]):
            size = 2 * solids.half[rows]
            if kind == "box":
                lift = solids.centre[rows, 2]
                tall = (lift + size[:, 2] / 2).max() - (lift - size[:, 2] / 2).min()
                measured[kind].append(tall / size[:, :2].max(0).min())
            elif kind == "cushion":
                thickness, side, _ = np.sort(size[0])
                measured[kind].append(-thickness / side)
            elif kind == "lamp":
                measured[kind].append(solids.taper[rows[-1]].min())
                if len(rows) == 3 and solids.half[rows, 2].sum() < 0.4:  # on a table
                    measured["body"].append((solids.kind[rows] != ELLIPSOID).all())
    for kind, border in (("box", 1.005), ("cushion", -0.29), ("lamp", 0.775)):
        assert max(found["seen"][kind]) < border < min(found["held_out"][kind])
    assert not any(found["seen"]["body"])
    assert all(found["held_out"]["body"])


@pytest.mark.parametrize("name", ["all", *SPLIT])
def test_dataset_and_files_take_shapes(name, tmp_path):
    made = make_room("val", 1, shapes=name)
    read = RoomsDataset("val", num_scenes=2, shapes=name).get_data(1)
    np.testing.assert_array_equal(read["coord"], made["coord"])
    folder = write_rooms(tmp_path, "val", 2, shapes=name)[1]
    np.testing.assert_array_equal(np.load(folder / "coord.npy"), made["coord"])
    same = np.array_equal(made["coord"], make_room("val", 1)["coord"])
    assert same == (name == "all")


@pytest.mark.parametrize(
    "build", [lambda name: RoomsDataset(shapes=name), lambda name: Shapes(name)]
)
def test_an_unknown_name_is_refused_in_a_line(build):
    with pytest.raises(UserError, match="'heldout'; use all, seen, held_out") as error:
        build("heldout")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", ["small", "quick", "large"])
def test_the_study_tests_on_shapes_that_no_stage_trains_on(size):
    ladder = Ladder.read()
    for row in ("scratch", "dos", "pointins-spatial"):
        unit = Unit("rooms", ladder.rows[row], 0)
        for stage in unit.stages():
            data = ladder.config(unit, stage, size).data
            assert (data.train.shapes, data.val.shapes) == SPLIT
            assert (
                "shapes"
                not in ladder.config(Unit("mosd", unit.row, 0), stage, size).data.val
            )
