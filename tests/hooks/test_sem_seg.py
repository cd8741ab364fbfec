"""The semantic evaluator: scores of the batch's points or of the original ones."""

import json
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from toy_scenes import BACKBONE, scene

from pointins_plugin.errors import UserError
from pointins_plugin.hooks import SemSegEvaluator
from pointins_plugin.host import build_model, collate_fn, comm, launch
from pointins_plugin.host.standalone.config import Config
from pointins_plugin.host.standalone.sampling import EpochSampler, SeededLoader


class Constant(nn.Module):
    """Predicts class 1 on the first half of its points and 0 on the rest."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        half = torch.arange(len(batch["coord"])) < len(batch["coord"]) // 2
        logits = torch.stack([~half, half], dim=1).float()
        return {"loss": torch.tensor(1.0), "seg_logits": logits}


def evaluator(tmp_path, batches, **options):
    hook = SemSegEvaluator(**options)
    hook.trainer = SimpleNamespace(
        model=Constant(),
        val_loader=batches,
        cfg=Config(
            dict(
                save_path=str(tmp_path),
                seed=3,
                evaluate=True,
                resume=False,
                data=dict(names=["a", "b"], num_classes=2, ignore_index=-1),
            )
        ),
        comm_info={},
        logger=logging.getLogger("test"),
        writer=None,
        epoch=0,
        max_epoch=1,
    )
    return hook


def batch(segment):
    segment = torch.tensor(segment)
    return {
        "coord": torch.zeros(len(segment), 3),
        "offset": torch.tensor([len(segment)]),
        "segment": segment,
    }


def test_scores_by_hand(tmp_path):
    hook = evaluator(tmp_path, [batch([1, 0, 0, 0]), batch([1, 1, -1, 0])])
    hook.after_epoch()
    written = json.loads((tmp_path / "semantic.json").read_text())
    # class b: 3 hits, 1 false; class a: 3 hits, 1 missed
    assert written["classes"]["a"]["iou"] == pytest.approx(75)
    assert written["classes"]["b"]["iou"] == pytest.approx(75)
    assert written["classes"]["a"]["acc"] == pytest.approx(75)
    assert written["classes"]["b"]["acc"] == pytest.approx(100)
    assert written["allacc"] == pytest.approx(100 * 6 / 7)
    assert written["scenes"] == 2
    assert hook.trainer.comm_info["current_metric_value"] == pytest.approx(0.75)
    assert hook.trainer.comm_info["current_metric_name"] == "mIoU"


def test_the_report_of_an_earlier_run_goes_unless_this_one_resumes(tmp_path):
    report, mine = tmp_path / "semantic.json", tmp_path / "mine.json"
    mine.touch()
    for resume in (True, False):
        report.touch()
        hook = evaluator(tmp_path, [batch([1, 0])])
        hook.trainer.cfg.resume = resume
        hook.before_train()
        assert report.exists() == resume
        assert mine.exists()


def test_original_points_are_scored(tmp_path):
    data = batch([0, 0])
    data["inverse"] = torch.tensor([0, 0, 1])
    data["origin_segment"] = torch.tensor([1, 1, 0])
    result = evaluator(tmp_path, [data]).evaluate()
    assert result["miou"] == 100


def test_class_scores_are_written_if_asked(tmp_path):
    seen = {}
    hook = evaluator(tmp_path, [batch([1, 0])], write_cls_iou=True)
    hook.trainer.writer = SimpleNamespace(
        add_scalar=lambda name, value, step: seen.update({name: value})
    )
    hook.evaluate()
    assert seen["val/mIoU"] == seen["val/cls_0-a IoU"] == 1
    assert "val/allAcc" in seen


class Scenes(torch.utils.data.Dataset):
    """Five scenes of other labels and sizes."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        segment = torch.tensor([0, 1] * (index + 2))[: 2 + index]
        coord = torch.full((len(segment), 3), float(index))
        offset = torch.tensor([len(segment)])
        return {"coord": coord, "segment": segment, "offset": offset}


