"""The command that fits priors: what it writes, prints and refuses."""

import json

import numpy as np
import pytest

from pointins_plugin.commands.fit_prior import read_cells, run
from pointins_plugin.datasets.streets import make_street
from pointins_plugin.errors import UserError
from pointins_plugin.host import Config
from pointins_plugin.models import OffsetBranch
from pointins_plugin.paths import find_config
from pointins_plugin.priors import (
    DirectionPrior,
    MagnitudePrior,
    build_prior,
    instance_offsets,
)

RADIUS = 0.15

# The length of half the points of a full ball: (r / R)^3 = 1/2.
MEDIAN = RADIUS / 2 ** (1 / 3)


def write_scene(folder, seed, num=6, points=200):
    """Balls of radius .15 m on a floor, labelled, in the default folder layout."""
    rng = np.random.default_rng(seed)
    floor = np.c_[rng.uniform(0, 4, (3000, 2)), rng.normal(0, 1e-3, 3000)]
    ball = rng.normal(size=(num, points, 3))
    ball /= np.linalg.norm(ball, axis=2, keepdims=True)
    ball *= RADIUS * np.cbrt(rng.random((num, points, 1)))
    centre = np.c_[0.6 * np.arange(num) + 0.4, rng.uniform(1, 3, num), [0.2] * num]
    ball += centre[:, None]
    folder.mkdir(parents=True)
    np.save(folder / "coord.npy", np.r_[floor, ball.reshape(-1, 3)].astype("float32"))
    instance = np.r_[np.full(3000, num), np.repeat(np.arange(num), points)]
    np.save(folder / "instance.npy", instance)
    np.save(folder / "segment.npy", (instance < num).astype("int16"))


@pytest.fixture
def root(tmp_path):
    for seed in range(3):
        write_scene(tmp_path / "data" / "train" / f"scene{seed}", seed)
    return tmp_path / "data"


def fit(root, *options):
    out = root.parent / "prior.json"
    run([str(root), "--out", str(out), *options])
    return out


def test_labels_give_the_prior_of_the_labels(root, capsys):
    out = fit(root, "--source", "labels", "--ignore-segments", "0")
    prior = build_prior({"type": "file", "path": str(out)})
    assert prior.median == pytest.approx(MEDIAN, rel=0.02)
    assert prior.table[-1] < 1.2 * RADIUS
    assert prior.provenance["data"] == "data/train"
    assert prior.provenance["count"] == 3 * 6 * 200
    direction = DirectionPrior.load(out)
    assert direction.direction_prior.abs().max() <= 1
    printed = capsys.readouterr().out
    assert "3,600 offsets in 3 scenes" in printed
    assert all(name in printed for name in ("log_normal", "gamma", "weibull", "KS"))
    # the option that it prints is one that a config takes
    option = dict([printed.strip().split("by -o ")[1].split("=", 1)])
    cfg = Config.fromfile(find_config("pointins/streets-pretrain"))
    cfg.merge_from_dict(option)
    branch = OffsetBranch(**cfg.model.offset_branch)
    assert branch.unit == pytest.approx(prior.median, rel=1e-6)


def test_the_floor_counts_unless_ignored(root):
    out = fit(root, "--source", "labels", "--max-points", "100000")
    assert MagnitudePrior.load(out).table[-1] > 1.5


def test_a_family_is_fitted(root):
    options = ("--source", "labels", "--ignore-segments", "0", "--family", "weibull")
    prior = MagnitudePrior.load(fit(root, *options))
    assert prior.provenance["kind"] == "weibull"
    # A Weibull density has a tail, a ball has none.
    assert prior.median == pytest.approx(MEDIAN, rel=0.1)


def test_one_point_a_cell(root):
    """What has been scanned more often counts no more than the rest."""
    for folder in (root / "train").iterdir():
        coord = np.load(folder / "coord.npy")
        instance = np.load(folder / "instance.npy")
        often = np.flatnonzero(instance == 0)[:100].repeat(50)
        np.save(folder / "coord.npy", np.r_[coord, coord[often]])
        np.save(folder / "instance.npy", np.r_[instance, instance[often]])
        segment = np.load(folder / "segment.npy")
        np.save(folder / "segment.npy", np.r_[segment, segment[often]])
    options = ("--source", "labels", "--ignore-segments", "0")
    every = MagnitudePrior.load(fit(root, *options)).provenance["count"]
    out = fit(root, *options, "--grid-size", "0.001")
    prior = MagnitudePrior.load(out)
    assert every == 3 * (6 * 200 + 100 * 50)
    assert prior.provenance["count"] <= 3 * 6 * 200
    assert prior.provenance["grid_size"] == 0.001
    assert prior.median == pytest.approx(MEDIAN, rel=0.02)


