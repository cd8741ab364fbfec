"""Files are whole or not there, and a place that cannot be written is one line."""

import numpy as np
import pytest
import torch

from pointins_plugin.commands.predict import _write_npz
from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.submissions import zip_folder
from pointins_plugin.exported import write_export
from pointins_plugin.files import make_folder, write_array, write_text, write_whole
from pointins_plugin.pictures import save_panels
from pointins_plugin.ply import write_ply
from pointins_plugin.priors import MagnitudePrior

WRITERS = {
    "any": lambda path: write_whole(path, lambda partial: partial.write_text("a")),
    "ply": lambda path: write_ply(path, np.eye(3)),
    "npz": lambda path: _write_npz(path, coord=np.eye(3)),
    "picture": lambda path: save_panels(path, {"coord": np.eye(3)}, size=(160, 140)),
    "export": lambda path: write_export(path, {}, {"a": torch.zeros(2)}),
    "prior": lambda path: MagnitudePrior.gamma(3, 0.2).save(path),
    "array": lambda path: write_array(path, np.eye(3)),
    "text": lambda path: write_text(path, "a"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_in_place_of_the_folder(tmp_path, writer):
    file = tmp_path / "file"
    file.write_text("kept")
    for path in (file / "a.safetensors", file / "deeper" / "a.safetensors"):
        with pytest.raises(UserError) as told:
            WRITERS[writer](path)
        assert "file is a file, not a folder" in str(told.value)
        assert "\n" not in str(told.value)
        # no traceback of something else comes with it
        assert told.value.__suppress_context__
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


def test_a_zip_that_cannot_be_written(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out.zip").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*out\.zip"):
        zip_folder(tmp_path / "out")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_made(tmp_path):
    assert make_folder(tmp_path / "a" / "b") == make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("kept")
    for path in (tmp_path / "file", tmp_path / "file" / "a"):
        with pytest.raises(UserError, match="file is a file, not a folder"):
            make_folder(path)
    assert (tmp_path / "file").read_text() == "kept"


def test_an_array_as_it_is_named(tmp_path):
    path = write_array(tmp_path / "a_pred.npy", np.arange(3))
    assert [path] == list(tmp_path.iterdir())
    assert np.load(path).tolist() == [0, 1, 2]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left")])
def test_whatever_stops_a_write_leaves_what_was_there(tmp_path, stop):
    path = tmp_path / "a.txt"
    assert write_whole(path, lambda partial: partial.write_text("old")) == path

    def write(partial):
        partial.write_text("half")
        raise stop

    with pytest.raises((KeyboardInterrupt, UserError)):
        write_whole(path, write)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]
