"""`pointins predict`: every point of any cloud gets an answer in its own frame."""

import sys
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from toy_encoder import boxes, write_run

from pointins_plugin.cli import main
from pointins_plugin.clouds import Frame
from pointins_plugin.commands.predict import _grouping, add_arguments, output_paths
from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.grouping import Grouping
from pointins_plugin.ply import read_ply, write_ply


@pytest.fixture(scope="module")
def weight(tmp_path_factory):
    return str(write_run(tmp_path_factory.mktemp("run"))[1])


@pytest.fixture
def predict(weight, tmp_path, capsys):
    """Return a function that predicts a cloud; it gives the arrays and the words."""

    def call(cloud, *words, out="out"):
        code = main(
            ["predict", str(cloud), "-w", weight, "-o", str(tmp_path / out), *words]
        )
        said = capsys.readouterr()
        if code:
            raise UserError(said.err.strip().splitlines()[-1])
        (file,) = (tmp_path / out).glob("*.[np][pl][zy]")
        if file.suffix == ".ply":
            found = read_ply(file)
            axes = (found[f"shift_{axis}"] for axis in "xyz")
            found["shift"] = np.stack(list(axes), 1)
        else:
            found = dict(np.load(file))
        return found, said.out + said.err

    return call


def write_cloud(path, coord, color=None):
    if path.suffix == ".ply":
        write_ply(path, coord, color)
    elif path.suffix == ".bin":
        np.column_stack([coord, np.zeros(len(coord))]).astype("<f4").tofile(path)
    elif path.suffix == ".npy":
        np.save(path, coord)
    else:
        path.write_text(
            "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
            f"WIDTH {len(coord)}\nHEIGHT 1\nPOINTS {len(coord)}\nDATA ascii\n"
            + "\n".join(" ".join(map(repr, row)) for row in coord.tolist())
        )
    return path


@pytest.mark.parametrize("suffix", [".ply", ".pcd", ".npy", ".bin"])
def test_every_format(predict, tmp_path, suffix):
    scene = boxes()
    cloud = write_cloud(tmp_path / f"cloud{suffix}", scene["coord"])
    found, words = predict(cloud, "--no-picture")
    np.testing.assert_allclose(found["coord"], scene["coord"], atol=1e-6)
    assert found["instance"].shape == (3000,)
    assert np.isfinite(found["shift"]).all()
    assert found["plane"][:2000].mean() > 0.95  # the floor
    assert (found["instance"][found["plane"] == 1] == -1).all()
    # boxes stand 1 m apart: no instance reaches from one to the other
    low, high = found["instance"][2000:2500], found["instance"][2500:]
    assert not set(low[low >= 0]) & set(high[high >= 0])
    assert (low >= 0).mean() > 0.5
    for made_up in ("all points are grey", "normals are estimated"):
        assert made_up in words


def test_npz_holds_the_same_as_ply(predict, tmp_path):
    cloud = write_cloud(tmp_path / "cloud.ply", **boxes())
    ply, _ = predict(cloud, "--no-picture", out="a")
    npz, _ = predict(cloud, "--no-picture", "--format", "npz", out="b")
    assert sorted(npz) == ["coord", "instance", "plane", "shift"]
    for key, values in npz.items():
        np.testing.assert_array_equal(values, ply[key])


def test_picture(predict, tmp_path):
    pytest.importorskip("matplotlib")
    predict(write_cloud(tmp_path / "cloud.ply", **boxes()))
    picture = (tmp_path / "out" / "cloud.png").read_bytes()
    assert picture[:4] == b"\x89PNG"
    assert len(picture) > 10_000


def test_points_with_nan_stay_without_instance(predict, tmp_path):
    scene = boxes()
    clean, _ = predict(write_cloud(tmp_path / "a.npy", scene["coord"]), "--no-picture")
    holes = np.insert(scene["coord"], [0, 7, 3000], np.nan, axis=0)
    holes[0] = (np.inf, 0, 0)
    cloud = write_cloud(tmp_path / "b.npy", holes)
    found, words = predict(cloud, "--no-picture", out="holes")
    assert "3 with NaN have none" in words
    bad = ~np.isfinite(holes).all(1)
    assert bad.nonzero()[0].tolist() == [0, 8, 3002]
    assert (found["instance"][bad] == -1).all()
    assert np.isnan(found["shift"][bad]).all()
    np.testing.assert_array_equal(found["instance"][~bad], clean["instance"])
    np.testing.assert_array_equal(found["shift"][~bad], clean["shift"])


def test_other_units_and_axes(predict, tmp_path):
    # The same cloud in millimetres, y up, gives the same instances in its own frame.
    coord = boxes()["coord"].astype(np.float64)
    metres, _ = predict(write_cloud(tmp_path / "m.npy", coord), "--no-picture")
    turned = Frame.of("mm", "y").back(coord)
    cloud = write_cloud(tmp_path / "mm.npy", turned)
    words = ("--no-picture", "--units", "mm", "--up", "y")
    found, said = predict(cloud, *words, out="mm")
    np.testing.assert_array_equal(found["coord"], turned)
    same = (found["instance"] >= 0) == (metres["instance"] >= 0)
    assert same.mean() > 0.99
    expected = Frame.of("mm", "y").back(metres["shift"])
    far = np.abs(found["shift"] - expected).max(1) > 5  # millimetres
    assert far.mean() < 0.02
    assert "--units" not in said
    _, said = predict(cloud, "--no-picture", out="taken for metres")
    assert "is it in mm? (--units mm)" in said


