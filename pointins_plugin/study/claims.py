"""What was expected of PointINS before the study ran, beside what came out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pointins_plugin.study.ladder import PRETRAINING
from pointins_plugin.study.tables import (
    NAMES,
    Column,
    by_seed,
    difference,
    linear_columns,
    main_metrics,
    paired,
    scores_of,
)

_MAIN = {"map": 3.5, "pq": 4.0}  # as much as the paper reports
CLAIMED = ("pointins-spatial", "pointins-sonata")  # rows that are held to the claims


@dataclass(frozen=True)
class Claim:
    """A difference that was expected.

    Attributes:
        title: of its row, with what was expected.
        own: the value of the row it is claimed of.
        least: the difference that has to be exceeded.
        other: the value it is compared with, of the same run; None: ``own`` of the
            row that is the baseline.
    """

    title: str
    own: Column
    least: float
    other: Column | None = None

    def cell(
        self, found: Iterable[Mapping[str, Any]], base: Iterable[Mapping[str, Any]]
    ) -> str:
        """Return the difference over seeds and whether it is what was expected."""
        own = by_seed(self.own, found)
        if self.other is None:
            other = by_seed(self.own, base)
        else:
            other = by_seed(self.other, found)
        gains = paired(own, other)
        text = difference(gains, self.own.digits)
        if not gains:
            return text
        met = np.mean(gains) > self.least
        return f"{text}: {'met' if met else '**not met**'}"


def claims(panoptic: bool) -> list[Claim]:
    """Return the claims, in an order that does not depend on ``panoptic``.

    The label-free ones compare components of shifted points with components of the
    coordinates alone, both without planes or ground.
    """
    main = main_metrics(panoptic)[0]
    instances, classes, _, ridge = linear_columns(main)

    def label_free(method: str, key: str) -> Column:
        return Column(NAMES[key], scores_of(PRETRAINING, "methods", method, key))

    def over_geometry(title: str, key: str, least: float) -> Claim:
        geometry = label_free("plane_components", key)
        return Claim(title, label_free("components", key), least, geometry)

    return [
        Claim(
            f"linear AP +{_MAIN['map']}, PQ +{_MAIN['pq']:.0f}", instances, _MAIN[main]
        ),
        Claim("linear mIoU no more than .5 below", classes, -0.5),
        Claim("R² of offsets +.2", ridge, 0.2),
        over_geometry("label-free AP50 above geometry alone", "ap50", 0.0),
        over_geometry("label-free AP25 10 above geometry alone", "ap25", 10.0),
    ]
