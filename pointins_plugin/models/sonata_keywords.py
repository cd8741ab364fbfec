"""Keywords of Pointcept's ``Sonata-v1m1`` as those of our trunk."""

from typing import Any

# Of the model there -> of SonataObjective here.
OBJECTIVE = {
    "head_hidden_channels": "hidden_channels",
    "head_embed_channels": "embed_channels",
    "head_num_prototypes": "num_prototypes",
    "teacher_temp_start": "teacher_temp_start",
    "teacher_temp_base": "teacher_temp_base",
    "teacher_temp_warmup_ratio": "teacher_temp_warmup_ratio",
    "student_temp": "student_temp",
    "mask_loss_weight": "mask_loss_weight",
    "roll_mask_loss_weight": "roll_mask_loss_weight",
    "unmask_loss_weight": "unmask_loss_weight",
}
# Unused there as well.
IGNORED = ("match_max_k",)
SONATA_KEYWORDS = {*OBJECTIVE, *IGNORED}
# Defaults there that are not ours.
OBJECTIVE_DEFAULTS = {"embed_channels": 512}
TRUNK_DEFAULTS = {"match_max_r": 0.08, "momentum_base": 0.996, "shared_grid": True}


def sonata_objective(keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the config of the ``SonataObjective`` that flat keywords describe."""
    options = {
        OBJECTIVE[name]: value
        for name, value in keywords.items()
        if name not in IGNORED
    }
    return {"type": "SonataObjective", **OBJECTIVE_DEFAULTS, **options}
