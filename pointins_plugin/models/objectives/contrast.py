"""Contrasting tokens of student and teacher: PointContrast's losses as an objective."""

import torch
import torch.nn as nn
from torch import Tensor

from pointins_plugin.host import LOSSES, MODELS
from pointins_plugin.models.heads import init_linear

from .base import LocalViews, Match


@MODELS.register_module()
class ContrastObjective(nn.Module):
    """Tell the place of a visible token among those of the scene's other view.

    The student's tokens are contrasted with the teacher's tokens that show the same
    place in the other global view. The same view takes no part: it is augmented
    alike, so that coordinates alone would tell its places apart.

    Args:
        loss: config of ``PointInfoNCELoss`` or ``HardestContrastiveLoss``.
        embed_channels: channels that are contrasted, by one linear layer.

    Source: the losses are PointContrast's (ECCV 2020), whose two views go through one
    network. That the second goes through a moving average and the first is masked, as
    the offset branch needs, is ours.
    """

    student_input = "visible"
    uses_masked_view = True
    uses_other_view = True
    uses_local_views = False

    def __init__(self, loss: dict, embed_channels: int = 32):
        super().__init__()
        self.loss = LOSSES.build(loss)
        self.embed_channels = embed_channels

    def build_heads(self, in_channels: int) -> dict[str, nn.Module]:
        """Return the heads that student and teacher each own, by name."""
        head = nn.Linear(in_channels, self.embed_channels)
        init_linear(head)
        return {"contrast_head": head}

    def set_progress(self, progress: float) -> None:
        """Move the schedules to ``progress`` in [0, 1] of training: there are none."""

    def teacher_outputs(
        self, heads: nn.ModuleDict, feature: Tensor
    ) -> dict[str, Tensor]:
        """Return what is contrasted (N, E) by head; call without gradient."""
        return {"contrast_head": heads["contrast_head"](feature)}

    def forward(
        self,
        heads: nn.ModuleDict,
        feature: Tensor,
        teacher_outputs: dict[str, Tensor],
        same_view: Match | None,
        cross_view: Match,
        num_clouds: int,
        local_views: LocalViews | None = None,
    ) -> dict[str, Tensor]:
        """Return the named losses of student features (N, C)."""
        # One draw from the global generator seeds all that is drawn here: the same on
        # CPU and GPU, and reproducible from the step's seed alone.
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ()).item()))
        loss = self.loss(
            heads["contrast_head"](feature),
            teacher_outputs["contrast_head"],
            torch.stack([cross_view.student, cross_view.teacher], dim=1),
            generator,
        )
        return {"cross_view_loss": loss, "semantic_loss": loss}
