"""Monitors that tell learning from its semblance."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pointins_plugin.errors import UserError
from pointins_plugin.host import HOOKS, HookBase, unwrapped, write_scalars

from .progress import start_step

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


@torch.no_grad()
def offset_distribution(shift: Tensor, prior: Any) -> dict[str, float]:
    """Describe the lengths and directions of offsets beside their prior.

    Args:
        shift: (N, 3) metres.
        prior: magnitude prior with ``median`` and ``quantile(u)``.

    Returns:
        ``length_qXX`` the quantiles of length over the prior's own at the same
        probability (1 where they agree), ``resultant`` the length of the mean
        direction (1: all alike, 0: balanced), ``eigen_min`` and ``eigen_max`` of the
        directions' second moment (both 1/3 on the uniform sphere).
    """
    shift = shift.float()
    levels = torch.tensor(QUANTILES, device=shift.device)
    length = torch.linalg.vector_norm(shift, dim=1)
    expected = prior.quantile(levels).to(length)
    found = torch.quantile(_at_most(length, 10**6), levels)
    result = {
        f"length_q{round(100 * level):02d}": float(ratio)
        for level, ratio in zip(QUANTILES, found / expected, strict=True)
    }
    unit = F.normalize(shift, dim=1)
    moment = torch.linalg.eigvalsh(unit.t().double() @ unit.double() / len(unit))
    result["resultant"] = float(torch.linalg.vector_norm(unit.mean(0)))
    result["eigen_min"] = float(moment[0])
    result["eigen_max"] = float(moment[2])
    return result


@torch.no_grad()
def usage_entropy(similarity: Tensor) -> float:
    """Return the entropy of prototype usage over its largest value, in [0, 1].

    Usage is how often each prototype is a point's nearest (N, K); 0 means that one
    prototype takes all.
    """
    usage = torch.bincount(similarity.argmax(1), minlength=similarity.shape[1])
    usage = usage.double() / usage.sum()
    return float(torch.special.entr(usage).sum() / torch.log(torch.tensor(len(usage))))


@torch.no_grad()
def offset_r2(shift: Tensor, truth: Tensor, mask: Tensor) -> float:
    """Return the R^2 of offsets against true ones, NaN where fewer than two count.

    Args:
        shift, truth: (N, 3) metres; mask: (N,) bool, points that count.
    """
    shift, truth = shift[mask].double(), truth[mask].double()
    if len(truth) < 2:
        return float("nan")
    spread = (truth - truth.mean(0)).square().sum()
    return float(1 - (shift - truth).square().sum() / spread)


@HOOKS.register_module()
class CollapseMonitor(HookBase):
    """Log, every so many steps, whether offsets and prototypes are alive.

    A falling loss and healthy lengths are no evidence of learning: a branch that
    has settled in self-consistent fragments shows both. Therefore beside them the
    share of tokens with a target, pseudo-instances per cloud and, where the batch
    carries labels, R^2 of the targets and of the teacher's offsets.

    Args:
        every: steps between two looks.
        warn: also log a warning line when a limit of health is passed.

    Written as ``monitor/*`` scalars; the last values are in ``latest``. A model that
    keeps no ``latest`` of its steps cannot be monitored, which is logged once.

    Raises:
        UserError: ``every`` is below 1.
    """

    def __init__(self, every: int = 50, warn: bool = True):
        if every < 1:
            raise UserError(f"CollapseMonitor: every={every}; give 1 or more steps")
        self.every = every
        self.warn = warn
        self.latest: dict[str, float] = {}
        self._step = 0

    def before_train(self) -> None:
        self._step = start_step(self.trainer)
        model = self._model()
        if not hasattr(model, "latest"):
            self.trainer.logger.warning(
                f"CollapseMonitor: {type(model).__name__} keeps no latest of its "
                "steps: nothing is monitored"
            )

    def _model(self) -> Any:
        return unwrapped(self.trainer.model)

    def after_step(self) -> None:
        self._step += 1
        if self._step % self.every:
            return
        model = self._model()
        state = getattr(model, "latest", None)
        if not state:
            return
        self.latest = self.measure(state, getattr(model, "offset_branch", None))
        scalars = {f"monitor/{name}": value for name, value in self.latest.items()}
        write_scalars(self.trainer, scalars, "Step", self._step)
        self.trainer.logger.info(
            f"Monitor [{self._step}] "
            + " ".join(f"{name}: {value:.3f}" for name, value in self.latest.items())
        )
        if self.warn:
            for line in self.complaints(self.latest):
                self.trainer.logger.warning(f"Monitor [{self._step}] {line}")

    @staticmethod
    def measure(state: dict[str, Any], branch: Any = None) -> dict[str, float]:
        """Return the figures of one step from the model's ``latest``."""
        figures = {}
        if "teacher_outputs" in state:
            figures["usage_entropy"] = usage_entropy(state["teacher_outputs"])
        match = state["same_view"]
        student = state["student_feature"][match.student].float()
        teacher = state["teacher_feature"][match.teacher].float()
        cosine = F.cosine_similarity(student, teacher, dim=1)
        figures["student_teacher"] = float(1 - cosine.mean()) if len(cosine) else 0.0
        if branch is None or "teacher_shift" not in state:
            return figures
        shift, target = state["teacher_shift"], state["target"]
        # Offsets of planes that are left out are never taught, and mean nothing.
        taught = shift if target.plane is None else shift[~target.plane]
        if len(taught):
            figures.update(offset_distribution(taught, branch.prior))
        clouds = int(state["teacher_batch"].max()) + 1 if len(shift) else 1
        instances = int(target.label.max()) + 1 if len(shift) else 0
        figures["target_share"] = float(target.mask.float().mean())
        figures["pseudo_instances"] = instances / clouds
        if "true_shift" in state:
            thing = state["true_instance"] >= 0
            truth = state["true_shift"]
            figures["target_r2"] = offset_r2(target.shift, truth, thing & target.mask)
            figures["shift_r2"] = offset_r2(shift, truth, thing)
        return figures

    @staticmethod
    def complaints(figures: dict[str, float]) -> list[str]:
        """Return a line for every figure that says the training is not healthy."""
        lines = []
        if figures.get("usage_entropy", 1) < 0.2:
            lines.append("prototypes collapse: few of them take all points")
        if figures.get("resultant", 0) > 0.8:
            lines.append("offsets point one way: no instance is told yet")
        if figures.get("length_q50", 1) < 0.05:
            lines.append("offsets vanish: their median is under 5 % of the prior's")
        if figures.get("target_share", 1) < 0.01:
            lines.append("under 1 % of tokens have a target: check radius and prior")
        return lines


def _at_most(values: Tensor, count: int) -> Tensor:
    """Thin values evenly: torch.quantile refuses more than 16 million."""
    return values[:: max(1, len(values) // count)]
