"""Furniture, built of solids at random sizes and styles.

An object stands on z = 0 around the origin: x is its width, +y its front, -y its back.
Its style and its measures are those that ``room_shapes`` lets it have.
"""

import math
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from .room_colors import (
    CARTONS,
    FABRICS,
    GRAIN,
    LEAVES,
    METALS,
    MOTTLED,
    PAINTS,
    PLASTICS,
    WOODS,
    pick,
)
from .room_shapes import Shapes
from .solids import Maker, Solids, align_z

Rng = np.random.Generator


@dataclass
class Support:
    """A level rectangle that carries things.

    Attributes:
        x, y, z: its centre, in the object's frame, m.
        half_x, half_y: half sides, m.
        clear: free height above it, m.
        kind: "top", "board" (of a shelf) or "seat".
    """

    x: float
    y: float
    z: float
    half_x: float
    half_y: float
    clear: float
    kind: str


@dataclass
class Piece:
    """One object.

    Attributes:
        name: of its class.
        solids: it is built of.
        supports: what it can carry things on.
        shape: its styles and measures by the names of ``room_shapes``.
    """

    name: str
    solids: Solids
    supports: list[Support] = field(default_factory=list)
    shape: dict[str, str | float] = field(default_factory=dict)

    def __post_init__(self):
        low, high = self.solids.bounds()
        self.low, self.high = low, high

    @property
    def width(self) -> float:
        """Extent along x, m."""
        return float(self.high[0] - self.low[0])

    @property
    def depth(self) -> float:
        """Extent along y, m."""
        return float(self.high[1] - self.low[1])

    @property
    def height(self) -> float:
        """Upper end, m."""
        return float(self.high[2])


def _legs(make, x, y, top, thick, color, splay=0.0, round_=False, pattern=GRAIN):
    """Four legs with their heads at (+-x, +-y, top)."""
    for sx in (-1, 1):
        for sy in (-1, 1):
            if round_ or splay:
                foot = (sx * (x + splay), sy * (y + splay), 0)
                make.pole(
                    foot,
                    (sx * x, sy * y, top),
                    thick * 0.4,
                    color,
                    thick * 0.5,
                    pattern,
                )
            else:
                size = (thick, thick, top)
                make.box((sx * x, sy * y, top / 2), size, color, pattern=pattern)


_TABLES = ("legs", "splayed", "panels", "trestle")


def table(rng: Rng, shapes: Shapes, wood, width=None, depth=None, height=None) -> Piece:
    """A rectangular table: four legs, two panels or a trestle."""
    make = Maker()
    w = width or rng.uniform(0.9, 2.0)
    d = depth or rng.uniform(0.7, 1.0)
    h = height or rng.uniform(0.70, 0.78)
    thick = rng.uniform(0.02, 0.05)
    color = np.clip(wood + rng.normal(0, 8), 20, 245)
    under = h - thick
    make.box((0, 0, h - thick / 2), (w, d, thick), color, 0.006, pattern=GRAIN)
    drawn = _TABLES[rng.choice(4, p=[0.45, 0.25, 0.15, 0.15])]
    base = shapes.style("table.base", drawn)
    leg = color if rng.random() < 0.6 else pick(rng, METALS)
    if base == "legs":
        t = rng.uniform(0.04, 0.08)
        _legs(make, w / 2 - t, d / 2 - t, under, t, leg)
        if rng.random() < 0.5:
            for sy in (-1, 1):
                size = (w - 3 * t, 0.02, 0.08)
                make.box(
                    (0, sy * (d / 2 - t), under - 0.04), size, color, pattern=GRAIN
                )
    elif base == "splayed":
        t = rng.uniform(0.035, 0.055)
        splay = min(0.05, d * 0.06)
        inset = t + splay
        _legs(make, w / 2 - inset, d / 2 - inset, under, t, leg, splay)
    elif base == "panels":
        for sx in (-1, 1):
            size = (0.03, d * 0.85, under)
            make.box((sx * (w / 2 - 0.08), 0, under / 2), size, leg, pattern=GRAIN)
        size = (w - 0.2, 0.02, min(0.25, under * 0.5))
        make.box((0, -d * 0.3, under - size[2] / 2), size, leg, pattern=GRAIN)
    else:
        for sx in (-1, 1):
            x = sx * w * 0.36
            make.box((x, 0, 0.02), (0.06, d * 0.7, 0.04), leg)
            make.box((x, 0, under / 2 + 0.02), (0.06, 0.08, under - 0.04), leg)
        make.box((0, 0, under * 0.4), (w * 0.72, 0.03, 0.06), leg)
    top = Support(0, 0, h, w / 2 - 0.02, d / 2 - 0.02, 0.9, "top")
    return Piece("table", make.build(), [top], {"table.base": base})


