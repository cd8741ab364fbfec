"""Which shapes of furniture a room may hold: all, those of training, or the others."""

from dataclasses import dataclass

from pointins_plugin.errors import UserError

ALL, SEEN, HELD_OUT = "all", "seen", "held_out"
SHAPES = (ALL, SEEN, HELD_OUT)

Spans = tuple[tuple[float, float], tuple[float, float]]

# A trait's styles, and its ranges in metres or as a factor: seen, then held out.
# Every class of things has a trait here; every function that builds one draws it.
STYLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "table.base": (("legs", "panels"), ("splayed", "trestle")),
    "round_table.base": (("pedestal",), ("legs",)),
    "desk.base": (("legs",), ("drawers",)),
    "chair.kind": (("slats", "panel", "swivel"), ("shell", "stool")),
    "sofa.plan": (("straight",), ("chaise",)),
    "bed.size": (("single", "double"), ("small_double", "king")),
    "shelf.back": (("closed",), ("open",)),
    "cabinet.front": (("doors",), ("drawers",)),
    "table_lamp.body": (("ball",), ("rod",)),
    "box.stance": (("flat",), ("upright",)),
    "books.order": (("row",), ("pile",)),
}
RANGES: dict[str, Spans] = {
    "armchair.width": ((0.79, 0.85), (0.72, 0.78)),
    "armchair.back": ((0.75, 0.81), (0.84, 0.9)),
    "bed.head": ((0.8, 0.95), (1.0, 1.15)),
    "wardrobe.width": ((0.8, 1.25), (1.35, 1.8)),
    "sideboard.height": ((0.45, 0.67), (0.73, 0.95)),
    "nightstand.height": ((0.42, 0.5), (0.52, 0.6)),
    "lamp.taper": ((0.55, 0.75), (0.8, 1.0)),
    "plant.crown": ((0.6, 0.75), (0.8, 0.95)),
    "plant.leaf": ((0.8, 1.02), (1.08, 1.3)),
    "monitor.width": ((0.48, 0.57), (0.59, 0.68)),
    "monitor.lift": ((0.135, 0.16), (0.1, 0.125)),
    "television.width": ((0.9, 1.08), (1.12, 1.3)),
    "television.lift": ((0.065, 0.08), (0.04, 0.055)),
    "cushion.side": ((0.36, 0.41), (0.43, 0.48)),
    "cushion.thickness": ((0.125, 0.14), (0.1, 0.115)),
}


@dataclass(frozen=True)
class Shapes:
    """The styles and proportions that furniture may have.

    Args:
        name: "all"; "seen", a part of them; or "held_out", the others.

    Raises:
        UserError: an unknown name.
    """

    name: str = ALL

    def __post_init__(self):
        if self.name not in SHAPES:
            raise UserError(
                f"rooms have no shapes {self.name!r}; use {', '.join(SHAPES)}"
            )

    def style(self, trait: str, drawn: str) -> str:
        """Return the drawn style, or one in its place where it may not be used.

        One of all styles is drawn whatever the name, so that rooms of "all" stay those
        of published numbers.
        """
        if self.name == ALL:
            return drawn
        mine, others = STYLES[trait][:: 1 if self.name == SEEN else -1]
        return drawn if drawn in mine else mine[others.index(drawn) % len(mine)]

    def span(self, trait: str) -> tuple[float, float]:
        """Return the range of a measure; of "all", from the least to the greatest."""
        seen, held_out = RANGES[trait]
        if self.name == ALL:
            return min(*seen, *held_out), max(*seen, *held_out)
        return seen if self.name == SEEN else held_out
