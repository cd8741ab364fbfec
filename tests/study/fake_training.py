"""In the place of training and probes: what they leave behind, at once."""

import json

import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import Config

SCORES = {
    "map": 30.0,
    "miou": 90.0,
    "offset_r2": 0.5,
    "true_things": {"map": 60.0},
    "worst_scene": {"index": 3, "map": 10.0},
}


class FakeTraining:
    """Stands in for `runs._train`; notes what was started, fails on wish."""

    def __init__(self, fail=()):
        self.fail = set(fail)
        self.started = []
        self.probed = []

    def __call__(self, step, source, options, lock=None):
        name = f"{step.folder.parent.parent.name}/{step.folder.name}"
        self.started.append(name)
        if name in self.fail:
            raise UserError(f"{step.title} failed (out of luck)")
        run = step.folder
        Config.fromfile(source).dump(run / "config.py")
        if "pretraining" in run.name:
            reports = {}
        elif "semantics" in run.name:
            history = [{"epoch": 1, "miou": 70.0}, {"epoch": 2, "miou": 80.0}]
            reports = {"semantic.json": {"miou": 80.0, "history": history}}
        else:
            reports = {"instance_ap.json": {"map": 20.0, "ap50": 40.0, "ap25": 60.0}}
        for file, report in reports.items():
            (run / file).write_text(json.dumps(report))
        lines = [
            {"step": 1, "tag": "train_batch/loss", "value": 2.0},
            {"step": 50, "tag": "monitor/shift_r2", "value": 0.25},
            {"step": 100, "tag": "train_batch/loss", "value": 1.0},
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 1'
        (run / "metrics.jsonl").write_text(text)
        step.checkpoint.parent.mkdir(exist_ok=True)
        prefix = "student." if "pretraining" in run.name else ""
        state = {
            f"{prefix}backbone.weight": torch.zeros(3, 4),
            f"{prefix}backbone.running_mean": torch.zeros(3),
            "head.weight": torch.zeros(5),
        }
        torch.save({"state_dict": state, "options": list(options)}, step.checkpoint)


def fake_probes(monkeypatch, module, training):
    """Let units find `SCORES` in every backbone; `training` notes the checkpoints."""

    class Probe:
        def __init__(self, cfg, checkpoint):
            training.probed.append(checkpoint)
            self.model = torch.nn.Module()
            self.model.backbone = torch.nn.Linear(3, 3)

    def draw(probe, scene, title, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{title} {scene}")

    monkeypatch.setattr(module, "Probe", Probe)
    monkeypatch.setattr(module, "fit_heads", lambda probe: {"offset_penalty": 0.1})
    monkeypatch.setattr(module, "score_heads", lambda probe: dict(SCORES))
    monkeypatch.setattr(module, "draw_probe", draw)