def test_cells_take_the_first_of_their_points():
    scene = {
        "coord": np.array([[0.4, 0, 0], [-0.1, 0, 0], [0.2, 0, 0], [np.nan, 0, 0]]),
        "instance": np.array([7, 8, 9, 10]),
    }

    def read(names):
        return {name: scene[name] for name in names}

    found = read_cells(read, 0.5, ("coord", "instance"))
    assert found["instance"].tolist() == [7, 8]
    assert found["coord"][:, 0].tolist() == [0.4, -0.1]
    assert set(read_cells(read, 0.5, ("instance",))) == {"instance"}
    scene = {name: values[:0] for name, values in scene.items()}
    assert len(read_cells(read, 0.5, ("coord",))["coord"]) == 0


def test_hdbscan_finds_the_balls_without_labels(root):
    for path in root.glob("*/*/instance.npy"):
        path.unlink()
    prior = MagnitudePrior.load(fit(root, "--source", "hdbscan"))
    assert prior.median == pytest.approx(MEDIAN, rel=0.1)
    assert prior.provenance["source"] == "hdbscan"


def test_real_table_tops_agree_with_their_labels(mosd_dir, tmp_path):
    options = [str(mosd_dir), "--max-scenes", "8", "--out"]
    with_labels, without = tmp_path / "labels.json", tmp_path / "hdbscan.json"
    run([*options, str(with_labels), "--source", "labels"])
    run([*options, str(without), "--max-points", "10000"])
    expected, found = MagnitudePrior.load(with_labels), MagnitudePrior.load(without)
    assert 0.05 < expected.median < 0.09
    assert found.median == pytest.approx(expected.median, rel=0.25)


def test_scenes_are_chosen_evenly(root):
    damage_coord(root)  # that between the two is not read
    prior = MagnitudePrior.load(fit(root, "--source", "labels", "--max-scenes", "2"))
    assert prior.provenance["scenes"] == 2


def test_splits_are_those_of_data_sets(root):
    """Wildcards and lists of scenes, as ``FolderDataset`` takes them."""
    write_scene(root / "trial" / "scene3", 3)
    (root / "few.json").write_text(json.dumps(["train/scene0", "trial/scene3"]))
    for split, count in (("tr*", 4), ("few.json", 2)):
        prior = MagnitudePrior.load(fit(root, "--source", "labels", "--split", split))
        assert prior.provenance["scenes"] == count
        assert prior.provenance["data"] == f"data/{split}"


def break_nothing(root):
    pass


def shorten_labels(root):
    np.save(root / "train/scene1/instance.npy", np.zeros(5, int))


def drop_labels(root):
    (root / "train/scene1/instance.npy").unlink()


def damage_coord(root):
    (root / "train/scene1/coord.npy").write_bytes(b"no array")


def nan_coord(root):
    path = root / "train/scene1/coord.npy"
    coord = np.load(path)
    coord[7] = np.nan
    np.save(path, coord)


def drop_coord(root):
    (root / "train/scene1/coord.npy").unlink()


def flat_coord(root):
    np.save(root / "train/scene1/coord.npy", np.zeros((4, 2)))


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (break_nothing, ("--split", "tarin"), "tarin does not exist; name another"),
        (break_nothing, ("--min-points", "100000"), "no instance of 100000"),
        (break_nothing, ("--max-points", "0"), "--max-points must be"),
        (break_nothing, ("--out", "."), "is a folder"),
        (shorten_labels, (), "scene1 instance.npy has 5 rows"),
        (drop_labels, (), "scene1 has no instance.npy"),
        (drop_coord, (), "scene1 has no coord.npy; mend it or take it out"),
        (damage_coord, (), "scene1/coord.npy cannot be read"),
        (nan_coord, (), "scene1 coord.npy has 1 row with NaN"),
        (flat_coord, (), "shape \\(4, 2\\), not \\(N, 3\\)"),
    ],
)
def test_bad_data_is_told_and_nothing_written(root, damage, options, message):
    damage(root)
    with pytest.raises(UserError, match=message) as error:
        fit(root, "--source", "labels", *options)
    assert "\n" not in str(error.value)
    assert not (root.parent / "prior.json").exists()