def round_table(rng: Rng, shapes: Shapes, wood, radius=None, height=None) -> Piece:
    """A round table on a pedestal or on splayed legs."""
    make = Maker()
    r = radius or rng.uniform(0.4, 0.65)
    h = height or rng.uniform(0.70, 0.76)
    thick = rng.uniform(0.02, 0.04)
    color = np.clip(wood + rng.normal(0, 8), 20, 245)
    under = h - thick
    make.pole((0, 0, under), (0, 0, h), r, color, pattern=GRAIN)
    drawn = "pedestal" if rng.random() < 0.6 else "legs"
    base = shapes.style("round_table.base", drawn)
    if base == "pedestal":
        leg = pick(rng, METALS) if rng.random() < 0.5 else color
        make.pole((0, 0, 0.03), (0, 0, under), 0.05, leg, 0.04)
        make.pole((0, 0, 0), (0, 0, 0.03), r * 0.55, leg, r * 0.5)
    else:
        _legs(make, r * 0.5, r * 0.5, under, 0.045, color, r * 0.08)
    side = r * 0.68
    top = Support(0, 0, h, side, side, 0.9, "top")
    return Piece("table", make.build(), [top], {"round_table.base": base})


def desk(rng: Rng, shapes: Shapes, wood) -> Piece:
    """A desk: open to its front, a drawer unit on one side or panels on both."""
    make = Maker()
    w, d, h = rng.uniform(1.1, 1.8), rng.uniform(0.6, 0.8), rng.uniform(0.71, 0.76)
    thick = rng.uniform(0.02, 0.035)
    color = wood if rng.random() < 0.6 else pick(rng, PAINTS)
    frame = color if rng.random() < 0.5 else pick(rng, METALS)
    under = h - thick
    make.box((0, 0, h - thick / 2), (w, d, thick), color, 0.004, pattern=GRAIN)
    base = shapes.style("desk.base", "drawers" if rng.random() < 0.5 else "legs")
    if base == "drawers":
        unit, side = rng.uniform(0.36, 0.44), rng.choice([-1, 1])
        x = side * (w / 2 - unit / 2 - 0.02)
        make.slab(
            (x - unit / 2, -d / 2 + 0.05, 0.04),
            (x + unit / 2, d / 2 - 0.06, under),
            color,
            pattern=GRAIN,
        )
        for i in range(3):
            z = 0.06 + (under - 0.08) * (i + 0.5) / 3
            size = (unit - 0.02, 0.015, (under - 0.08) / 3 - 0.012)
            make.box((x, d / 2 - 0.055, z), size, np.clip(color * 1.05, 0, 250))
            make.box((x, d / 2 - 0.04, z), (0.12, 0.015, 0.012), pick(rng, METALS))
        other = -side * (w / 2 - 0.04)
        make.box((other, 0, under / 2), (0.03, d * 0.9, under), color, pattern=GRAIN)
    else:
        _legs(make, w / 2 - 0.05, d / 2 - 0.05, under, 0.045, frame, pattern=0)
        make.box((0, -d / 2 + 0.06, under - 0.2), (w - 0.14, 0.02, 0.3), color)
    top = Support(0, 0, h, w / 2 - 0.02, d / 2 - 0.02, 0.9, "top")
    return Piece("table", make.build(), [top], {"desk.base": base})


