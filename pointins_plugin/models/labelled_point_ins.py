"""PointINS taught by labels: what true offsets as targets would do."""

import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import MODELS
from pointins_plugin.models.offset_branch import OffsetTarget
from pointins_plugin.models.point_ins import PointINS, token_labels


@MODELS.register_module()
class LabelledPointINS(PointINS):
    """PointINS whose targets are the true offsets of a labelled batch.

    Views, masks, matching, semantic objective and loss are those of ``PointINS``; what
    ODR and SCR make of the teacher has no say. Points without an instance have no
    target. It is something to compare with, no method of pre-training: it sees the
    labels.

    Batch: as of ``PointINS``; ``global_instance`` (N,) and ``global_instance_centroid``
    (N, 3) metres in the origin frame are needed.

    Raises:
        UserError: ODR or SCR has a mode that acts on the student (``"distribution"``,
            ``"consistency"``), or the batch carries no labels.
    """

    def _check_branch(self) -> None:
        for name in ("odr", "scr"):
            loss = getattr(self.offset_branch, name, None)
            if loss is not None and loss.mode != "target":
                raise UserError(
                    f"config: LabelledPointINS learns from true offsets alone, "
                    f"{name}.mode={loss.mode!r} would act on the student beside them; "
                    f"set {name}=None"
                )

    def _branch_targets(
        self, data_dict, tokens, shift, pitch, generator
    ) -> OffsetTarget:
        labels = token_labels(data_dict, tokens)
        if not labels:
            raise UserError(
                "batch: global_instance_centroid is not there, which LabelledPointINS "
                "learns from; add InstanceParser and collect it"
            )
        instance = labels["true_instance"].long()
        inside = instance >= 0
        pairs = torch.stack([tokens.batch[inside], instance[inside]], dim=1)
        label = torch.full_like(instance, -1)
        label[inside] = torch.unique(pairs, dim=0, return_inverse=True)[1]
        return OffsetTarget(labels["true_shift"], inside, label, None)