STREETS = """
data = dict(
    train=dict(
        type="StreetsDataset",
        num_scenes=3,
        beams=32,
        transform=[
            dict(type="RangeCrop", near=2.0, far=20.0),
            dict(type="GridSample", grid_size=0.1, mode="train"),
        ],
    ),
)
"""


def fit_config(tmp_path, *options):
    (tmp_path / "streets.py").write_text(STREETS)
    out = tmp_path / "prior.json"
    run(["--config", str(tmp_path / "streets.py"), "--out", str(out), *options])
    return MagnitudePrior.load(out)


def test_the_data_of_a_config_cropped_as_there(tmp_path):
    prior = fit_config(tmp_path, "--source", "labels", "--max-scenes", "2")
    assert prior.provenance["data"] == "streets/train"
    assert prior.provenance["scenes"] == 2
    lengths = []
    for index in (0, 2):
        street = make_street("train", index, beams=32)
        distance = np.hypot(street["coord"][:, 0], street["coord"][:, 1])
        kept = (distance >= 2) & (distance < 20)
        offsets = instance_offsets(street["coord"][kept], street["instance"][kept])
        lengths.append(np.linalg.norm(offsets, axis=1))
    assert prior.provenance["count"] == sum(map(len, lengths))
    assert prior.median == pytest.approx(np.median(np.concatenate(lengths)), rel=1e-2)


def test_another_split_of_a_config(tmp_path):
    two = ("--source", "labels", "--max-scenes", "2")
    train = fit_config(tmp_path, *two)
    other = fit_config(tmp_path, *two, "--split", "val")
    assert other.provenance["data"] == "streets/val"
    assert other.median != train.median


def test_the_ground_outdoors_bends(tmp_path):
    """Balls of .75 m over a valley: with its floor in, clusters are of floor."""
    pytest.importorskip("sklearn.cluster", reason="needs scikit-learn")
    rng = np.random.default_rng(0)
    floor = rng.uniform(-20, 20, (8000, 2))
    ball = rng.normal(size=(9, 300, 3))
    ball /= np.linalg.norm(ball, axis=2, keepdims=True)
    ball *= 0.75 * np.cbrt(rng.random((9, 300, 1)))
    x, y = np.meshgrid([-12, 0, 12], [-12, 0, 12])
    ball += np.stack([x, y, np.full((3, 3), 1.2)], -1).reshape(9, 1, 3)
    coord = np.r_[np.c_[floor, np.zeros(8000)], ball.reshape(-1, 3)]
    coord[:, 2] += 0.1 * coord[:, 0] + 0.004 * coord[:, 1] ** 2
    folder = tmp_path / "data" / "train" / "valley"
    folder.mkdir(parents=True)
    np.save(folder / "coord.npy", coord.astype("float32"))
    options = ("--hdbscan", "--ground-height", "0.3")
    prior = MagnitudePrior.load(fit(tmp_path / "data", *options))
    assert prior.provenance["source"] == "hdbscan"
    assert prior.median == pytest.approx(5 * MEDIAN, rel=0.1)
    other = MagnitudePrior.load(fit(tmp_path / "data", "--plane-threshold", "0"))
    assert other.median > 2 * prior.median


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "either DATA_ROOT or --config"),
        (["a", "--config", "b"], "either DATA_ROOT or --config"),
        (["a", "--ground-height", "-1"], "--ground-height must be above 0"),
        (["a", "--ignore-segments", "0"], "--ignore-segments is of labels"),
        (["a", "--plane-threshold", "nan"], "'nan' is no finite number of 0 or more"),
        (["a", "--plane-threshold", "-1"], "'-1' is no finite number of 0 or more"),
        (["--config", "pointins/none"], "none"),
    ],
)
def test_what_is_asked_must_be_clear(tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        run([*words, "--out", str(tmp_path / "prior.json")])