def coffee_table(rng: Rng, shapes: Shapes, wood) -> Piece:
    """A low table, rectangular or round."""
    height = rng.uniform(0.36, 0.48)
    if rng.random() < 0.4:
        return round_table(
            rng, shapes, wood, radius=rng.uniform(0.3, 0.45), height=height
        )
    return table(
        rng, shapes, wood, rng.uniform(0.7, 1.2), rng.uniform(0.45, 0.7), height
    )


_CHAIRS = ("slats", "panel", "shell", "swivel", "stool")


def chair(rng: Rng, shapes: Shapes, style: int, wood, fabric) -> Piece:
    """A chair. Styles: 0 wooden slats, 1 panel back, 2 shell, 3 swivel, 4 stool."""
    kind = shapes.style("chair.kind", _CHAIRS[style])
    make = Maker()
    w, d = rng.uniform(0.40, 0.48), rng.uniform(0.40, 0.47)
    seat, back = rng.uniform(0.43, 0.48), rng.uniform(0.36, 0.52)
    color = np.clip(wood + rng.normal(0, 5), 20, 245)
    cloth = np.clip(fabric + rng.normal(0, 5), 20, 245)
    metal = pick(rng, METALS)
    lean = rng.uniform(0.08, 0.2)
    sit = Support(0, 0, seat, w * 0.3, d * 0.3, 0.3, "seat")

    def leaning(x, z, size, paint, rounding=0.0, pattern=0):
        """A part of the back, ``z`` above the seat, on the leaning plane."""
        y = -d / 2 + size[1] / 2 - math.tan(lean) * z
        make.box((x, y, seat + z), size, paint, rounding, tilt=lean, pattern=pattern)

    if kind == "slats":
        t = rng.uniform(0.03, 0.042)
        make.box((0, 0, seat - 0.015), (w, d, 0.03), color, 0.008, pattern=GRAIN)
        _legs(make, w / 2 - t, d / 2 - t, seat - 0.03, t, color)
        for sx in (-1, 1):
            size = (t, t, back / math.cos(lean))
            leaning(sx * (w / 2 - t / 2), back / 2, size, color, pattern=GRAIN)
        slats = rng.integers(2, 5)
        for i in range(slats):
            z = back * (0.35 + 0.6 * i / max(slats - 1, 1))
            leaning(0, z, (w - 2 * t, 0.016, 0.05), color, pattern=GRAIN)
    elif kind == "panel":
        t = rng.uniform(0.028, 0.04)
        make.box((0, 0, seat - 0.03), (w, d, 0.06), cloth, 0.025, pattern=MOTTLED)
        _legs(make, w / 2 - t, d / 2 - t, seat - 0.06, t, color, round_=True)
        size = (w * 0.96, 0.04, back - 0.03)
        leaning(0, back / 2 + 0.015, size, cloth, 0.018, MOTTLED)
    elif kind == "shell":
        plastic = pick(rng, PLASTICS)
        make.box((0, 0, seat - 0.02), (w, d, 0.04), plastic, 0.018)
        leaning(0, back / 2, (w * 0.94, 0.025, back), plastic, 0.012)
        _legs(make, w * 0.3, d * 0.3, seat - 0.04, 0.03, metal, 0.07)
    elif kind == "swivel":
        make.box((0, 0, seat - 0.035), (w, d, 0.07), cloth, 0.033, pattern=MOTTLED)
        size = (w * 0.92, 0.06, back)
        leaning(0, back / 2 + 0.1, size, cloth, 0.028, MOTTLED)
        make.box((0, -d / 2 + 0.02, seat + 0.02), (0.07, 0.02, 0.2), metal)
        make.pole((0, 0, 0.09), (0, 0, seat - 0.07), 0.028, metal)
        start = rng.uniform(0, 1.2)
        for i in range(5):
            a = start + i * 2 * math.pi / 5
            reach = np.array([math.cos(a), math.sin(a)]) * 0.27
            make.pole((0, 0, 0.1), (*reach, 0.065), 0.02, metal, 0.014)
            make.ball((*reach, 0.028), (0.028, 0.028, 0.028), (40, 40, 42))
        if rng.random() < 0.6:
            for sx in (-1, 1):
                x = sx * (w / 2 + 0.02)
                make.box((x, 0, seat + 0.2), (0.05, d * 0.55, 0.03), (46, 46, 48), 0.01)
                make.box((x, -0.02, seat + 0.09), (0.025, 0.05, 0.2), metal)
    else:
        r = w * 0.42
        make.pole((0, 0, seat - 0.04), (0, 0, seat), r, cloth, pattern=MOTTLED)
        _legs(make, r * 0.55, r * 0.55, seat - 0.04, 0.03, color, 0.04)
    return Piece("chair", make.build(), [sit], {"chair.kind": kind})


