"""Muon: momentum whose update of a matrix is made orthogonal."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Of the quintic iteration: steepest at zero, so that singular values end between .5
# and 1.5 instead of at one, in fewer rounds.
_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Tensor, num_steps: int = 5) -> Tensor:
    """Return about ``U V^T`` of a matrix (A, B) ``= U S V^T``, in bfloat16.

    Source: Newton-Schulz iteration of Muon (Jordan et al. 2024).
    """
    a, b, c = _QUINTIC
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.bfloat16()
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)  # singular values are at most one
    for _ in range(num_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class MuonKIMI(torch.optim.Optimizer):
    """Muon for parameters of two and more dimensions, AdamW for the others.

    An update has the root mean square of AdamW's (.2), so that its learning rates and
    weight decay serve. Kernels are matrices of their first dimension by the rest.

    Args:
        params: parameters or groups; a group's ``force_adamw=True`` leaves Muon out,
            e.g. for embeddings.
        lr: learning rate.
        weight_decay: decoupled weight decay.
        momentum: of Muon.
        nesterov: look one step ahead.
        ns_steps: rounds of the orthogonalization.
        adamw_betas, adamw_eps: of AdamW.

    Source: Moonlight (arXiv 2502.16982), as Pointcept's ``Muon_KIMI``; other than
    there the group's own ``weight_decay`` and what ``WeightDecaySchedular`` makes of
    it hold.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adamw_betas: tuple[float, float] = (0.9, 0.95),
        adamw_eps: float = 1e-8,
    ):
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "adamw_betas": adamw_betas,
            "adamw_eps": adamw_eps,
            "force_adamw": False,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                is_matrix = parameter.ndim > 1 and not group["force_adamw"]
                update = self._muon if is_matrix else self._adamw
                change = update(parameter.grad, self.state[parameter], group)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(change.reshape(parameter.shape), alpha=-group["lr"])
        return loss

    @staticmethod
    def _muon(gradient: Tensor, state: dict[str, Any], group: dict) -> Tensor:
        gradient = gradient.flatten(1)
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        if group["nesterov"]:
            buffer = gradient.add(buffer, alpha=group["momentum"])
        scale = 0.2 * math.sqrt(max(gradient.shape))
        return orthogonalize(buffer, group["ns_steps"]).to(gradient) * scale

    @staticmethod
    def _adamw(gradient: Tensor, state: dict[str, Any], group: dict) -> Tensor:
        if "step" not in state:
            state["step"] = 0
            state["moment1"] = torch.zeros_like(gradient)
            state["moment2"] = torch.zeros_like(gradient)
        first, second = group["adamw_betas"]
        state["step"] += 1
        state["moment1"].lerp_(gradient, 1 - first)
        state["moment2"].lerp_(gradient.square(), 1 - second)
        mean = state["moment1"] / (1 - first ** state["step"])
        root = state["moment2"].sqrt() + group["adamw_eps"]
        return mean * math.sqrt(1 - second ** state["step"]) / root
