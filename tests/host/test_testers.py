"""Testing whole scenes: votes of fragments, the report, the best checkpoint."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.host import DATASETS, ConfigDict, load_all
from pointins_plugin.host.standalone.registry import HOOKS, TESTERS

NAMES = ["floor", "chair", "table"]


class Reading(nn.Module):
    """Predicts the class and the instance that the features hold."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, batch):
        logits = self.scale * batch["feat"][:, :3]
        if "instance" not in batch:
            return {"seg_logits": logits}
        masks = batch["instance"] == torch.arange(2)[:, None]
        return {
            "pred_masks": masks,
            "pred_classes": torch.tensor([1, 2]),
            "pred_scores": torch.tensor([0.9, 0.8]),
        }


def config(tmp_path, **options):
    data = {"names": NAMES, "num_classes": 3, "ignore_index": -1, "test": {}}
    return ConfigDict(
        {"save_path": str(tmp_path), "data": data, "weight": None, **options}
    )


def fragment(index, logits):
    return {
        "coord": torch.zeros(len(index), 3),
        "feat": torch.tensor(logits).float(),
        "index": torch.tensor(index),
        "offset": torch.tensor([len(index)]),
    }


def scene(**more):
    """Three points; the second is voted twice for class 1 and once, louder, for 2."""
    fragments = [
        fragment([0, 1], [[9, 0, 0], [0, 1, 0]]),
        fragment([2, 1], [[0, 0, 9], [0, 1, 0]]),
        fragment([1], [[0, 0, 1.2]]),
    ]
    return {
        "segment": np.array([0, 1, 2]),
        "name": "a",
        "fragment_list": fragments,
        **more,
    }


def semantic_tester(tmp_path, data):
    return TESTERS.build(
        dict(
            type="SemSegTester",
            cfg=config(tmp_path),
            model=Reading(),
            test_loader=[data],
            verbose=True,
        )
    )


def test_fragments_vote(tmp_path):
    result = semantic_tester(tmp_path, scene()).test()
    assert result["miou"] == 100
    assert json.loads((tmp_path / "result/semantic.json").read_text())["scenes"] == 1
    assert np.load(tmp_path / "result/a_pred.npy").tolist() == [0, 1, 2]


def test_where_nothing_is_labelled_the_report_has_no_number(tmp_path):
    semantic_tester(tmp_path, scene(segment=np.full(3, -1))).test()

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    text = (tmp_path / "result/semantic.json").read_text()
    assert json.loads(text, parse_constant=refuse)["allacc"] is None


def test_a_model_goes_on_to_train_after_a_test_that_fails(tmp_path):
    tester = semantic_tester(tmp_path, scene())
    tester.test_loader = loader(tmp_path, 0, damaged=0)
    tester.model.train()
    with pytest.raises(UserError, match="no points"):
        tester.test()
    assert tester.model.training


def test_thinned_scenes_are_scored_at_their_original_points(tmp_path):
    data = scene(
        inverse=np.array([0, 0, 1, 2, 2]), origin_segment=np.array([0, 0, 1, 2, 1])
    )
    result = semantic_tester(tmp_path, data).test()
    assert result["allacc"] == pytest.approx(80)


def test_instances(tmp_path):
    instance = torch.tensor([0, 1, -1]).repeat_interleave(150)
    batch = {
        "coord": torch.rand(450, 3),
        "feat": torch.zeros(450, 3),
        "offset": torch.tensor([450]),
        "segment": torch.tensor([1, 2, 0]).repeat_interleave(150),
        "instance": instance,
        "name": ["a"],
    }
    tester = TESTERS.build(
        dict(
            type="InsSegTester",
            segment_ignore_index=(-1, 0),
            instance_ignore_index=-1,
            verbose=False,
            cfg=config(tmp_path),
            model=Reading(),
            test_loader=[batch],
        )
    )
    result = tester.test()
    assert result["ap50"] == 100
    assert set(result["classes"]) == {"chair", "table"}
    assert (tmp_path / "result/instance_ap.json").is_file()


class Drawing(Reading):
    """Draws a number each time, and keeps it."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def forward(self, batch):
        self.drawn.append(torch.rand(()).item())
        segment = torch.zeros(len(batch["coord"]), dtype=torch.long)
        panoptic = {"pred_segment": segment, "pred_instance": segment - 1}
        return {**super().forward(batch), **panoptic}


WHOLE = {
    "coord": torch.rand(4, 3, generator=torch.Generator().manual_seed(0)),
    "feat": torch.zeros(4, 3),
    "offset": torch.tensor([4]),
    "segment": torch.tensor([0, 0, 1, 1]),
    "instance": torch.tensor([-1, -1, 0, 0]),
    "name": ["a"],
}


@DATASETS.register_module(force=True)
class ThinnedScenes(torch.utils.data.Dataset):
    """Two scenes of points drawn from both generators; the damaged one is told."""

    def __init__(self, damaged=None):
        self.damaged = damaged

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == self.damaged:
            raise UserError("scene b has no points; delete it")
        drawn = torch.from_numpy(np.random.rand(4, 3)).float() + torch.rand(4, 3)
        offset = torch.tensor([4])
        return {**WHOLE, "coord": drawn, "offset": offset, "name": "ab"[index]}


def loader(tmp_path, workers, seed=3, **options):
    """Return the test scenes' loader of a tester that has no loader given."""
    data = {"type": "ThinnedScenes", **options}
    cfg = config(tmp_path, num_worker_per_gpu=workers, seed=seed)
    cfg.data["test"] = data
    tester = dict(type="InsSegTester", segment_ignore_index=(-1, 0))
    return TESTERS.build({**tester, "cfg": cfg, "model": Reading()}).test_loader