def armchair(rng: Rng, shapes: Shapes, fabric) -> Piece:
    """A padded chair with arms."""
    make = Maker()
    w, d, seat = (
        rng.uniform(*shapes.span("armchair.width")),
        rng.uniform(0.72, 0.85),
        rng.uniform(0.38, 0.44),
    )
    arm, cloth = rng.uniform(0.1, 0.15), np.clip(fabric + rng.normal(0, 6), 20, 245)
    inner = w - 2 * arm
    back = rng.uniform(*shapes.span("armchair.back"))
    make.slab(
        (-inner / 2, -d / 2 + 0.12, 0.1),
        (inner / 2, d / 2, seat),
        cloth,
        rounding=0.05,
        pattern=MOTTLED,
    )
    make.slab(
        (-inner / 2, -d / 2, 0.1),
        (inner / 2, -d / 2 + 0.18, back),
        cloth,
        rounding=0.06,
        pattern=MOTTLED,
    )
    for sx in (-1, 1):
        x = sx * (w - arm) / 2
        size = (arm, d, 0.5)
        make.box((x, 0, 0.35), size, cloth, 0.04, pattern=MOTTLED)
    _legs(make, w / 2 - 0.06, d / 2 - 0.06, 0.1, 0.04, WOODS[2], round_=True)
    sit = Support(0, 0.08, seat, inner * 0.4, d * 0.28, 0.5, "seat")
    shape = {"armchair.width": w, "armchair.back": back}
    return Piece("chair", make.build(), [sit], shape)


def sofa(rng: Rng, shapes: Shapes, fabric) -> Piece:
    """A sofa with arms, seat and back cushions, sometimes L-shaped."""
    make = Maker()
    seats = rng.integers(2, 4)
    seat_w, d = rng.uniform(0.58, 0.72), rng.uniform(0.82, 0.98)
    arm, seat = rng.uniform(0.12, 0.22), rng.uniform(0.40, 0.46)
    back_h, back_t = rng.uniform(0.74, 0.9), rng.uniform(0.16, 0.22)
    cloth = np.clip(fabric + rng.normal(0, 6), 20, 245)
    cushion = np.clip(cloth + rng.normal(0, 6), 20, 245)
    inner = seats * seat_w
    w = inner + 2 * arm
    options = dict(rounding=0.04, pattern=MOTTLED)
    low = 0.06
    make.slab(
        (-inner / 2, -d / 2, low), (inner / 2, d / 2, seat - 0.14), cloth, **options
    )
    make.slab(
        (-w / 2, -d / 2, low), (w / 2, -d / 2 + back_t, back_h - 0.06), cloth, **options
    )
    plan = shapes.style("sofa.plan", "chaise" if rng.random() < 0.3 else "straight")
    long = plan == "chaise"
    side = rng.choice([-1, 1])
    for sx in (-1, 1):
        x = sx * (inner + arm) / 2
        make.slab(
            (x - arm / 2, -d / 2 + back_t, low),
            (x + arm / 2, d / 2, seat + rng.uniform(0.14, 0.16)),
            cloth,
            **options,
        )
    chaise = rng.uniform(0.5, 0.75) if long else 0.0
    for i in range(seats):
        x = -inner / 2 + (i + 0.5) * seat_w
        here = chaise if long and i == (0 if side < 0 else seats - 1) else 0.0
        make.slab(
            (x - seat_w / 2, -d / 2 + back_t, seat - 0.14),
            (x + seat_w / 2, d / 2 + here, seat),
            cushion,
            **options,
        )
        if here:
            make.slab(
                (x - seat_w / 2, d / 2, low),
                (x + seat_w / 2, d / 2 + here, seat - 0.13),
                cloth,
                **options,
            )
        make.box(
            (x, -d / 2 + back_t + 0.07, seat + (back_h - seat) / 2),
            (seat_w - 0.01, 0.14, back_h - seat),
            cushion,
            0.05,
            tilt=0.12,
            pattern=MOTTLED,
        )
    for sx in (-1, 1):
        for y in (-d / 2 + 0.06, d / 2 - 0.06):
            make.pole(
                (sx * (w / 2 - 0.08), y, 0),
                (sx * (w / 2 - 0.08), y, low),
                0.02,
                WOODS[3],
            )
    if long:
        x = side * (inner / 2 - seat_w / 2)
        make.pole(
            (x, d / 2 + chaise - 0.08, 0),
            (x, d / 2 + chaise - 0.08, low),
            0.02,
            WOODS[3],
        )
    front = back_t + 0.16
    sit = Support(0, front / 2, seat, inner / 2 - 0.02, (d - front) / 2, 0.6, "seat")
    return Piece("sofa", make.build(), [sit], {"sofa.plan": plan})


