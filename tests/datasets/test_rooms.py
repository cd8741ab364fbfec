"""Rooms: repeatable, honest geometry, partial views, consistent labels."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pointins_plugin.datasets import ray_cast
from pointins_plugin.datasets.ray_cast import cast, surface
from pointins_plugin.datasets.room_layout import CLASSES, STUFF, furnish, inside
from pointins_plugin.datasets.room_scan import scan, spread_rays, thin
from pointins_plugin.datasets.room_shapes import SHAPES, Shapes
from pointins_plugin.datasets.rooms import RoomsDataset, make_room, write_rooms
from pointins_plugin.datasets.solids import (
    BOX,
    ELLIPSOID,
    FRUSTUM,
    Maker,
    align_z,
    footprints,
    overlaps,
    tilt_matrix,
)
from pointins_plugin.errors import UserError
from pointins_plugin.host import DefaultDataset


@pytest.fixture(scope="module", params=SHAPES)
def rooms(request):
    shapes = Shapes(request.param)
    return [furnish(np.random.default_rng([7, seed]), shapes) for seed in range(6)]


@pytest.fixture(scope="module")
def scans(rooms):
    return [
        scan(room, np.random.default_rng([8, seed])) for seed, room in enumerate(rooms)
    ]


def depth_inside(solids, points, shrink=0.0):
    """Return (points, solids): is the point inside the sharp-edged solid?"""
    out = np.zeros((len(points), len(solids)), bool)
    for i in range(len(solids)):
        local = (points - solids.centre[i]) @ solids.rotation[i]
        half = solids.half[i] - shrink
        if (half <= 0).any():
            continue
        unit = local / half
        if solids.kind[i] == BOX:
            out[:, i] = (np.abs(unit) < 1).all(1)
        elif solids.kind[i] == ELLIPSOID:
            out[:, i] = (unit**2).sum(1) < 1
        else:
            lower, upper = solids.taper[i]
            radius = lower + (upper - lower) * (unit[:, 2] + 1) / 2
            out[:, i] = (np.hypot(*unit[:, :2].T) < radius) & (np.abs(unit[:, 2]) < 1)
    return out


def some_solids(rng, count=60):
    make = Maker()
    for _ in range(count):
        centre = rng.uniform(-3, 3, 3)
        centre *= max(1, 1.2 / np.linalg.norm(centre))
        draw = rng.integers(3)
        if draw == 0:
            yaw, tilt = rng.uniform(0, 6), rng.choice([0, rng.uniform(-1, 1)])
            make.box(centre, rng.uniform(0.05, 0.7, 3), (1, 1, 1), yaw=yaw, tilt=tilt)
        elif draw == 1:
            axis = rng.normal(0, 1, 3) if rng.random() < 0.5 else np.array([0, 0, 0.6])
            a, b = rng.uniform(0.02, 0.3, 2)
            make.pole(centre, centre + axis * 0.5, a, (1, 1, 1), b)
        else:
            turn = align_z(rng.normal(0, 1, 3))
            make.ball(centre, rng.uniform(0.05, 0.4, 3), (1, 1, 1), turn)
    return make.build()


# --- rays


@pytest.mark.parametrize("seed", range(4))
def test_window_of_a_solid_leaves_no_ray_out(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    solids, rays = some_solids(rng), spread_rays(rng, np.radians(4))
    view = rng.uniform(-0.2, 0.2, 3)
    expected = cast(solids, view, rays, 5.0)

    def every_pair(solids, view, rays):
        solid, ray = np.indices((len(solids), len(rays.direction)))
        return solid.reshape(-1), ray.reshape(-1)

    monkeypatch.setattr(ray_cast, "candidates", every_pair)
    brute = cast(solids, view, rays, 5.0)
    np.testing.assert_array_equal(expected[0], brute[0])
    np.testing.assert_array_equal(expected[1], brute[1])
    assert (brute[0] >= 0).mean() > 0.1


@pytest.mark.parametrize("seed", range(4))
def test_a_ray_stops_where_it_enters_its_solid(seed):
    rng = np.random.default_rng(seed)
    solids, rays = some_solids(rng), spread_rays(rng, np.radians(4))
    view = np.array([0.1, 0.0, -0.1])
    outside = ~depth_inside(solids, view[None])[0]
    which, distance = cast(solids, view, rays, 5.0)
    met = np.flatnonzero(which >= 0)
    met = met[outside[which[met]]]
    after = view + rays.direction[met] * (distance[met, None] + 1e-3)
    assert depth_inside(solids, after)[np.arange(len(met)), which[met]].mean() > 0.98
    open_solids = np.flatnonzero(outside)
    for share in (0.2, 0.6, 0.9, 0.999):
        way = view + rays.direction[met] * (distance[met, None] * share - 1e-4)
        assert not depth_inside(solids, way, shrink=1e-4)[:, open_solids].any()


def test_distances_by_hand():
    make = Maker()
    make.slab((2, -1, -1), (3, 1, 1), (1, 1, 1))
    make.ball((0, 4, 0), (1, 1, 1), (1, 1, 1))
    make.pole((-3, 0, -1), (-3, 0, 1), 0.5, (1, 1, 1))
    make.pole((0, -3, -1), (0, -3, 1), 1.0, (1, 1, 1), 0.0)  # a cone, half wide at 0
    solids = make.build()
    rays = spread_rays(np.random.default_rng(0), np.radians(30))
    axes = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]], np.float32)
    rays.direction[:] = (0, 0, -1)
    # the row around elevation 0 holds these directions
    middle = int(np.flatnonzero((rays.low <= 0) & (rays.high > 0))[0])
    for axis in axes:
        azimuth = np.arctan2(axis[1], axis[0]) % (2 * np.pi)
        place = int(azimuth / (2 * np.pi) * rays.counts[middle])
        rays.direction[rays.starts[middle] + place] = axis
    which, distance = cast(solids, np.zeros(3), rays, 5.0)
    found = dict(zip(which[which >= 0], distance[which >= 0], strict=True))
    assert found == pytest.approx({0: 2.0, 1: 3.0, 2: 2.5, 3: 2.5}, abs=1e-5)


def test_rays_share_the_sphere_equally():
    rays = spread_rays(np.random.default_rng(0), np.radians(1.5))
    np.testing.assert_allclose(np.linalg.norm(rays.direction, axis=1), 1, atol=1e-6)
    sine = rays.direction[:, 2]
    bands = np.histogram(sine, np.linspace(-0.95, 0.25, 13))[0]
    assert bands.std() / bands.mean() < 0.05
    quadrants = np.histogram(
        np.arctan2(rays.direction[:, 1], rays.direction[:, 0]), 8, (-np.pi, np.pi)
    )[0]
    assert quadrants.std() / quadrants.mean() < 0.02


def test_a_box_leaves_its_shadow_on_the_wall():
    make = Maker()
    make.slab((2.0, -3, -1), (2.1, 3, 2), (1, 1, 1))  # the wall
    make.slab((1.0, -0.2, -0.2), (1.2, 0.2, 0.2), (1, 1, 1))  # in front of it
    rays = spread_rays(np.random.default_rng(0), np.radians(1))
    which, distance = cast(make.build(), np.zeros(3), rays, 5.0)
    wall = distance[which == 0, None] * rays.direction[which == 0]
    # rays past the box's front edges widen the shadow to 2 / 1 x .2
    shaded = (np.abs(wall[:, 1]) < 0.395) & (np.abs(wall[:, 2]) < 0.395)
    around = (np.abs(wall[:, 1]) < 0.5) & (np.abs(wall[:, 2]) < 0.5)
    assert not shaded.any()
    assert around.sum() > 20
    box = distance[which == 1, None] * rays.direction[which == 1]
    np.testing.assert_allclose(box[:, 0], 1.0, atol=1e-5)  # its back is never seen


def test_rounded_edges_and_normals():
    make = Maker()
    make.box((0, 0, 0), (2, 2, 2), (1, 1, 1), rounding=0.5)
    make.ball((5, 0, 0), (1, 1, 1), (1, 1, 1))
    make.pole((0, 5, -1), (0, 5, 1), 1.0, (1, 1, 1), 0.5)
    solids = make.build()
    points = np.array(
        [[1, 0.2, 0], [1, 1, 0], [5, 0.6, 0.8], [0, 5.75, 0], [0, 5.1, 1]]
    )
    which = np.array([0, 0, 1, 2, 2])
    coord, normal, _ = surface(solids, which, points)
    np.testing.assert_allclose(coord[0], points[0])
    edge = 0.5 + 0.5 * np.sqrt(0.5)
    np.testing.assert_allclose(coord[1], [edge, edge, 0], atol=1e-9)
    slope = np.array([0, 1, 0.25]) / np.hypot(1, 0.25)  # radius falls .5 over 2 m
    expected = [[1, 0, 0], [0.5**0.5, 0.5**0.5, 0], [0, 0.6, 0.8], slope, [0, 0, 1]]
    np.testing.assert_allclose(normal, expected, atol=1e-9)


def test_thinning_keeps_the_first_point_of_each_voxel():
    coord = np.array([[0.01, 0, 0], [0.09, 0, 0], [0.11, 0, 0], [-0.01, 0, 0]])
    assert sorted(thin(coord, 0.1, np.array([1, 0, 2, 3]))) == [1, 2, 3]
    assert sorted(thin(coord, 0.1, np.array([0, 1, 2, 3]))) == [0, 2, 3]


# --- footprints


def test_overlap_of_footprints_by_hand():
    def one(**kw):
        return footprints(Maker().box(**{"color": (1, 1, 1), **kw}).build())

    base = one(centre=(0, 0, 0.5), size=(1, 1, 1))
    assert not overlaps(base, one(centre=(1.0, 0, 0.5), size=(1, 1, 1))).any()  # touch
    assert overlaps(base, one(centre=(0.99, 0, 0.5), size=(1, 1, 1))).all()
    assert not overlaps(base, one(centre=(0, 0, 1.5), size=(1, 1, 1))).any()  # on top
    turned = one(centre=(1.1, 0, 0.5), size=(1, 1, 1), yaw=np.pi / 4)
    assert overlaps(base, turned).all()
    turned = one(centre=(0.95, 0.95, 0.5), size=(1, 1, 1), yaw=np.pi / 4)
    assert not overlaps(base, turned).any()  # the bounding boxes do overlap
    disc = footprints(Maker().pole((1.1, 0, 0), (1.1, 0, 1), 0.59, (1, 1, 1)).build())
    assert not overlaps(base, disc).any()
    disc = footprints(Maker().pole((1.1, 0, 0), (1.1, 0, 1), 0.62, (1, 1, 1)).build())
    assert overlaps(base, disc).all()


def test_footprint_holds_its_solid():
    rng = np.random.default_rng(3)
    solids = some_solids(rng, 80)
    prisms = footprints(solids)
    points = rng.uniform(-4, 4, (40_000, 3))
    member = depth_inside(solids, points)
    for i in range(len(solids)):
        mine = points[member[:, i]]
        for point in mine[:20]:
            assert prisms.distance(point[:2])[i] < 1e-9
        assert (mine[:, 2] >= prisms.low[i]).all()
        assert (mine[:, 2] <= prisms.high[i]).all()


def test_tilt_leans_backwards():
    assert (tilt_matrix(0.2) @ [0, 0, 1])[1] < 0


# --- rooms


def test_objects_do_not_cut_into_each_other(rooms):
    rng = np.random.default_rng(0)
    for room in rooms:
        solids = room.solids
        reach = 1.05 * solids.half[:, None] * rng.uniform(-1, 1, (len(solids), 60, 3))
        points = np.einsum("nij,npj->npi", solids.rotation, reach)
        points = (points + solids.centre[:, None]).reshape(-1, 3)
        member = depth_inside(solids, points, shrink=0.004)
        owners = np.full(member.shape[0], -1)
        for i in range(len(solids)):
            if room.instance[i] < 0 and CLASSES[room.label[i]] != "wall":
                continue
            mine = member[:, i]
            clash = mine & (owners >= 0) & (owners != room.instance[i] + 1)
            assert not clash.any(), CLASSES[room.label[i]]
            owners[mine] = room.instance[i] + 1


def test_every_object_stands_on_something(rooms):
    for room in rooms:
        prisms = footprints(room.solids)
        for number in range(room.instance.max() + 1):
            mine = np.flatnonzero(room.instance == number)
            low = prisms.low[mine].min()
            if abs(low) < 0.01:
                continue
            foot = mine[prisms.low[mine] < low + 0.01]
            tops = np.flatnonzero(
                (np.abs(prisms.high - low) < 0.012) & (room.instance != number)
            )
            gaps = [prisms.distance(prisms.centre[i])[tops].min() for i in foot]
            assert min(gaps) < 0.1, CLASSES[room.label[mine[0]]]


def test_furniture_is_inside_the_walls(rooms):
    for room in rooms:
        thing = room.instance >= 0
        assert inside(room.outline, room.solids.centre[thing, :2]).all()
        assert room.solids.centre[thing, 2].max() < room.height


def test_rooms_are_lived_in(rooms):
    count = [room.instance.max() + 1 for room in rooms]
    assert min(count) >= 6
    assert max(count) <= 120
    kinds = {CLASSES[label] for room in rooms for label in room.label}
    assert {"table", "chair", "shelf", "box", "lamp", "door", "window"} <= kinds


# --- scans


def test_labels_agree(scans):
    for data in scans:
        stuff = data["segment"] < len(STUFF)
        np.testing.assert_array_equal(stuff, data["instance"] == -1)
        ids = np.unique(data["instance"][~stuff])
        np.testing.assert_array_equal(ids, np.arange(len(ids)))
        for one in ids:
            mine = data["instance"] == one
            assert len(np.unique(data["segment"][mine])) == 1
            assert mine.sum() >= 10


def test_normals_are_unit_and_face_their_viewpoint(scans):
    for data in scans:
        np.testing.assert_allclose(np.linalg.norm(data["normal"], axis=1), 1, atol=1e-5)
        to = data["viewpoints"][data["viewpoint"]] - data["coord"]
        to /= np.linalg.norm(to, axis=1, keepdims=True)
        assert (data["normal"] * to).sum(1).min() > -1e-3


def test_points_lie_in_the_room(rooms, scans):
    for room, data in zip(rooms, scans, strict=True):
        low, high = room.outline.min(0) - 0.3, room.outline.max(0) + 0.3
        assert (data["coord"][:, :2] > low).all()
        assert (data["coord"][:, :2] < high).all()
        assert data["coord"][:, 2].min() > -0.15
        assert data["coord"][:, 2].max() < room.height + 0.15
        floor = data["segment"] == CLASSES.index("floor")
        assert abs(np.median(data["coord"][floor, 2])) < 0.01
        assert 15_000 < len(data["coord"]) < 90_000
        assert data["color"].min() >= 0
        assert data["color"].max() <= 255
        up = data["normal"][floor, 2]
        assert np.median(up) > 0.98


def test_one_point_a_voxel(scans):
    for data in scans:
        cell = np.floor(data["coord"].astype(np.float64) / 0.025).astype(int)
        # float32 may move a point over its voxel's border
        assert len(np.unique(cell, axis=0)) > 0.999 * len(cell)


def test_instances_touch_as_in_real_rooms(scans):
    touching = 0
    for data in scans:
        thing = data["instance"] >= 0
        coord, instance = data["coord"][thing], data["instance"][thing]
        for i, j in cKDTree(coord).query_pairs(0.04, output_type="ndarray")[::7]:
            touching += instance[i] != instance[j]
    assert touching > 50


def test_backs_at_the_wall_are_not_seen(rooms):
    seen = hidden = 0
    for room in rooms:
        data = scan(room, np.random.default_rng(0), noise=0.0)
        for number in range(room.instance.max() + 1):
            mine = np.flatnonzero(room.instance == number)
            if CLASSES[room.label[mine[0]]] != "cabinet":
                continue
            body = mine[room.solids.half[mine].prod(1).argmax()]
            centre, turn = room.solids.centre[body], room.solids.rotation[body]
            half = room.solids.half[body]
            local = (data["coord"] - centre) @ turn
            on = (np.abs(local) < half + 0.002).all(1)
            hidden += (on & (np.abs(local[:, 1] + half[1]) < 0.004)).sum()
            seen += on.sum()
    assert seen > 200
    assert hidden < 0.1 * seen


def test_noise_grows_with_range(rooms):
    clean, noisy = (
        scan(rooms[0], np.random.default_rng(5), noise=amount, voxel=0, min_points=0)
        for amount in (0.0, 1.0)
    )
    views = clean["viewpoints"][clean["viewpoint"]]
    away = np.linalg.norm(clean["coord"] - views, axis=1)
    error = np.linalg.norm(noisy["coord"] - clean["coord"], axis=1)
    for low, high in ((0.8, 1.2), (1.8, 2.2), (2.8, 3.2)):
        mine = (away > low) & (away < high)
        expected = 0.0015 + 0.0008 * away[mine] ** 2
        ratio = error[mine].std() / expected.mean()
        assert np.sqrt((error[mine] ** 2).mean()) == pytest.approx(
            np.sqrt((expected**2).mean()), rel=0.1
        ), ratio


def test_density_falls_with_range(rooms):
    data = scan(rooms[0], np.random.default_rng(5), num_viewpoints=1, voxel=0, noise=0)
    view = data["viewpoints"][0]
    floor = data["segment"] == CLASSES.index("floor")
    across = np.linalg.norm(data["coord"][floor, :2] - view[:2], axis=1)
    near, far = ((across > a) & (across < a + 0.2) for a in (0.3, 1.6))
    ring = [(a + 0.2) ** 2 - a**2 for a in (0.3, 1.6)]
    assert near.sum() / ring[0] > 1.5 * far.sum() / ring[1]


# --- the data set


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_same_seed_same_room_and_nothing_else():
    room = make_room("train", 3)
    assert equal(room, make_room("train", 3))
    for other in (
        make_room("train", 4),
        make_room("train", 3, seed=1),
        make_room("val", 3),
        make_room("test", 3),
    ):
        assert not equal(room, other)
        assert len(room["coord"]) != len(other["coord"])


def test_rooms_do_not_touch_the_global_generator():
    np.random.seed(0)
    before = np.random.random()
    np.random.seed(0)
    make_room("train", 0)
    assert np.random.random() == before


def test_dataset_speaks_the_hosts_dialect():
    data = RoomsDataset("val", num_scenes=2, loop=3)
    assert isinstance(data, DefaultDataset)
    assert len(data) == 6
    assert [data.get_data_name(i) for i in (0, 1, 2)] == [
        "room_val_0000",
        "room_val_0001",
        "room_val_0000",
    ]
    sample = data[1]
    n = len(sample["coord"])
    expected = {
        "coord": ((n, 3), np.float32),
        "color": ((n, 3), np.float32),
        "normal": ((n, 3), np.float32),
        "segment": ((n,), np.int32),
        "instance": ((n,), np.int32),
    }
    found = {key: (sample[key].shape, sample[key].dtype) for key in expected}
    assert found == expected
    assert sample["name"] == "room_val_0001"
    assert sample["split"] == "val"


def test_cache_is_not_changed_by_its_user():
    data = RoomsDataset("val", num_scenes=1)
    first = data.get_data(0)
    kept = first["coord"].copy()
    first["coord"] += 1
    np.testing.assert_array_equal(data.get_data(0)["coord"], kept)
    fresh = RoomsDataset("val", num_scenes=1, cache=False)
    np.testing.assert_array_equal(fresh.get_data(0)["coord"], kept)


def test_splits_together_and_transforms():
    data = RoomsDataset(
        ["train", "val"],
        num_scenes=2,
        transform=[dict(type="CenterShift", apply_z=True)],
    )
    assert [data.get_split_name(i) for i in range(4)] == ["train"] * 2 + ["val"] * 2
    coord = data[0]["coord"]
    middle = (coord.min(0) + coord.max(0)) / 2
    np.testing.assert_allclose(middle[:2], 0, atol=1e-4)


def test_written_rooms_are_read_back(tmp_path):
    folders = write_rooms(tmp_path, "val", 1)
    assert [f.relative_to(tmp_path).as_posix() for f in folders] == [
        "val/room_val_0000"
    ]
    write_rooms(tmp_path, "val", 1)  # again: replaced
    assert [p.name for p in (tmp_path / "val").iterdir()] == ["room_val_0000"]
    read = DefaultDataset(split="val", data_root=str(tmp_path)).get_data(0)
    made = RoomsDataset("val", num_scenes=1).get_data(0)
    for key in ("coord", "normal", "segment", "instance"):
        np.testing.assert_array_equal(read[key], made[key])
        assert read[key].dtype == made[key].dtype
    assert np.abs(read["color"] - made["color"]).max() <= 0.5
    assert (read["name"], read["split"]) == (made["name"], made["split"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(split="training"), "training"),
        (dict(num_scenes=0), "num_scenes"),
        (dict(seed=-1), "seed"),
        (dict(dropout=1.5), "dropout"),
        (dict(num_viewpoints=0), "num_viewpoints"),
        (dict(angular_step=0.0), "angular_step"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(UserError, match=words):
        RoomsDataset(**options)


def test_frustums_are_in_the_rooms(rooms):
    kinds = np.concatenate([room.solids.kind for room in rooms])
    assert {BOX, FRUSTUM, ELLIPSOID} == set(kinds.tolist())