def test_points_of_scenes_do_not_depend_on_workers_or_earlier_draws(tmp_path):
    found = []
    for workers in (0, 0, 1):
        found.append([batch["coord"] for batch in loader(tmp_path, workers)])
        assert len(found[-1]) == 2
    assert not torch.equal(*found[0])
    for other in found[1:]:
        assert torch.equal(torch.cat(other), torch.cat(found[0]))
    assert not torch.equal(next(iter(loader(tmp_path, 0, 4)))["coord"], found[0][0])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_scene_is_one_line(tmp_path, workers):
    with pytest.raises(UserError) as error:
        list(loader(tmp_path, workers, damaged=1))
    assert str(error.value) == "scene b has no points; delete it"


@pytest.mark.parametrize(
    ("tester", "data"),
    [
        (dict(type="SemSegTester"), scene()),
        (dict(type="InsSegTester", segment_ignore_index=(-1, 0)), WHOLE),
        (dict(type="PanopticTester"), WHOLE),
    ],
)
def test_models_draw_the_same_in_every_test(tmp_path, tester, data):
    cfg, model = config(tmp_path), Drawing()
    cfg.data.things = ["chair", "table"]
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        options = {"cfg": cfg, "model": model, "test_loader": [data]}
        TESTERS.build({**tester, **options}).test()
        assert torch.equal(torch.get_rng_state(), before)
    assert len(model.drawn) >= 2
    assert len(set(model.drawn)) == 1


def test_the_best_checkpoint_is_tested(tmp_path):
    model, seen = Reading(), []

    @TESTERS.register_module("ToyTester", force=True)
    class ToyTester:
        def __init__(self, cfg, model, word):
            seen.append((model.scale.item(), word))

        def test(self):
            seen.append("tested")

    (tmp_path / "model").mkdir()
    torch.save(
        {"state_dict": {"scale": torch.tensor(7.0)}}, tmp_path / "model/model_best.pth"
    )
    cfg = config(tmp_path, test={"type": "ToyTester", "word": "hi"})
    for last in (True, False):
        hook = HOOKS.build(dict(type="PreciseEvaluator", test_last=last))
        hook.trainer = SimpleNamespace(cfg=cfg, model=model)
        hook.after_train()
    assert seen == [(1.0, "hi"), "tested", (7.0, "hi"), "tested"]


def test_the_report_of_an_earlier_run_goes_unless_this_one_resumes(tmp_path):
    report, mine = (tmp_path / "result" / name for name in ("semantic.json", "my.json"))
    report.parent.mkdir()
    for resume in (True, False):
        report.touch()
        mine.touch()
        cfg = config(tmp_path, test={"type": "SemSegTester"}, resume=resume)
        hook = HOOKS.build(dict(type="PreciseEvaluator"))
        hook.trainer = SimpleNamespace(cfg=cfg)
        hook.before_train()
        assert report.exists() == resume
        assert mine.exists()


def test_tested_weights_are_logged(tmp_path, capsys):
    model = Reading()
    for more in ({"epoch": 12}, {}):
        torch.save({"state_dict": model.state_dict(), **more}, tmp_path / "x.pth")
        load_all(model, str(tmp_path / "x.pth"))
    one, other = capsys.readouterr().out.splitlines()
    assert one.endswith("x.pth, after epoch 12")
    assert other.endswith("x.pth")


def test_refusals(tmp_path):
    cfg = config(tmp_path)
    del cfg.data["test"]
    with pytest.raises(UserError, match=r"needs data\.test"):
        TESTERS.build(dict(type="SemSegTester", cfg=cfg))
    with pytest.raises(UserError, match="name one by -w"):
        TESTERS.build(dict(type="SemSegTester", cfg=config(tmp_path), test_loader=[0]))
    torch.save({"state_dict": {"other": torch.zeros(1)}}, tmp_path / "x.pth")
    cfg = config(tmp_path, test={"type": "SemSegTester"})
    (tmp_path / "model").mkdir()
    (tmp_path / "x.pth").rename(tmp_path / "model/model_best.pth")
    hook = HOOKS.build(dict(type="PreciseEvaluator"))
    hook.trainer = SimpleNamespace(cfg=cfg, model=Reading())
    with pytest.raises(UserError, match="all are needed"):
        hook.after_train()