_BEDS = {"single": 0.95, "small_double": 1.25, "double": 1.5, "king": 1.7}


def bed(rng: Rng, shapes: Shapes, wood, fabric) -> Piece:
    """A bed with its head at the back."""
    make = Maker()
    size = shapes.style("bed.size", list(_BEDS)[rng.choice(len(_BEDS))])
    w, d = _BEDS[size] + rng.uniform(-0.04, 0.04), rng.uniform(2.0, 2.15)
    frame, top = rng.uniform(0.22, 0.32), rng.uniform(0.46, 0.58)
    color = wood if rng.random() < 0.6 else pick(rng, FABRICS)
    sheet, blanket = pick(rng, PAINTS), np.clip(fabric + rng.normal(0, 6), 20, 245)
    make.slab(
        (-w / 2, -d / 2, 0.1),
        (w / 2, d / 2, frame),
        color,
        rounding=0.01,
        pattern=GRAIN,
    )
    head = rng.uniform(*shapes.span("bed.head"))
    make.slab(
        (-w / 2, -d / 2, 0.1),
        (w / 2, -d / 2 + 0.05, head),
        color,
        rounding=0.01,
        pattern=GRAIN,
    )
    make.slab(
        (-w / 2 + 0.02, -d / 2 + 0.05, frame),
        (w / 2 - 0.02, d / 2 - 0.02, top - 0.02),
        sheet,
        rounding=0.05,
    )
    turned = rng.uniform(0.5, 0.75)
    make.slab(
        (-w / 2, -d / 2 + turned, frame + 0.02),
        (w / 2, d / 2, top),
        blanket,
        rounding=0.05,
        pattern=MOTTLED,
    )
    _legs(make, w / 2 - 0.05, d / 2 - 0.05, 0.1, 0.06, color)
    place = Support(0, -d / 2 + 0.3, top - 0.02, w / 2 - 0.05, 0.2, 0.5, "seat")
    shape = {"bed.size": size, "bed.head": head}
    return Piece("bed", make.build(), [place], shape)


def shelf(rng: Rng, shapes: Shapes, wood, low=False) -> Piece:
    """A bookshelf: sides, boards and, mostly, a back."""
    make = Maker()
    w, d = rng.uniform(0.6, 1.2), rng.uniform(0.26, 0.38)
    h = rng.uniform(0.75, 1.1) if low else rng.uniform(1.6, 2.15)
    t = rng.uniform(0.018, 0.03)
    color = np.clip(wood + rng.normal(0, 8), 20, 245)
    if rng.random() < 0.35:
        color = pick(rng, PAINTS)
    for sx in (-1, 1):
        make.box((sx * (w - t) / 2, 0, h / 2), (t, d, h), color, pattern=GRAIN)
    back = shapes.style("shelf.back", "closed" if rng.random() < 0.75 else "open")
    if back == "closed":
        size = (w - 2 * t, 0.01, h - 0.06)
        make.box((0, -d / 2 + 0.005, h / 2), size, np.clip(color * 0.93, 0, 250))
    count = max(2, round(h / rng.uniform(0.3, 0.42)))
    levels = np.linspace(0.08, h - t / 2, count + 1)
    supports = []
    for i, z in enumerate(levels):
        make.box((0, 0, z), (w - 2 * t, d, t), color, pattern=GRAIN)
        clear = levels[i + 1] - z - t - 0.01 if i < count else 0.5
        supports.append(
            Support(
                0,
                0.01,
                z + t / 2,
                w / 2 - t - 0.005,
                d / 2 - 0.02,
                clear,
                "board" if i < count else "top",
            )
        )
    return Piece("shelf", make.build(), supports, {"shelf.back": back})


