"""What was expected of PointINS before the study ran, beside what came out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pointins_plugin.study.ladder import GEOMETRY, PRETRAINING
from pointins_plugin.study.tables import (
    NAMES,
    Column,
    Deviation,
    by_seed,
    difference,
    linear_columns,
    main_metrics,
    paired,
    scores_of,
    verdict,
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
        other: the value it is compared with, of geometry alone; None: ``own`` of the
            row that is the baseline.
    """

    title: str
    own: Column
    least: float
    other: Column | None = None

    def gains(
        self,
        found: Iterable[Mapping[str, Any]],
        base: Iterable[Mapping[str, Any]],
        geometry: Iterable[Mapping[str, Any]],
    ) -> list[float]:
        """Return the differences of a row's results, a seed each.

        Args:
            found: the row's.
            base: those of the row that is the baseline.
            geometry: what coordinates alone find.
        """
        if self.other is None:
            other = by_seed(self.own, base)
        else:
            other = by_seed(self.other, geometry)
        return paired(by_seed(self.own, found), other)

    def cell(self, gains: Sequence[float], deviation: Deviation) -> str:
        """Return the difference over seeds and whether it is what was expected."""
        text = difference(gains, deviation, self.own.digits)
        if not gains:
            return text
        return f"{text}: {verdict(gains, deviation, self.least)}"


def claims(panoptic: bool) -> list[Claim]:
    """Return the claims, in an order that does not depend on ``panoptic``.

    The label-free ones compare components of shifted points with components of the
    coordinates alone, both without planes or ground.
    """
    main = main_metrics(panoptic)[0]
    instances, classes, _, ridge = linear_columns(main)

    def over_geometry(title: str, key: str, least: float) -> Claim:
        own, geometry = (
            Column(NAMES[key], scores_of(stage, "methods", method, key))
            for stage, method in (
                (PRETRAINING, "components"),
                (GEOMETRY, "plane_components"),
            )
        )
        return Claim(title, own, least, geometry)

    return [
        Claim(
            f"linear AP +{_MAIN['map']}, PQ +{_MAIN['pq']:.0f}", instances, _MAIN[main]
        ),
        Claim("linear mIoU no more than .5 below", classes, -0.5),
        Claim("R² of offsets +.2", ridge, 0.2),
        over_geometry("label-free AP50 above geometry alone", "ap50", 0.0),
        over_geometry("label-free AP25 10 above geometry alone", "ap25", 10.0),
    ]
