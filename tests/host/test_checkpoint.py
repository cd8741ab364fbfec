"""Checkpoints: whole or not at all, and how their weights fit a model."""

import os

import numpy as np
import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host.standalone.checkpoint import (
    copy_checkpoint,
    load_checkpoint,
    match_weights,
    save_checkpoint,
)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model_last.pth"
    save_checkpoint({"state_dict": {"x": torch.ones(1)}}, str(path))
    return path


def test_full_disk_keeps_the_old_checkpoint(saved):
    class Full:
        def __reduce__(self):
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"No space left on device.*intact"):
        save_checkpoint({"state_dict": {}, "y": Full()}, str(saved))
    assert load_checkpoint(str(saved))["state_dict"]["x"] == 1
    assert os.listdir(saved.parent) == ["model_last.pth"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_write_that_fails_late_is_one_line(saved, monkeypatch):
    """What torch's writer raises on a device that is really full."""
    real = open

    def full(path, mode="r", **options):
        path = "/dev/full" if str(path).endswith(".tmp") else path
        return real(path, mode, **options)

    module = "pointins_plugin.host.standalone.checkpoint"
    monkeypatch.setattr(f"{module}.open", full, raising=False)
    with pytest.raises(UserError, match="could not be saved"):
        save_checkpoint({"state_dict": {"x": torch.zeros(100000)}}, str(saved))
    monkeypatch.undo()
    assert load_checkpoint(str(saved))["state_dict"]["x"] == 1


def test_folder_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(UserError, match="No such file or directory"):
        save_checkpoint({"state_dict": {}}, str(tmp_path / "no" / "x.pth"))


def test_copy_is_whole_or_not_at_all(saved):
    best = saved.parent / "model_best.pth"
    copy_checkpoint(str(saved), str(best))
    assert best.read_bytes() == saved.read_bytes()
    with pytest.raises(UserError, match="could not be saved"):
        copy_checkpoint(str(saved.parent / "none.pth"), str(best))
    assert sorted(os.listdir(saved.parent)) == ["model_best.pth", "model_last.pth"]


@pytest.mark.parametrize(
    "content", [b"", b"junk", b"not a checkpoint", b"PK\x03\x04broken"]
)
def test_damaged_file_is_one_line(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(str(path))
    with pytest.raises(UserError, match="does not exist"):
        load_checkpoint(str(tmp_path / "y.pth"))


def test_cut_file_is_one_line(saved):
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(str(saved))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": {}}, "holds no 'state_dict'"),
        ([1, 2], "holds no 'state_dict'"),
        ({"state_dict": [1]}, "holds no 'state_dict'"),
        ({"state_dict": {"a": 1}}, "'a' in its 'state_dict' is no tensor"),
    ],
)
def test_foreign_content_is_one_line(tmp_path, content, message):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=message):
        load_checkpoint(str(tmp_path / "x.pth"))


def test_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": {}, "x": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("number", [np.float64(0.25), np.float32(0.25), np.int64(3)])
def test_metric_may_be_a_numpy_number(tmp_path, number):
    """Pointcept saves its best metric as evaluators return it."""
    torch.save({"state_dict": {}, "best_metric_value": number}, tmp_path / "x.pth")
    read = load_checkpoint(str(tmp_path / "x.pth"))
    assert float(read["best_metric_value"]) == number


def tensors(**shapes):
    return {key.replace("__", "."): torch.zeros(n) for key, n in shapes.items()}


def test_names_and_shapes_must_fit():
    match = match_weights(
        tensors(module__a=1, b=2, c=3, d=4), tensors(a=1, b=2, c=4, e=5)
    )
    assert sorted(match.weights) == ["a", "b"]
    assert match.missing == ["c", "e"]
    assert match.unexpected == ["d"]
    assert match.share == 0.5
    assert str(match) == "50.0% of the model's keys matched"


@pytest.mark.parametrize("wrapped", [False, True])
def test_backbone_is_taken_from_a_student(wrapped):
    state = tensors(student__backbone__w=1, teacher__backbone__w=1, student__head__w=2)
    model = tensors(backbone__w=1, seg_head__w=3)
    if wrapped:
        model = {f"module.{key}": value for key, value in model.items()}
    match = match_weights(
        state, model, "module.student.backbone", "module.backbone", wrapped
    )
    assert match.share == 1
    assert list(match.weights) == [next(iter(model))]
    assert len(match.missing) == 1


def test_replacement_that_names_nothing_matches_nothing():
    state = tensors(student__backbone__w=1)
    model = tensors(backbone__w=1)
    match = match_weights(state, model, "module.student", "module.bakbone")
    assert match.share == 0


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_teacher_that_is_not_there_is_the_student(wrapped):
    """As a published encoder, bare or below ``student.backbone``, is loaded."""
    start = "module." if wrapped else ""
    names = ("student.backbone.w", "teacher.backbone.w", "teacher.head.w")
    model = {f"{start}{name}": torch.zeros(1) for name in names}
    place = "module.student.backbone"
    options = {"wrapped": wrapped, "copy_student": True}
    match = match_weights({"w": torch.ones(1)}, model, "module", place, **options)
    assert list(match.weights) == [f"{start}{name}" for name in names[:2]]
    assert (match.share, match.copied) == (1, 1)
    assert match.weights[f"{start}teacher.backbone.w"] == 1
    # one that is there stays
    state = {names[0]: torch.ones(1), names[1]: torch.full((1,), 2.0)}
    match = match_weights(state, model, **options)
    assert match.weights[f"{start}teacher.backbone.w"] == 2
    assert match.copied == 0