def cabinet(rng: Rng, shapes: Shapes, wood, kind="sideboard") -> Piece:
    """A closed cabinet with doors or drawers: sideboard, wardrobe or nightstand."""
    make = Maker()
    if kind == "wardrobe":
        w, d, h = (
            rng.uniform(*shapes.span("wardrobe.width")),
            rng.uniform(0.52, 0.62),
            rng.uniform(1.8, 2.2),
        )
        shape = {"wardrobe.width": w}
    elif kind == "nightstand":
        w, d, h = (
            rng.uniform(0.38, 0.52),
            rng.uniform(0.35, 0.45),
            rng.uniform(*shapes.span("nightstand.height")),
        )
        shape = {"nightstand.height": h}
    else:
        w, d, h = (
            rng.uniform(0.8, 1.8),
            rng.uniform(0.36, 0.5),
            rng.uniform(*shapes.span("sideboard.height")),
        )
        shape = {"sideboard.height": h}
    color = np.clip(wood + rng.normal(0, 8), 20, 245)
    if rng.random() < 0.4:
        color = pick(rng, PAINTS)
    front = np.clip(color + rng.normal(0, 10), 20, 250)
    metal, foot = pick(rng, METALS), rng.uniform(0.02, 0.12)
    make.slab((-w / 2, -d / 2, foot), (w / 2, d / 2 - 0.02, h), color, pattern=GRAIN)
    columns = max(1, round(w / rng.uniform(0.42, 0.6)))
    rows = 1
    if kind != "wardrobe":
        drawn = "doors" if rng.random() < 0.4 else "drawers"
        shape["cabinet.front"] = shapes.style("cabinet.front", drawn)
        if shape["cabinet.front"] == "drawers":
            rows = rng.integers(2, 4)
    cell_w, cell_h = w / columns, (h - foot) / rows
    for i in range(columns):
        for j in range(rows):
            x = -w / 2 + (i + 0.5) * cell_w
            z = foot + (j + 0.5) * cell_h
            size = (cell_w - 0.012, 0.018, cell_h - 0.012)
            make.box((x, d / 2 - 0.011, z), size, front, pattern=GRAIN)
            if rows == 1:
                x += (1 if i % 2 == 0 else -1) * (cell_w / 2 - 0.06)
                make.box((x, d / 2 + 0.008, z), (0.015, 0.02, 0.14), metal)
            else:
                make.box((x, d / 2 + 0.008, z), (0.14, 0.02, 0.015), metal)
    _legs(make, w / 2 - 0.04, d / 2 - 0.05, foot, 0.04, color)
    supports = []
    if h < 1.5:
        supports = [Support(0, -0.01, h, w / 2 - 0.02, d / 2 - 0.03, 0.9, "top")]
    return Piece("cabinet", make.build(), supports, shape)


