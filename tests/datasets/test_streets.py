"""Streets: what a LiDAR sees of them is consistent, seeded, and street-like."""

import numpy as np
import pytest

from pointins_plugin.datasets import ray_cast
from pointins_plugin.datasets.solids import Maker, Solids, footprints, overlaps
from pointins_plugin.datasets.street_layout import CLASSES, THINGS, Street, lay_street
from pointins_plugin.datasets.street_scan import SENSORS, scan_street, spin
from pointins_plugin.datasets.streets import StreetsDataset, make_street
from pointins_plugin.errors import UserError
from pointins_plugin.host import DATASETS


def test_same_seed_same_scan_and_splits_differ():
    one, two = make_street("train", 3, beams=32), make_street("train", 3, beams=32)
    for key, values in one.items():
        np.testing.assert_array_equal(values, two[key])
    other = make_street("val", 3, beams=32)
    assert len(other["coord"]) != len(one["coord"])


def test_scans_look_like_the_benchmarks():
    for index in range(3):
        scan = make_street("train", index)
        assert 90_000 < len(scan["coord"]) < 135_000
        coord, segment = scan["coord"], scan["segment"]
        assert coord.dtype == np.float32
        assert np.linalg.norm(coord, axis=1).max() < 81
        road = coord[segment == CLASSES.index("road")]
        # the sensor is 1.73 m above a flat road
        assert abs(np.median(road[:, 2]) + 1.73) < 0.02
        assert 0 <= scan["strength"].min() <= scan["strength"].max() <= 1
        assert scan["strength"].shape == (len(coord), 1)
        assert len(np.unique(segment)) >= 8
        things = np.isin(segment, [CLASSES.index(name) for name in THINGS])
        assert not (scan["instance"][~things] >= 0).any()
        ids = np.unique(scan["instance"][scan["instance"] >= 0])
        np.testing.assert_array_equal(ids, np.arange(len(ids)))
        assert len(ids) >= 10
        for i in ids:
            mine = scan["instance"] == i
            assert mine.sum() >= 5
            assert len(np.unique(segment[mine])) == 1
            assert np.ptp(coord[mine], axis=0).max() < 14


def test_things_do_not_run_into_each_other():
    street = lay_street(np.random.default_rng(5))
    prisms = []
    for i in range(street.instance.max() + 1):
        mine = street.instance == i
        part = Solids(
            **{k: getattr(street.solids, k)[mine] for k in vars(street.solids)}
        )
        prisms.append(footprints(part))
    for i, a in enumerate(prisms):
        for b in prisms[:i]:
            assert not overlaps(a, b).any()


def test_windows_of_beams_leave_no_ray_out(monkeypatch):
    street = lay_street(np.random.default_rng(2))
    nearest = np.argsort(np.linalg.norm(street.solids.centre[:, :2], axis=1))[:60]
    solids = Solids(
        **{k: getattr(street.solids, k)[nearest] for k in vars(street.solids)}
    )
    rays = spin(SENSORS[32], np.random.default_rng(0))
    view = np.array([*street.sensor, 1.84])
    expected = ray_cast.cast(solids, view, rays, 70.0)

    def every_pair(solids, view, rays):
        solid, ray = np.indices((len(solids), len(rays.direction)))
        return solid.reshape(-1), ray.reshape(-1)

    monkeypatch.setattr(ray_cast, "candidates", every_pair)
    brute = ray_cast.cast(solids, view, rays, 70.0)
    np.testing.assert_array_equal(expected[0], brute[0])
    assert (brute[0] >= 0).mean() > 0.3


def wall_street(returns=1.0, porous=False):
    make = Maker()
    make.slab((10, -30, -5), (10.5, 30, 5), (128, 128, 128), returns=returns)
    make.slab((20, -60, -9), (20.5, 60, 9), (128, 128, 128))
    return Street(
        make.build(),
        np.array([5, 6]),
        np.array([-1, -1]),
        np.array([porous, False]),
        np.zeros(2),
    )


def test_a_perfect_scan_lies_on_the_wall():
    rng = np.random.default_rng(0)
    scan = scan_street(wall_street(), rng, beams=32, noise=0, dropout=0)
    wall = scan["coord"][scan["segment"] == 5]
    np.testing.assert_allclose(wall[:, 0], 10, atol=1e-4)
    # strength falls with the angle of incidence, .5 (.35 + .65 cos)
    cosine = wall[:, 0] / np.linalg.norm(wall, axis=1)
    expected = 128 / 255 * (0.35 + 0.65 * cosine)
    strength = scan["strength"][scan["segment"] == 5, 0]
    np.testing.assert_allclose(strength, expected, atol=1e-3)


def test_range_noise_has_its_size():
    scan = scan_street(wall_street(), np.random.default_rng(0), beams=32, dropout=0)
    wall = scan["coord"][scan["segment"] == 5].astype(float)
    distance = np.linalg.norm(wall, axis=1)
    direction = wall / distance[:, None]
    error = distance - 10 / direction[:, 0]
    assert abs(error.std() - 0.02) < 0.002


def test_glass_lets_rays_through():
    rng = np.random.default_rng(0)
    scan = scan_street(wall_street(0.3), rng, beams=32, noise=0, dropout=0)
    ahead = np.abs(scan["coord"][:, 1] / scan["coord"][:, 0]) < 1
    ahead &= np.abs(scan["coord"][:, 2] / scan["coord"][:, 0]) < 0.2
    share = (scan["segment"][ahead] == 5).mean()
    assert abs(share - 0.3) < 0.05


def test_dataset_is_registered_and_gives_copies():
    dataset = DATASETS.build(
        {"type": "StreetsDataset", "split": "val", "num_scenes": 2, "beams": 32}
    )
    assert len(dataset) == 2
    first = dataset[0]
    first["coord"] += 100
    assert np.abs(dataset[0]["coord"] - first["coord"]).min() > 50
    assert first["name"] == "street_val_0000"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "minival"}, "no split 'minival'"),
        ({"beams": 16}, "32, 64"),
        ({"dropout": 2.0}, "dropout between"),
        ({"num_scenes": 0}, "num_scenes of at least 1"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(UserError, match=message):
        StreetsDataset(**options)