def test_parts_and_options(predict, tmp_path):
    cloud = write_cloud(tmp_path / "cloud.ply", **boxes())
    _, words = predict(cloud, "--no-picture", "--tile-cells", "400")
    assert "3,000 points in " in words
    modes, _ = predict(cloud, "--no-picture", "--method", "modes", out="modes")
    first, _ = predict(cloud, "--no-picture", out="first")
    assert (modes["instance"] != first["instance"]).any()
    np.testing.assert_array_equal(modes["shift"], first["shift"])
    kept, _ = predict(cloud, "--no-picture", "--keep-planes", out="planes")
    assert not kept["plane"].any()
    whole, _ = predict(cloud, "--no-picture", "--radius", "9", out="radius")
    assert whole["instance"].max() == 0
    student, _ = predict(cloud, "--no-picture", "--branch", "student", out="student")
    assert (student["shift"] != first["shift"]).any()
    color, _ = predict(cloud, "--no-picture", "--keep-color", out="color")
    np.testing.assert_array_equal(color["color"], boxes()["color"])


def test_the_ground_may_take_part_too():
    parser = ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["a.ply", "-w", "a.pth", "--keep-planes"])
    coord = np.random.default_rng(0).uniform(0, 9, (500, 3)) * (1, 1, 0)
    outdoors = Grouping(0.5, 0.5, ground={"height": 0.3})
    assert outdoors.plane(coord).any()
    assert not _grouping(outdoors, args).plane(coord).any()


def test_colours_of_either_range_are_the_same(predict, tmp_path):
    scene = boxes()
    both = []
    for name, scale in (("bright", 1), ("unit", 255)):
        folder = tmp_path / name
        folder.mkdir()
        np.save(folder / "coord.npy", scene["coord"])
        np.save(folder / "color.npy", scene["color"] / scale)
        found, _ = predict(folder, "--no-picture", "--keep-color", out=f"{name} out")
        np.testing.assert_array_equal(found["color"], scene["color"])
        both.append(found["shift"])
    np.testing.assert_allclose(*both, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--units", "parsec"], "units 'parsec'"),
        (["--radius", "0"], "radius must be above 0"),
        (["--radius", "nan"], "'nan' is no finite number of 0 or more"),
        (["--overlap", "nan"], "'nan' is no finite number of 0 or more"),
        (["--viewpoint", "0", "inf", "0"], "'inf' is no finite number"),
        (["--device", "quantum"], "--device quantum cannot be used"),
        (["--device", "meta"], "--device meta cannot be used"),
        (["--tile-cells", "1"], "give at least 2"),
        (["--config-file", "none.py"], "none.py"),
        (["--columns", "x,y"], "2 are named"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(predict, tmp_path, words, message):
    cloud = write_cloud(tmp_path / "cloud.npy", boxes()["coord"])
    with pytest.raises(UserError, match=message):
        predict(cloud, *words)
    assert not (tmp_path / "out").exists()


def test_nothing_but_nan(predict, tmp_path):
    cloud = write_cloud(tmp_path / "cloud.npy", np.full((5, 3), np.nan))
    with pytest.raises(UserError, match="has 0 points"):
        predict(cloud)


def test_encoder_without_offsets(tmp_path, weight, capsys):
    pytest.importorskip("safetensors")
    encoder = str(tmp_path / "e.safetensors")
    assert main(["export", "-w", weight, encoder, "--no-offset-head"]) == 0
    cloud = write_cloud(tmp_path / "cloud.npy", boxes()["coord"])
    assert main(["predict", str(cloud), "-w", encoder]) == 2
    assert "predicts no offsets" in capsys.readouterr().err


def test_names_of_files(tmp_path, monkeypatch):
    paths = output_paths(["a/x.v2.PLY", "b/y.pcd.bin", "scene/"], str(tmp_path), "npz")
    assert [path.name for path in paths] == ["x.v2.npz", "y.npz", "scene.npz"]
    monkeypatch.chdir(tmp_path)
    paths = output_paths(["."], "out", "ply")
    assert paths == [Path("out") / f"{tmp_path.name}.ply"]
    assert output_paths(["x"], "out", None) == [Path("out/x.ply")]
    for kind in ("npz", None):
        assert output_paths(["x.ply"], "y.npz", kind) == [Path("y.npz")]
    with pytest.raises(UserError, match="not what --format ply says"):
        output_paths(["x.ply"], "y.npz", "ply")
    for clouds, out, message in (
        (["x.ply", "y.ply"], "one.ply", "is one file, but 2 clouds"),
        (["a/x.ply", "b/x.pcd"], "out", "two clouds would be written"),
        (["x.ply"], ".", "is itself a cloud"),
    ):
        with pytest.raises(UserError, match=message):
            output_paths(clouds, out, "ply")
