"""EMA: closed form, accumulation, skipped steps, resuming, refusals."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.hooks.ema_teacher import (
    EMATeacherHook,
    cosine_momentum,
    update_teacher,
)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.student = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.teacher = copy.deepcopy(self.student)

    def ema_pairs(self):
        return [(self.student, self.teacher)]


def attach(model, total_steps=10, last_epoch=0, **options):
    hook = EMATeacherHook(**options)
    hook.trainer = SimpleNamespace(
        model=model,
        scheduler=SimpleNamespace(last_epoch=last_epoch),
        cfg=SimpleNamespace(scheduler=SimpleNamespace(total_steps=total_steps)),
        writer=None,
    )
    hook.before_train()
    return hook


def real_step(hook, value):
    """An optimizer step: the student moves and the scheduler counts it."""
    student = hook._pairs[0][0]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.fill_(value)
    hook.trainer.scheduler.last_epoch += 1
    hook.after_step()


def test_closed_form_after_k_steps():
    model = Pair()
    start = model.teacher[0].weight.clone()
    hook = attach(model, momentum_base=0.9, momentum_final=0.9)
    for value in (1.0, 2.0, 3.0):
        real_step(hook, value)
    expected = 0.9**3 * start + 0.1 * (0.9**2 * 1 + 0.9 * 2 + 3)
    torch.testing.assert_close(model.teacher[0].weight, expected)


def test_momentum_follows_the_cosine(golden_dir):
    import numpy as np

    reference = np.load(golden_dir / "cosine_schedule.npz")["momentum"]
    ours = [cosine_momentum(0.994, 1.0, step, 50) for step in range(50)]
    np.testing.assert_allclose(ours, reference, atol=1e-12)


def test_momentum_ends_where_it_should():
    assert cosine_momentum(0.9, 1.0, 0, 100) == pytest.approx(0.9)
    assert cosine_momentum(0.9, 1.0, 50, 100) == pytest.approx(0.95)
    assert cosine_momentum(0.9, 1.0, 100, 100) == 1.0


def test_four_micro_batches_are_one_update():
    model = Pair()
    start = model.teacher[0].weight.clone()
    hook = attach(model, momentum_base=0.5, momentum_final=0.5)
    for _ in range(3):
        hook.after_step()
    assert torch.equal(model.teacher[0].weight, start)
    real_step(hook, 1.0)
    torch.testing.assert_close(model.teacher[0].weight, 0.5 * start + 0.5)


def test_skipped_step_is_no_update():
    model = Pair()
    hook = attach(model, momentum_base=0.5, momentum_final=0.5)
    before = copy.deepcopy(model.teacher.state_dict())
    with torch.no_grad():
        model.student[0].weight.fill_(9.0)
    hook.after_step()
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[name])


def test_resumed_run_equals_an_uninterrupted_one():
    def run(values, model, last_epoch):
        hook = attach(model, last_epoch=last_epoch, momentum_base=0.8)
        for value in values:
            real_step(hook, value)
        return model

    whole = run([1.0, 2.0, 3.0, 4.0], Pair(), 0)
    half = run([1.0, 2.0], Pair(), 0)
    resumed = Pair()
    resumed.load_state_dict(half.state_dict())
    run([3.0, 4.0], resumed, 2)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_buffers_are_copied():
    model = Pair()
    model.student[1].running_mean.fill_(7.0)
    model.student[1].num_batches_tracked.fill_(5)
    update_teacher(model.student, model.teacher, momentum=0.9)
    assert (model.teacher[1].running_mean == 7).all()
    assert model.teacher[1].num_batches_tracked == 5


def test_teacher_may_have_norms_of_its_own():
    """Equal to a batch norm of the teacher's weights that saw the same batches."""
    model = Pair()
    model.teacher.append(nn.Dropout(0.5))
    model.student.append(nn.Dropout(0.5))
    hook = attach(model, momentum_base=0.5, momentum_final=0.5, own_norms=True)
    alone = copy.deepcopy(model.teacher[1]).train()
    for step in range(3):
        model.train()
        model.teacher.eval()  # as PointINS has it
        hook.before_epoch()
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
        model.student(5 + x)
        with torch.no_grad():
            y = model.teacher(x)
            alone.load_state_dict(model.teacher[1].state_dict() | stats(alone))
            torch.testing.assert_close(y, alone(model.teacher[0](x)))
        real_step(hook, float(step))
    for name, value in stats(alone).items():
        torch.testing.assert_close(model.teacher[1].state_dict()[name], value)
    assert not torch.allclose(alone.running_mean, model.student[1].running_mean)
    assert not model.teacher[2].training
    model.eval()  # evaluation takes what the teacher kept
    alone.load_state_dict(model.teacher[1].state_dict() | stats(alone))
    torch.testing.assert_close(model.teacher(x), alone.eval()(model.teacher[0](x)))


def stats(norm):
    return {k: v.clone() for k, v in norm.named_buffers()}


def test_half_precision_averages_in_float32():
    student = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    teacher = copy.deepcopy(student)
    with torch.no_grad():
        teacher.weight.fill_(1.0)
        student.weight.fill_(3.0)
    update_teacher(student, teacher, momentum=0.5)
    assert teacher.weight.item() == 2.0


def test_teacher_rests_in_evaluation_mode():
    model = Pair()
    hook = attach(model)
    model.train()
    hook.before_epoch()
    assert not model.teacher.training
    assert model.student.training
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_a_model_without_pairs_is_refused():
    with pytest.raises(UserError, match="Linear names no pairs"):
        attach(nn.Linear(2, 2))
    with pytest.raises(UserError, match="momentum_base=2"):
        EMATeacherHook(momentum_base=2)


def test_different_teacher_is_refused():
    with pytest.raises(UserError, match="student and teacher differ at 'bias'"):
        update_teacher(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), 0.9)
