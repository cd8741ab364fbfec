"""Frozen features, pictures and reports of finished runs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny_run

from pointins_plugin.errors import UserError
from pointins_plugin.host import Config, build_model
from pointins_plugin.paths import config_root
from pointins_plugin.study.measures import (
    Probe,
    curves,
    draw_probe,
    encoder_parameters,
    probe_offsets,
    stage_scores,
    steps_taken,
)
from pointins_plugin.study.runs import Step


@pytest.fixture(scope="module", params=["mosd-insseg-lin", "streets-panoptic-lin"])
def step(request, tmp_path_factory):
    """A probe's run with random weights, on tiny scenes."""
    folder = tmp_path_factory.mktemp("probe")
    path = config_root() / "pointins" / f"{request.param}.py"
    with pytest.MonkeyPatch.context() as patch:
        tiny_run.thin_generators(patch)
        data = tiny_run.TinyData(folder / "data")
        cfg = tiny_run.tiny(Config.fromfile(path), data, folder)
        run = folder / "run"
        (run / "model").mkdir(parents=True)
        cfg.dump(run / "config.py")
        torch.manual_seed(0)
        state = build_model(cfg.model).state_dict()
        torch.save({"state_dict": state}, run / "model" / "model_last.pth")
        yield Step("tiny", run, str(path))


def test_features_are_what_the_heads_see(step):
    probe = Probe(step)
    dataset = probe.dataset("train")
    batch = probe.batch(dataset, 0)
    feature = probe.features(batch)
    assert len(feature) == len(batch["coord"])
    shift, instance = probe.predict(batch)
    with torch.no_grad():
        expected = probe.model.bias_head(feature).numpy()
    np.testing.assert_allclose(shift, expected, rtol=1e-4, atol=1e-5)
    assert instance.shape == (len(feature),)
    again = probe.features(probe.batch(dataset, 0))
    torch.testing.assert_close(again, feature)


def test_training_scenes_are_seen_unchanged(step):
    """By the transforms of evaluation: nothing drawn at random."""
    probe = Probe(step)
    dataset = probe.dataset("train")
    one, two = (probe.batch(dataset, 0) for _ in range(2))
    torch.testing.assert_close(one["coord"], two["coord"])
    assert "instance_centroid" in one


def test_offsets_are_read_off_features(step):
    found = probe_offsets(step, 2)
    assert found["train_points"] > 0
    assert found["test_points"] > 0
    assert found["r2"] < 1
    assert probe_offsets(step, 2) == found


def test_a_scene_is_drawn(step, tmp_path):
    pytest.importorskip("matplotlib")
    draw_probe(step, 0, "A *row*", tmp_path / "row.png")
    assert (tmp_path / "row.png").read_bytes().startswith(b"\x89PNG")


def test_encoder_is_counted_without_heads_and_buffers(tmp_path):
    state = {
        "student.backbone.a": torch.zeros(2, 3),
        "student.backbone.norm.running_mean": torch.zeros(7),
        "student.backbone.norm.num_batches_tracked": torch.zeros(()),
        "student.head": torch.zeros(11),
        "teacher.backbone.a": torch.zeros(2, 3),
    }
    torch.save({"state_dict": state}, tmp_path / "checkpoint.pth")
    assert encoder_parameters(tmp_path / "checkpoint.pth") == 6


def test_reports_and_curves(tmp_path):
    methods = {"components": {"map": 1.0, "ap50": 2.0, "ap25": 3.0}}
    report = {"epoch": 2, "offset_r2": 0.5, "offset_cosine": 0.7, "methods": methods}
    (tmp_path / "label_free.json").write_text(json.dumps(report))
    history = [{"epoch": n, "pq": pq} for n, pq in enumerate((0.0, 10.0, None), 1)]
    report = {"pq": 20.0, "rq": 30.0, "sq": None, "history": history}
    (tmp_path / "panoptic.json").write_text(json.dumps(report))
    assert stage_scores(tmp_path) == {
        "offset_r2": 0.5,
        "offset_cosine": 0.7,
        "methods": methods,
        "pq": 20.0,
        "rq": 30.0,
        "sq": None,
    }
    lines = [
        {"step": 1, "tag": "train_batch/loss", "value": 1.0},
        {"step": 7, "tag": "train_batch/loss", "value": 1.0},
        {"step": 5, "tag": "monitor/target_r2", "value": 0.25},
    ]
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"st'
    (tmp_path / "metrics.jsonl").write_text(text)
    assert steps_taken(tmp_path) == 7
    assert curves(tmp_path) == {"target_r2": [[5, 0.25]], "pq": [[1, 0.0], [2, 10.0]]}


def test_a_run_without_evaluation_has_no_scores(tmp_path):
    assert stage_scores(tmp_path) == {}
    assert curves(tmp_path) == {}
    assert steps_taken(tmp_path) == 0


def test_a_damaged_report_is_named(tmp_path):
    (tmp_path / "semantic.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read; delete"):
        stage_scores(tmp_path)
