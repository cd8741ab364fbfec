"""What is looked at as training with labels begins: classes, names and labels."""

from types import SimpleNamespace

import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.hooks import (
    InstanceAPEvaluator,
    PanopticEvaluator,
    SemSegEvaluator,
)
from pointins_plugin.hooks.labelled import LabelledValidationHook, check_classes
from pointins_plugin.host.standalone.config import Config

OURS = (SemSegEvaluator, InstanceAPEvaluator, PanopticEvaluator)


def config(model=None, **data):
    data = dict(names=["floor", "mug"], num_classes=2, ignore_index=-1) | data
    return Config(dict(data=data, model=model or {}, evaluate=False, resume=True))


def hook_of(batches=100, **data):
    hook = LabelledValidationHook()
    hook.trainer = SimpleNamespace(
        cfg=config(**data), train_loader=range(batches), comm_info={}
    )
    hook.before_train()
    return hook


def step(hook, segment):
    hook.trainer.comm_info["input_dict"] = {"segment": torch.tensor(segment)}
    hook.before_step()


@pytest.mark.parametrize("kind", OURS)
def test_every_evaluator_of_labels_looks(kind):
    assert issubclass(kind, LabelledValidationHook)
    assert kind.before_step is LabelledValidationHook.before_step


@pytest.mark.parametrize("label", [2, 40, -2, 255])
def test_a_label_that_is_no_class_is_named(label):
    hook = hook_of()
    step(hook, [0, 1, -1])
    with pytest.raises(UserError, match=rf"label {label} in 'segment'.* 2 classes"):
        step(hook, [0, 1, label])


def test_the_index_of_no_label_is_the_configs():
    step(hook_of(ignore_index=255), [0, 255])
    with pytest.raises(UserError, match="label -1"):
        step(hook_of(ignore_index=255), [0, -1])


@pytest.mark.parametrize(("batches", "looks"), [(100, 20), (3, 3)])
def test_scenes_without_a_label_end_the_run(batches, looks):
    hook = hook_of(batches)
    for _ in range(looks - 1):
        step(hook, [-1, -1])
    with pytest.raises(UserError, match="no point of the first batches has a label"):
        step(hook, [-1, -1])


def test_one_label_is_enough():
    hook = hook_of(3)
    for segment in ([-1, -1], [-1, 1], [-1, -1], [-1, -1]):
        step(hook, segment)


def test_only_the_first_batches_are_looked_at():
    hook = hook_of()
    for _ in range(20):
        step(hook, [0])
    step(hook, [7])  # a GPU is not waited for any more


def test_batches_without_classes_are_left_alone():
    hook = hook_of(1)
    hook.trainer.comm_info["input_dict"] = {"coord": torch.zeros(2, 3)}
    hook.before_step()
    hook.before_step()


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (config(num_classes=3), "data.num_classes=3, but data.names has 2"),
        (config(names=None), "needs data.names"),
        (config(num_classes=None), "needs data.num_classes"),
        (config(dict(type="DefaultSegmentorV2", num_classes=20)), "model.num_classes"),
        (
            config(dict(type="PG-v1m2", semantic_num_classes=20)),
            "model.semantic_num_classes=20",
        ),
    ],
)
def test_numbers_of_classes_that_differ(cfg, message):
    with pytest.raises(UserError, match=message):
        check_classes(cfg, "SemSegEvaluator")


@pytest.mark.parametrize(
    "model",
    [
        dict(type="DefaultSegmentorV2", num_classes=2),
        dict(type="PG-v1m1", semantic_num_classes=2),
        dict(type="SGIFormer", semantic_num_classes=1),  # of its things
        dict(type="PPT-v1m1", num_classes=(25, 2)),  # of several data sets
    ],
)
def test_numbers_that_agree(model):
    check_classes(config(model), "SemSegEvaluator")