def lamp(rng: Rng, shapes: Shapes, standing: bool) -> Piece:
    """A lamp with a shade: on the floor (thin pole) or on a table."""
    make, shape = Maker(), {}
    metal, shade = pick(rng, METALS), pick(rng, PAINTS)
    if rng.random() < 0.25:
        shade = pick(rng, FABRICS)
    if standing:
        h, r = rng.uniform(1.4, 1.75), rng.uniform(0.15, 0.22)
        shade_h, base = rng.uniform(0.2, 0.32), rng.uniform(0.12, 0.16)
        make.pole((0, 0, 0), (0, 0, 0.025), base, metal)
        make.pole((0, 0, 0.025), (0, 0, h - shade_h), 0.012, metal)
    else:
        h, r = rng.uniform(0.35, 0.55), rng.uniform(0.1, 0.16)
        shade_h = rng.uniform(0.14, 0.2)
        body = pick(rng, PLASTICS)
        drawn = "ball" if rng.random() < 0.5 else "rod"
        shape["table_lamp.body"] = shapes.style("table_lamp.body", drawn)
        if shape["table_lamp.body"] == "ball":
            half = (0.07, 0.07, (h - shade_h) * 0.4)
            make.ball((0, 0, half[2]), half, body)
            make.pole((0, 0, half[2]), (0, 0, h - shade_h), 0.012, metal)
        else:
            make.pole((0, 0, 0), (0, 0, 0.02), 0.075, metal)
            make.pole((0, 0, 0.02), (0, 0, h - shade_h), 0.011, metal)
    shape["lamp.taper"] = rng.uniform(*shapes.span("lamp.taper"))
    upper = r * shape["lamp.taper"]
    make.pole((0, 0, h - shade_h), (0, 0, h), r, shade, upper)
    return Piece("lamp", make.build(), [], shape)


def _turned(size, stance: str) -> np.ndarray:
    """Return a box's size laid on its largest side, or stood on its smallest."""
    size = np.array(size)
    up = size.argmin() if stance == "flat" else size.argmax()
    size[[2, up]] = size[[up, 2]]
    return size


def box(rng: Rng, shapes: Shapes, size=None) -> Piece:
    """A box: carton, crate or storage box, some with a lid."""
    make = Maker()
    size = rng.uniform(0.22, 0.6, 3) * (1, 0.8, 0.75) if size is None else size
    drawn = "flat" if size[2] <= min(size[:2]) else "upright"
    stance = shapes.style("box.stance", drawn)
    w, d, h = size if stance == drawn else _turned(size, stance)
    color = pick(rng, CARTONS) if rng.random() < 0.6 else pick(rng, PLASTICS)
    pattern = MOTTLED if rng.random() < 0.3 else 0
    if rng.random() < 0.3 and h > 0.12:
        make.box((0, 0, h / 2 - 0.02), (w * 0.97, d * 0.97, h - 0.04), color, 0.006)
        lid = np.clip(color + rng.normal(0, 18), 20, 245)
        make.box((0, 0, h - 0.02), (w, d, 0.04), lid, 0.006)
    else:
        make.box((0, 0, h / 2), (w, d, h), color, 0.004, pattern=pattern)
        if min(w, d) > 0.2 and rng.random() < 0.5:
            tape = np.clip(color + 28, 0, 250)
            make.box((0, 0, h), (w * 1.002, 0.05, 0.0015), tape)
    top = Support(0, 0, h, w / 2, d / 2, 0.5, "box")
    return Piece("box", make.build(), [top], {"box.stance": stance})


def books(rng: Rng, shapes: Shapes, width: float, depth: float, clear: float) -> Piece:
    """A row of standing books, no wider than ``width``, or a pile."""
    make = Maker()
    tall = min(clear - 0.02, 0.3)
    deep = min(depth, 0.24)
    drawn = "row" if tall > 0.16 and rng.random() < 0.8 else "pile"
    order = shapes.style("books.order", drawn)
    if order == "row":
        x, end = 0.0, min(width, rng.uniform(0.15, 0.6))
        while x < end - 0.02:
            t = min(rng.uniform(0.018, 0.05), end - x)
            h, d = tall * rng.uniform(0.65, 1.0), deep * rng.uniform(0.7, 1.0)
            color = pick(rng, PLASTICS if rng.random() < 0.5 else FABRICS, 30)
            make.box((x + t / 2 - end / 2, (deep - d) / 2, h / 2), (t, d, h), color)
            x += t
    else:
        z = 0.0
        for _ in range(rng.integers(2, 6)):
            t = rng.uniform(0.015, 0.04)
            if z + t > clear - 0.02:
                break
            size = (min(width, rng.uniform(0.2, 0.28)), deep * rng.uniform(0.7, 0.9), t)
            color = pick(rng, PLASTICS if rng.random() < 0.5 else FABRICS, 30)
            turn = rng.normal(0, 0.06)
            make.box((0, 0, z + t / 2), size, color, yaw=turn)
            z += t
        if z == 0.0:
            make.box((0, 0, 0.008), (min(width, 0.2), deep * 0.8, 0.015), CARTONS[0])
    return Piece("books", make.build(), [], {"books.order": order})


