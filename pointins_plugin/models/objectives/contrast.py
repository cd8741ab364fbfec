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

    The student's tokens of each global view are contrasted with the teacher's of the
    scene's other one, among tokens whose place both views show. Each direction has a
    loss of its own: the teacher's tokens of the student's own view are no negatives.
    They are augmented as the student's are, so that coordinates alone would tell them
    apart, and one of them shows the very place that is sought.

    Args:
        loss: config of ``PointInfoNCELoss`` or ``HardestContrastiveLoss``; what it
            draws, it draws for each direction.
        embed_channels: channels that are contrasted, by one linear layer.

    Source: the losses are PointContrast's (ECCV 2020), whose two views go through one
    network. That the second goes through a moving average and the first is masked, as
    the offset branch needs, is ours, as is the mean over both directions.
    """

    student_input = "visible"
    uses_masked_view = True
    uses_other_view = True
    uses_local_views = False
    has_prototypes = False

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
        query = heads["contrast_head"](feature)
        key = teacher_outputs["contrast_head"]
        # A scene's views follow each other, the first at an even place.
        second = cross_view.batch % 2 == 1
        losses = []
        for view in (~second, second):
            rows = torch.nonzero(view)[:, 0]
            # Rows that are not matched could be of either view, and stay out.
            seen, place = cross_view.teacher[rows].unique(return_inverse=True)
            pairs = torch.stack([torch.arange(len(rows), device=rows.device), place], 1)
            losses.append(
                self.loss(query[cross_view.student[rows]], key[seen], pairs, generator)
            )
        loss = 0.5 * (losses[0] + losses[1])
        return {"cross_view_loss": loss, "semantic_loss": loss}
