"""Reports of finished runs."""

import json

import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.study.measures import curves, stage_scores, steps_taken


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
