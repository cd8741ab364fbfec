"""Options that no loss can use are refused when it is built."""

import pytest

from pointins_plugin.losses import (
    HardestContrastiveLoss,
    ODRLoss,
    PointInfoNCELoss,
    SCRLoss,
)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (ODRLoss, {"num_projections": 0}),
        (ODRLoss, {"rounds": -1}),
        (SCRLoss, {"min_size": -3}),
        (SCRLoss, {"num_segments": 0}),
        (SCRLoss, {"num_neighbours": 0}),
        (HardestContrastiveLoss, {"num_negatives": 0}),
        (PointInfoNCELoss, {"num_pairs": -1}),
    ],
)
def test_counts_below_one_are_refused(loss, options):
    """They would give NaN, or a loss of nothing."""
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be 1 or more"):
        loss(**options)
