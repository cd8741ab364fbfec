"""Exported encoders: written whole, read back equal, nothing run."""

import json

import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.exported import find_export, read_export, write_export

safetensors = pytest.importorskip("safetensors.torch")
SPEC = {"format": "f-1", "list": [1, 2.5, None, True], "nested": {"a": "b"}}


def weights():
    torch.manual_seed(0)
    return {
        "a": torch.randn(3, 4),
        "b": torch.arange(5),
        "transposed": torch.randn(2, 3).t(),
        "half": torch.randn(2).half(),
    }


@pytest.mark.parametrize("name", ["new/model.safetensors", "folder"])
def test_round_trip(tmp_path, name):
    files = write_export(tmp_path / name, SPEC, weights())
    spec, found = read_export(find_export(tmp_path / name), "f-1")
    assert spec == SPEC
    assert found.keys() == weights().keys()
    for key, value in weights().items():
        assert found[key].dtype == value.dtype
        assert torch.equal(found[key], value)
    assert all(file.is_file() for file in files)
    assert not list(files[0].parent.glob(".*"))
    if name == "folder":
        assert json.loads((tmp_path / name / "config.json").read_text()) == SPEC


def test_other_tools_read_the_weights(tmp_path):
    (file,) = write_export(tmp_path / "a.safetensors", SPEC, weights())
    assert torch.equal(safetensors.load_file(file)["a"], weights()["a"])


def test_what_is_no_export(tmp_path):
    assert find_export(tmp_path / "model.pth") is None
    for content in (b"", b"junk", b"\x80\x02}q\x00."):
        path = tmp_path / "bad.safetensors"
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read") as error:
            read_export(path, "f-1")
        assert "\n" not in str(error.value)
    safetensors.save_file(weights() | {"transposed": torch.ones(1)}, path)
    with pytest.raises(UserError, match="did not write it"):
        read_export(path, "f-1")
    write_export(path, SPEC, weights())
    with pytest.raises(UserError, match="has format 'f-1', this version reads 'f-2'"):
        read_export(path, "f-2")
    with pytest.raises(UserError, match="does not exist"):
        read_export(tmp_path / "none.safetensors", "f-1")


def test_cut_short_at_any_place(tmp_path):
    (file,) = write_export(tmp_path / "a.safetensors", SPEC, weights())
    data = file.read_bytes()
    for size in range(0, len(data), 37):
        file.write_bytes(data[:size])
        with pytest.raises(UserError, match="cannot be read"):
            read_export(file, "f-1")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    (file,) = write_export(tmp_path / "a.safetensors", SPEC, weights())
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        write_export(file, {"format": "f-2"}, weights())
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