def plant(rng: Rng, shapes: Shapes, standing: bool) -> Piece:
    """A plant in a pot: stems and flat leaves."""
    make = Maker()
    scale = rng.uniform(0.9, 1.25) if standing else rng.uniform(0.32, 0.45)
    r, pot = 0.15 * scale, 0.27 * scale
    make.pole((0, 0, 0), (0, 0, pot), r * 0.75, pick(rng, [*PLASTICS, *CARTONS]), r)
    green = pick(rng, LEAVES)
    reach, crown = 0.3 * scale, rng.uniform(*shapes.span("plant.crown"))
    for _ in range(rng.integers(10, 18)):
        angle, out = (
            rng.uniform(0, 2 * math.pi),
            math.sqrt(rng.uniform(0.05, 1)) * reach,
        )
        lift = pot + crown * scale * rng.uniform(0.25, 0.95) * (1 - 0.35 * out / reach)
        tip = np.array([math.cos(angle) * out, math.sin(angle) * out, lift])
        up = align_z(
            np.array([*(tip[:2] * 0.9), 0.12 * scale + 0.3 * abs(rng.normal())])
        )
        leaf = rng.uniform(*shapes.span("plant.leaf"))
        half = np.array([0.07, 0.1, 0.012]) * scale * leaf
        make.ball(tip, half, np.clip(green + rng.normal(0, 10), 10, 240), up)
        make.pole((0, 0, pot * 0.9), tip, 0.006 * scale + 0.003, green * 0.8)
    shape = {"plant.crown": crown, "plant.leaf": leaf}  # of its last leaf
    return Piece("plant", make.build(), [], shape)


def screen(rng: Rng, shapes: Shapes, large: bool) -> Piece:
    """A flat screen on its foot: a monitor or a television."""
    make = Maker()
    kind = "television" if large else "monitor"
    w = rng.uniform(*shapes.span(f"{kind}.width"))
    h = w * 0.58
    lift = rng.uniform(*shapes.span(f"{kind}.lift"))
    dark = np.array([28, 29, 32]) + rng.uniform(0, 14)
    make.box((0, 0, 0.01), (w * 0.4, rng.uniform(0.16, 0.2), 0.015), dark)
    make.box((0, -0.025, lift / 2 + 0.05), (0.06, 0.02, lift + 0.1), dark)
    make.box((0, 0, lift + h / 2), (w, 0.03, h), dark, 0.005, returns=0.75)
    shape = {f"{kind}.width": w, f"{kind}.lift": lift}
    return Piece("screen", make.build(), [], shape)


def cushion(rng: Rng, shapes: Shapes, leaning: bool) -> Piece:
    """A cushion, lying or leaning back."""
    make = Maker()
    s = rng.uniform(*shapes.span("cushion.side"))
    t = rng.uniform(*shapes.span("cushion.thickness"))
    color = pick(rng, FABRICS if rng.random() < 0.7 else PAINTS, 20)
    if leaning:
        tilt = rng.uniform(0.15, 0.35)
        lift = s / 2 * math.cos(tilt) + t / 2 * math.sin(tilt)
        size = (s, t, s)
        make.box((0, 0, lift), size, color, t * 0.48, tilt=tilt, pattern=MOTTLED)
    else:
        size = (s * rng.uniform(1, 1.4), s, t)
        make.box((0, 0, t / 2), size, color, t * 0.48, pattern=MOTTLED)
    shape = {"cushion.side": s, "cushion.thickness": t}
    return Piece("cushion", make.build(), [], shape)


nightstand = partial(cabinet, kind="nightstand")
wardrobe = partial(cabinet, kind="wardrobe")
