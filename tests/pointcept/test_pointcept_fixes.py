"""What is wrapped in Pointcept, one fix at a time."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import small_runs

from pointins_plugin import host
from pointins_plugin.errors import UserError

DEMO = "configs/pointins/demo-pretrain.py"


@pytest.fixture
def demo():
    return str(Path(__file__).resolve().parents[2] / DEMO)


def test_an_option_may_name_a_hook_by_its_type(demo, tmp_path):
    options = {"hooks.EMATeacherHook.momentum_base": 0.5, "save_path": str(tmp_path)}
    cfg = host.default_config_parser(demo, options)
    (teacher,) = [hook for hook in cfg.hooks if hook.type == "EMATeacherHook"]
    assert teacher.momentum_base == 0.5


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("bacth_size", "did you mean 'batch_size'"),
        ("modle.type", "did you mean 'model'"),
        ("hooks.EMATeacher.momentum_base", "did you mean 'EMATeacherHook'"),
    ],
)
def test_an_option_that_is_no_key_is_an_error(key, message, demo, tmp_path):
    with pytest.raises(UserError, match=message):
        host.default_config_parser(demo, {key: 1, "save_path": str(tmp_path / "run")})
    assert not (tmp_path / "run").exists()


def test_entries_of_plain_lists_are_set_by_their_place(demo, tmp_path):
    options = {"model.backbone.order.1": "hilbert", "model.backbone.order.0": "z-trans"}
    config = tmp_path / "own.py"
    config.write_text(
        f"_base_ = ['{demo}']\nmodel = dict(backbone=dict(order=['z', 'z', 'z']))\n"
    )
    cfg = host.default_config_parser(
        str(config), {**options, "save_path": str(tmp_path / "run")}
    )
    assert cfg.model.backbone.order == ["z-trans", "hilbert", "z"]


@pytest.mark.parametrize("batches", [1, 4])
def test_weight_decay_ends_with_the_run(batches):
    from pointcept.engines.hooks.misc import WeightDecaySchedular

    steps = 8
    cfg = SimpleNamespace(
        gradient_accumulation_steps=batches,
        scheduler=SimpleNamespace(total_steps=steps),
    )
    hook = WeightDecaySchedular(base_value=0.04, final_value=0.2)
    hook.trainer = SimpleNamespace(
        cfg=cfg,
        start_epoch=0,
        train_loader=[],
        optimizer=SimpleNamespace(param_groups=[{}]),
        scheduler=SimpleNamespace(last_epoch=0),
        writer=None,
    )
    hook.before_train()
    decays = []
    for step in range(steps):
        hook.trainer.scheduler.last_epoch = step
        for _ in range(batches):
            hook.before_step()
        decays.append(hook.trainer.optimizer.param_groups[0]["weight_decay"])
    # half a cosine from one value to the other
    share = 0.5 * (1 - np.cos(np.pi * np.arange(steps) / steps))
    np.testing.assert_allclose(decays, 0.04 + 0.16 * share, atol=1e-7)


def test_a_folder_without_scenes_is_an_error_of_the_user(in_data, tmp_path):
    cfg = small_runs.small_config("scannet-pretrain", tmp_path)
    cfg.data.train.data_root = str(tmp_path / "none")
    with pytest.raises(UserError, match=r"not one batch.*none.*POINTINS_DATA"):
        small_runs.train(cfg)


def test_what_numpy_no_longer_has_is_put_back(monkeypatch):
    from pointins_plugin.host import pointcept_fixes

    monkeypatch.setattr(np, "in1d", None, raising=False)  # put back after the test
    del np.in1d  # noqa: NPY201
    pointcept_fixes.put_back_in1d()
    assert np.in1d([1, 2, 3], [2]).tolist() == [False, True, False]  # noqa: NPY201


@pytest.mark.parametrize("on", [True, False])
def test_scalars_go_to_wandb_where_it_is_on(on, monkeypatch):
    from pointins_plugin.host import pointcept_extras

    logged, drawn = [], []
    fake = SimpleNamespace(
        define_metric=lambda name, step_metric: drawn.append((name, step_metric)),
        log=lambda values, step: logged.append((values, step)),
        run=SimpleNamespace(step=17),
    )
    monkeypatch.setattr(pointcept_extras, "wandb", fake)
    written = []
    trainer = SimpleNamespace(
        writer=SimpleNamespace(add_scalar=lambda *words: written.append(words)),
        cfg=SimpleNamespace(enable_wandb=on),
    )
    host.write_scalars(trainer, {"val/mIoU": 0.5}, "Epoch", 3)
    assert written == [("val/mIoU", 0.5, 3)]
    assert logged == ([({"Epoch": 3, "val/mIoU": 0.5}, 17)] if on else [])
    assert drawn == ([("val/mIoU", "Epoch")] if on else [])
    trainer.writer = None  # of the other processes
    host.write_scalars(trainer, {"val/mIoU": 0.5}, "Epoch", 3)
    assert len(written) == 1


def test_a_model_that_proposes_nothing_is_given_all_it_was_called_with():
    from pointins_plugin.host.pointcept_fixes import _without_things

    def forward(self, data_dict, *options, **named):
        given.append((options, named))
        if not self.training:
            raise IndexError
        return {}

    given = []
    model = SimpleNamespace(training=False)
    result = _without_things(forward)(model, {"coord": [0]}, 1, named=2)
    assert given == 2 * [((1,), {"named": 2})]
    assert result["pred_masks"].shape == (0, 1)
