"""A head's input is what the model gives it, and nothing behind it runs."""

import pytest
import torch
import torch.nn as nn

from pointins_plugin.models.head_input import head_input


class _Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.unused = nn.Identity(), nn.Identity()
        self.ran_behind = False

    def forward(self, x):
        found = self.head(x + 1)
        self.ran_behind = True
        return found


def test_the_pass_ends_at_the_head_and_leaves_no_hook():
    model = _Model()
    assert head_input(model.head, lambda: model(torch.ones(2))).tolist() == [2, 2]
    assert not model.ran_behind
    assert model(torch.ones(1)).tolist() == [2]  # nothing stops it any more


def test_a_head_that_is_not_used_is_said():
    model = _Model()
    with pytest.raises(RuntimeError, match="does not use Identity"):
        head_input(model.unused, lambda: model(torch.ones(2)))
    assert model.ran_behind


def test_what_a_model_raises_is_passed_on():
    model = _Model()
    with pytest.raises(TypeError):
        head_input(model.head, lambda: model(None))
    assert not model.head._forward_pre_hooks
