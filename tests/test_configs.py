"""Every shipped config: it reads, dumps, and builds its pipeline and hooks."""

import copy

import pytest

from pointins_plugin.host import HOOKS, Compose, Config, build_model
from pointins_plugin.paths import config_root

CONFIGS = sorted((config_root() / "pointins").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_reads_dumps_and_builds(path, tmp_path):
    cfg = Config.fromfile(path)
    cfg.dump(tmp_path / "dumped.py")
    assert Config.fromfile(tmp_path / "dumped.py")._cfg_dict == cfg._cfg_dict
    for part in ("train", "val"):
        if part in cfg.data:
            Compose(cfg.data[part].transform)
    hooks = [HOOKS.build(entry) for entry in cfg.hooks]
    assert any(hasattr(hook, "averages_teacher") for hook in hooks)
    groups = 1 + len(cfg.param_dicts or ())
    max_lr = cfg.scheduler.max_lr
    assert groups == (len(max_lr) if isinstance(max_lr, list) else 1)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_model_builds_shrunk(path):
    model = copy.deepcopy(Config.fromfile(path).model)
    stages = len(model.backbone.enc_depths)
    model.backbone.update(
        enc_depths=(1,) * stages, enc_channels=(8,) * stages, enc_num_head=(1,) * stages
    )
    model.semantic.update(hidden_channels=8, embed_channels=8, num_prototypes=8)
    net = build_model(model)
    assert net.ema_pairs()


def test_presets_are_spelled_out_and_twins_differ_in_nothing_else():
    root = config_root() / "pointins"
    for name, other in (
        ("mosd-pretrain", "mosd-pretrain-paper"),
        ("demo-pretrain", "demo-pretrain-paper"),
        ("scannet-pretrain", "scannet-pretrain-spatial"),
    ):
        a, b = (Config.fromfile(root / f"{stem}.py") for stem in (name, other))
        assert a.model.offset_branch.scr != b.model.offset_branch.scr
        assert a.model.offset_branch.scr.keys() == b.model.offset_branch.scr.keys()
        for cfg in (a, b):
            del cfg.model.offset_branch["scr"], cfg.model.offset_branch["odr"]
        assert a.model == b.model
        assert a.data == b.data
        assert a.hooks == b.hooks
    paper = Config.fromfile(root / "scannet-pretrain.py").model.offset_branch
    defaults = build_model({"type": "OffsetBranch", **paper})
    plain = {**paper, "scr": {"type": "SCRLoss"}, "odr": {"type": "ODRLoss"}}
    typed = build_model({"type": "OffsetBranch", **plain})
    for part in ("scr", "odr"):
        ours, theirs = vars(getattr(defaults, part)), vars(getattr(typed, part))
        simple = {
            k: v for k, v in ours.items() if isinstance(v, (int, float, str, bool))
        }
        assert simple
        assert all(theirs[key] == value for key, value in simple.items())