class Meaning(Constant):
    """Predicts class 1 where points lie far out; its loss is how far."""

    def forward(self, batch):
        far = batch["coord"][:, 0] > 2
        logits = torch.stack([~far, far], dim=1).float()
        return {"loss": batch["coord"].mean(), "seg_logits": logits}


def _scored(folder):
    """Write the scores of batches of one and of three scenes."""
    rank, size = comm.get_rank(), comm.get_world_size()
    for count in (1, 3):
        sampler = EpochSampler(5, 1, False, rank, size)
        loader = SeededLoader(Scenes(), collate_fn, 1, sampler, batch_size=count)
        hook = evaluator(folder, loader, filename=f"{size} {count}.json")
        hook.trainer.model = Meaning()
        hook.evaluate()


def test_scores_do_not_depend_on_the_number_of_processes(tmp_path):
    """The sixth place of two processes is filled with a scene that was scored."""
    for processes in (1, 2):
        launch(_scored, processes, cfg=(str(tmp_path),))
    for count in (1, 3):
        one, two = (
            json.loads((tmp_path / f"{size} {count}.json").read_text())
            for size in (1, 2)
        )
        assert one["scenes"] == 5
        if count > 1:  # the loss is of whole batches
            del one["loss"], two["loss"], one["history"], two["history"]
        assert one == two


class Floors(torch.utils.data.Dataset):
    """Three floors with boxes on them."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        coord = scene(index)
        return {
            "coord": coord,
            "feat": coord.repeat(1, 2),
            "segment": (coord[:, 2] > 0.05).long(),
            "offset": torch.tensor([len(coord)]),
            "grid_size": 0.05,
        }


def _scored_network(folder, seed):
    """Write the scores of a network whose pooling shuffles curves in evaluation."""
    torch.manual_seed(0)
    model = build_model(
        {
            "type": "DefaultSegmentorV2",
            "num_classes": 2,
            "backbone_out_channels": 64,
            "backbone": BACKBONE,
            "criteria": [{"type": "CrossEntropyLoss", "ignore_index": -1}],
        }
    )
    sampler = EpochSampler(3, 1, False, comm.get_rank(), comm.get_world_size())
    own = torch.Generator()  # a loader without one draws from the common
    loader = SeededLoader(Floors(), collate_fn, 1, sampler, batch_size=1, generator=own)
    name = f"{comm.get_world_size()} {seed}.json"
    hook = evaluator(folder, loader, filename=name)
    hook.trainer.model = model
    torch.manual_seed(seed + comm.get_rank())
    before = torch.get_rng_state()
    hook.evaluate()
    # training goes on with the draws that it would have had
    assert torch.equal(torch.get_rng_state(), before)


def test_scores_of_a_network_depend_on_neither_draws_nor_processes(tmp_path):
    for processes, seed in ((1, 1), (1, 2), (2, 1)):
        launch(_scored_network, processes, cfg=(str(tmp_path), seed))
    one, *others = (
        json.loads((tmp_path / f"{name}.json").read_text())
        for name in ("1 1", "1 2", "2 1")
    )
    assert one["scenes"] == 3
    assert others == [one, one]


def test_refusals(tmp_path):
    data = batch([0, 0])
    data["inverse"] = torch.tensor([0, 0, 1])
    with pytest.raises(UserError, match="no 'origin_segment'"):
        evaluator(tmp_path, [data]).evaluate()
    data["origin_segment"] = torch.tensor([0, 0, 0])
    data["offset"] = torch.tensor([1, 2])
    with pytest.raises(UserError, match="set batch_size_val"):
        evaluator(tmp_path, [data]).evaluate()
    del data["segment"]
    with pytest.raises(UserError, match="no 'segment'"):
        evaluator(tmp_path, [data]).evaluate()
