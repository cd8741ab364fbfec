"""Furnished rooms: a shell, furniture that stands sensibly, things on top of it."""

import math
from dataclasses import dataclass

import numpy as np

from . import room_furniture as furniture
from .room_colors import (
    FABRICS,
    METALS,
    MOTTLED,
    PAINTS,
    PLANKS,
    PLASTICS,
    STRIPES,
    TILES,
    WOODS,
    pick,
)
from .room_furniture import Piece, Rng, Support
from .room_shapes import Shapes
from .solids import Footprints, Maker, Solids, footprints, overlaps

STUFF = ("wall", "floor", "door", "window", "picture")
THINGS = (
    "table",
    "chair",
    "sofa",
    "bed",
    "shelf",
    "cabinet",
    "lamp",
    "box",
    "books",
    "plant",
    "screen",
    "cushion",
)
CLASSES = (*STUFF, *THINGS)

_WALL = 0.12  # thickness, m
_UNPLACED = 12  # places tried before an object is left out
_ALL = Shapes()


@dataclass
class Room:
    """A furnished room.

    Attributes:
        solids: all solids.
        label: (n,) index into ``CLASSES`` of each solid.
        instance: (n,) object each solid belongs to, -1 for stuff.
        outline: (m, 2) corners of the floor, counter-clockwise, m.
        height: of the walls, m.
        occupied: footprints of everything but the floor.
        shapes: of each object, see ``Piece``.
    """

    solids: Solids
    label: np.ndarray
    instance: np.ndarray
    outline: np.ndarray
    height: float
    occupied: Footprints
    shapes: list[dict[str, str | float]]


@dataclass
class Wall:
    """One wall: from ``start`` (2,) along ``along`` (2,); ``inward`` (2,) is left."""

    start: np.ndarray
    along: np.ndarray
    inward: np.ndarray
    length: float

    @property
    def yaw(self) -> float:
        """Turn that makes an object's back face the wall."""
        return math.atan2(self.inward[1], self.inward[0]) - math.pi / 2


@dataclass
class Placed:
    """An object in the room."""

    piece: Piece
    x: float
    y: float
    z: float
    yaw: float

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point of the object's frame lies in the room."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + c * x - s * y, self.y + s * x + c * y


def outline(rng: Rng) -> np.ndarray:
    """Return the corners (m, 2) of a rectangular or L-shaped floor of 3 to 7 m."""
    w, d = rng.triangular(3.0, 4.2, 7.0), rng.triangular(3.0, 3.4, 5.5)
    corners = np.array([[0, 0], [w, 0], [w, d], [0, d]])
    if min(w, d) > 3.8 and rng.random() < 0.4:
        cut_w, cut_d = w * rng.uniform(0.3, 0.5), d * rng.uniform(0.3, 0.5)
        corners = np.array(
            [
                [0, 0],
                [w, 0],
                [w, d - cut_d],
                [w - cut_w, d - cut_d],
                [w - cut_w, d],
                [0, d],
            ]
        )
    corners -= corners.mean(0)
    if rng.random() < 0.5:  # a mirrored outline runs clockwise: turn it round
        corners = (corners * (-1, 1))[::-1]
    quarter = rng.integers(4)
    for _ in range(quarter):
        corners = np.stack([-corners[:, 1], corners[:, 0]], 1)
    return corners


def walls_of(corners: np.ndarray) -> list[Wall]:
    """Return the walls between consecutive corners."""
    walls = []
    for start, end in zip(corners, np.roll(corners, -1, 0), strict=True):
        length = float(np.linalg.norm(end - start))
        along = (end - start) / length
        walls.append(Wall(start, along, np.array([-along[1], along[0]]), length))
    return walls


def inside(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return (n,): do the points (n, 2) lie in the polygon (m, 2), by ray crossing."""
    a, b = corners, np.roll(corners, -1, 0)
    y = points[:, None, 1]
    crosses = (a[:, 1] > y) != (b[:, 1] > y)
    rise = np.where(a[:, 1] == b[:, 1], 1.0, b[:, 1] - a[:, 1])
    x = a[:, 0] + (y - a[:, 1]) / rise * (b[:, 0] - a[:, 0])
    return (crosses & (points[:, None, 0] < x)).sum(1) % 2 == 1


class Layout:
    """A room that is being furnished."""

    def __init__(self, rng: Rng, shapes: Shapes):
        self.rng = rng
        self.shapes = shapes
        self.corners = outline(rng)
        self.walls = walls_of(self.corners)
        self.height = rng.uniform(2.4, 2.8)
        self.parts: list[Solids] = []
        self.labels: list[int] = []
        self.instances: list[int] = []
        self.placed: list[Placed] = []
        self.count = 0
        self._taken: Footprints | None = None
        self._keep_free: Footprints | None = None
        self.wood = pick(rng, WOODS)
        self.second_wood = pick(rng, WOODS)
        self.fabric, self.second_fabric = pick(rng, FABRICS), pick(rng, FABRICS)
        self.wall_spots: list[list[tuple[float, float, float]]] = []
        self._shell()

    # --- the room itself

    def _shell(self) -> None:
        rng = self.rng
        floor, paint = Maker(), pick(rng, PAINTS)
        low, high = self.corners.min(0) - _WALL, self.corners.max(0) + _WALL
        pattern = PLANKS if rng.random() < 0.65 else TILES
        ground = pick(rng, WOODS if pattern == PLANKS else PAINTS, 6)
        floor.slab((*low, -0.1), (*high, 0.0), ground, pattern=pattern)
        self._stuff("floor", floor)
        solid_walls = Maker()
        free = []
        order = rng.permutation(len(self.walls))
        doors = set(order[: 1 + (rng.random() < 0.25)].tolist())
        windows = {i for i in order.tolist() if i not in doors and rng.random() < 0.6}
        accent = rng.integers(len(self.walls)) if rng.random() < 0.3 else -1
        for i, wall in enumerate(self.walls):
            color = pick(rng, FABRICS) if i == accent else paint
            openings = []
            if i in doors and wall.length > 1.3:
                w = rng.uniform(0.82, 0.95)
                at = rng.uniform(0.15, wall.length - w - 0.15)
                openings.append((at, at + w, 0.0, rng.uniform(1.98, 2.1), "door"))
            if i in windows and wall.length > 1.4:
                w = min(rng.uniform(0.9, 2.2), wall.length - 0.5)
                at = rng.uniform(0.25, wall.length - w - 0.25)
                sill = rng.uniform(0.75, 1.0)
                top = sill + rng.uniform(1.0, 1.35)
                openings.append(
                    (at, at + w, sill, min(top, self.height - 0.2), "window")
                )
            self._wall(wall, color, openings)
            self.wall_spots.append([o[:2] for o in openings])
            centre = wall.start + wall.along * wall.length / 2 - wall.inward * _WALL / 2
            size = (wall.length + 2 * _WALL, _WALL, self.height)
            solid_walls.box((*centre, self.height / 2), size, color, yaw=wall.yaw)
            for begin, end, _, _, name in openings:
                if name == "door":
                    middle = wall.start + wall.along * (begin + end) / 2
                    middle = middle + wall.inward * 0.4
                    free.append((middle, end - begin, 0.8, wall.yaw))
        self._taken = footprints(solid_walls.build())
        keep = Maker()
        for middle, w, d, yaw in free:
            keep.box((*middle, 1.0), (w, d, 2.0), (0, 0, 0), yaw=yaw)
        if free:
            self._keep_free = footprints(keep.build())

    def _wall(self, wall: Wall, color, openings) -> None:
        """A wall with holes, and what fills them."""
        rng = self.rng
        make, trim = Maker(), pick(rng, PAINTS)

        def block(maker, begin, end, low, high, depth=(-_WALL, 0.0), paint=None, **kw):
            middle = wall.start + wall.along * (begin + end) / 2
            middle = middle + wall.inward * sum(depth) / 2
            size = (end - begin, depth[1] - depth[0], high - low)
            paint = color if paint is None else paint
            maker.box((*middle, (low + high) / 2), size, paint, yaw=wall.yaw, **kw)

        at = -_WALL
        for begin, end, low, high, name in sorted(openings):
            block(make, at, begin, 0, self.height)
            block(make, begin, end, high, self.height)
            if low > 0:
                block(make, begin, end, 0, low)
            at = end
            filling = Maker()
            if name == "door":
                block(filling, begin, end, high - 0.04, high, (-_WALL, 0.012), trim)
                for a, b in ((begin, begin + 0.05), (end - 0.05, end)):
                    block(filling, a, b, 0, high - 0.04, (-_WALL, 0.012), trim)
                if rng.random() < 0.75:
                    leaf = pick(rng, WOODS if rng.random() < 0.5 else PAINTS)
                    depth = (-0.07, -0.03)
                    block(
                        filling, begin + 0.05, end - 0.05, 0, high - 0.04, depth, leaf
                    )
                    grip = begin + 0.12 if rng.random() < 0.5 else end - 0.12
                    block(
                        filling,
                        grip - 0.05,
                        grip + 0.05,
                        1.02,
                        1.045,
                        (-0.03, 0.03),
                        pick(rng, METALS),
                    )
            else:
                frame = 0.06
                depth = (-_WALL + 0.01, -_WALL + 0.06)
                posts = [begin, end - frame]
                if end - begin > 1.1:
                    posts.append((begin + end - frame) / 2)
                for post in posts:
                    block(filling, post, post + frame, low, high, depth, trim)
                for z in (low, high - frame):
                    block(filling, begin, end, z, z + frame, depth, trim)
                glass = (-_WALL + 0.03, -_WALL + 0.035)
                block(
                    filling, begin, end, low, high, glass, (150, 170, 185), returns=0.08
                )
                block(
                    filling, begin - 0.04, end + 0.04, low - 0.03, low, (0, 0.06), trim
                )
            self._stuff(name, filling)
        block(make, at, wall.length + _WALL, 0, self.height)
        self._stuff("wall", make)

    def _stuff(self, name: str, make: Maker) -> None:
        solids = make.build()
        self.parts.append(solids)
        self.labels += [CLASSES.index(name)] * len(solids)
        self.instances += [-1] * len(solids)

    def rug(self, x: float, y: float, yaw: float, w: float, d: float) -> None:
        """Lay a rug: floor, in the eyes of the labels."""
        make = Maker()
        pattern = STRIPES if self.rng.random() < 0.4 else MOTTLED
        color = pick(self.rng, FABRICS, 20)
        make.box((x, y, 0.002), (w, d, 0.006), color, yaw=yaw, pattern=pattern)
        corners = footprints(make.build())
        reach = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * corners.half
        u = corners.axis[0]
        points = corners.centre + reach[:, :1] * u + reach[:, 1:] * (-u[1], u[0])
        if inside(self.corners, points).all():
            self._stuff("floor", make)

    def pictures(self, count: int) -> None:
        """Hang pictures where the walls are free."""
        rng = self.rng
        for _ in range(count):
            index = rng.integers(len(self.walls))
            wall = self.walls[index]
            w, h = rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.7)
            if wall.length < w + 0.4:
                continue
            at = rng.uniform(0.2 + w / 2, wall.length - 0.2 - w / 2)
            if any(a - w / 2 < at < b + w / 2 for a, b in self.wall_spots[index]):
                continue
            middle = wall.start + wall.along * at + wall.inward * 0.012
            z = rng.uniform(1.4, 1.7)
            make, yaw = Maker(), wall.yaw
            make.box((*middle, z), (w, 0.024, h), pick(rng, WOODS), yaw=yaw)
            canvas = middle + wall.inward * 0.012
            color = pick(rng, [*PLASTICS, *FABRICS], 30)
            pattern = STRIPES if rng.random() < 0.5 else MOTTLED
            size = (w - 0.07, 0.004, h - 0.07)
            make.box((*canvas, z), size, color, yaw=yaw, pattern=pattern)
            if not overlaps(footprints(make.build()), self._taken).any():
                self._taken = Footprints.joined([self._taken, footprints(make.build())])
                self._stuff("picture", make)

    # --- objects

    def put(self, piece: Piece, x, y, z=0.0, yaw=0.0) -> Placed | None:
        """Place an object if it is inside the room and cuts into nothing."""
        solids = piece.solids.moved(x, y, z, yaw)
        prisms = footprints(solids)
        if not inside(self.corners, prisms.centre).all():
            return None
        if overlaps(prisms, self._taken).any():
            return None
        if (
            z == 0
            and self._keep_free is not None
            and overlaps(prisms, self._keep_free).any()
        ):
            return None
        self._taken = Footprints.joined([self._taken, prisms])
        self.parts.append(solids)
        self.labels += [CLASSES.index(piece.name)] * len(solids)
        self.instances += [self.count] * len(solids)
        self.count += 1
        placed = Placed(piece, x, y, z, yaw)
        self.placed.append(placed)
        return placed

    def covered(self) -> float:
        """Return the share of the floor under furniture (its bounding rectangles)."""
        x, y = self.corners.T
        area = 0.5 * abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
        standing = [one.piece for one in self.placed if one.z == 0]
        return sum(piece.width * piece.depth for piece in standing) / area

    def jitter(self, degrees: float = 2.0) -> float:
        """Return a small turn in radians, often none."""
        rng = self.rng
        return 0.0 if rng.random() < 0.4 else math.radians(rng.normal(0, degrees))

    def against_wall(self, piece: Piece, corner=0.3, gap=0.04, degrees=1.0):
        """Place an object with its back to some wall, sometimes in a corner."""
        rng = self.rng
        lengths = np.array([wall.length for wall in self.walls])
        for _ in range(_UNPLACED):
            wall = self.walls[rng.choice(len(lengths), p=lengths / lengths.sum())]
            if wall.length < piece.width + 0.02:
                continue
            ends = (piece.width / 2 + 0.003, wall.length - piece.width / 2 - 0.003)
            if rng.random() < corner:
                at = ends[rng.integers(2)]
            else:
                at = rng.uniform(*ends)
            turn = self.jitter(degrees)
            away = 0.002 + rng.uniform(0, gap) - piece.low[1]
            away += abs(math.sin(turn)) * piece.width / 2
            x, y = wall.start + wall.along * at + wall.inward * away
            placed = self.put(piece, x, y, 0.0, wall.yaw + turn)
            if placed:
                return placed
        return None

    def beside(self, other: Placed, piece: Piece, gap=(0.0, 0.03), align="back"):
        """Place an object next to another's left or right side, often touching it."""
        rng = self.rng
        for side in rng.permutation([-1, 1]):
            edge = other.piece.high[0] if side > 0 else other.piece.low[0]
            reach = -piece.low[0] if side > 0 else piece.high[0]
            x = edge + side * (reach + 0.001 + rng.uniform(*gap))
            y = 0.0
            if align == "back":
                y = other.piece.low[1] - piece.low[1]
            elif align == "front":
                y = rng.uniform(-0.1, 0.3) * other.piece.depth
            placed = self.put(piece, *other.point(x, y), other.z, other.yaw)
            if placed:
                return placed
        return None

    def somewhere(self, piece: Piece, near_wall=0.5, tries=_UNPLACED) -> Placed | None:
        """Place an object anywhere on the floor, mostly turned along the walls."""
        rng = self.rng
        low, high = self.corners.min(0), self.corners.max(0)
        for _ in range(tries):
            if rng.random() < near_wall:
                return self.against_wall(piece, corner=0.5, gap=0.08, degrees=6)
            x, y = rng.uniform(low, high)
            yaw = rng.choice([0, 0.5, 1, 1.5]) * math.pi + self.jitter(5)
            if rng.random() < 0.25:
                yaw = rng.uniform(0, 2 * math.pi)
            placed = self.put(piece, x, y, 0.0, yaw)
            if placed:
                return placed
        return None

    def open_spot(self, clearance: float) -> tuple[float, float] | None:
        """Return a free place at least ``clearance`` metres from everything."""
        rng = self.rng
        low, high = self.corners.min(0), self.corners.max(0)
        points = rng.uniform(low, high, (24, 2))
        points = points[inside(self.corners, points)]
        gaps = [self._taken.distance(point).min() for point in points]
        if not gaps:
            return None
        if max(gaps) < clearance:
            return None
        good = [p for p, gap in zip(points, gaps, strict=True) if gap >= clearance]
        return tuple(good[rng.integers(len(good))])

    def seat_at(self, table: Placed, piece: Piece, x, y, facing) -> Placed | None:
        """Place a chair that faces a table, as far under it as fits.

        Args:
            x, y: point on the table's edge, in the table's frame.
            facing: direction of sight, radians in the table's frame.
        """
        rng = self.rng
        turn = rng.normal(0, math.radians(4))
        if rng.random() < 0.2:
            turn = rng.normal(0, math.radians(25))
        sight = np.array([math.cos(facing), math.sin(facing)])
        back = -sight * piece.high[1]
        start = rng.uniform(-0.28, 0.22)
        for step in (0.0, 0.06, 0.14, 0.24, 0.36):
            away = start + step
            at = (x + back[0] - sight[0] * away, y + back[1] - sight[1] * away)
            yaw = table.yaw + facing - math.pi / 2 + turn
            placed = self.put(piece, *table.point(*at), 0.0, yaw)
            if placed:
                return placed
        return None

    def chairs_around(self, table: Placed, style: int, share: float, sides=4) -> None:
        """Set chairs at a table."""
        rng, piece = self.rng, table.piece
        seats = []
        if np.isclose(piece.width, piece.depth, rtol=0.02) and sides == 4:
            count = max(3, int(piece.width * math.pi / 0.75))
            start = rng.uniform(0, 2 * math.pi)
            for i in range(count):
                angle = start + i * 2 * math.pi / count
                at = np.array([math.cos(angle), math.sin(angle)]) * piece.width / 2
                seats.append((*at, angle + math.pi))
        else:
            along = max(1, int(piece.width / rng.uniform(0.52, 0.68)))
            for side in (-1, 1) if sides > 1 else (1,):
                for i in range(along):
                    x = piece.low[0] + piece.width * (i + 0.5) / along
                    edge = piece.high[1] if side > 0 else piece.low[1]
                    seats.append((x, edge, -side * math.pi / 2))
            if sides == 4 and rng.random() < 0.5:
                seats.append((piece.low[0], 0.0, 0.0))
                seats.append((piece.high[0], 0.0, math.pi))
        for x, y, facing in seats:
            if rng.random() < share:
                one = furniture.chair(rng, self.shapes, style, self.wood, self.fabric)
                self.seat_at(table, one, x, y, facing)

    # --- things on things

    def on(self, base: Placed, support: Support, piece: Piece, turn=None, back=False):
        """Place an object on a support of another."""
        rng = self.rng
        if piece.height > support.clear:
            return None
        turn = self.jitter(8) if turn is None else turn
        c, s = abs(math.cos(turn)), abs(math.sin(turn))
        low, high = piece.low, piece.high
        half_x = (c * (high[0] - low[0]) + s * (high[1] - low[1])) / 2
        half_y = (s * (high[0] - low[0]) + c * (high[1] - low[1])) / 2
        room = np.array([support.half_x - half_x, support.half_y - half_y])
        if (room < -1e-6).any():
            return None
        middle = (low[:2] + high[:2]) / 2
        middle = (
            math.cos(turn) * middle[0] - math.sin(turn) * middle[1],
            math.sin(turn) * middle[0] + math.cos(turn) * middle[1],
        )
        for _ in range(4):
            offset = rng.uniform(-1, 1, 2) * np.maximum(room, 0)
            if back:
                offset[1] = -max(room[1], 0)
            x = support.x + offset[0] - middle[0]
            y = support.y + offset[1] - middle[1]
            z = base.z + support.z
            placed = self.put(piece, *base.point(x, y), z, base.yaw + turn)
            if placed:
                return placed
        return None

    def fill_shelf(self, shelf: Placed, share: float) -> None:
        """Put books, boxes and small things on the boards of a shelf."""
        rng = self.rng
        for support in shelf.piece.supports:
            if rng.random() > share:
                continue
            for _ in range(rng.integers(1, 4)):
                width, depth = 2 * support.half_x, 2 * support.half_y
                draw = rng.random()
                if draw < 0.55:
                    one = furniture.books(
                        rng, self.shapes, width * 0.9, depth * 0.9, support.clear
                    )
                    self.on(shelf, support, one, turn=0.0, back=True)
                elif draw < 0.85:
                    tall = max(0.08, support.clear * rng.uniform(0.35, 0.85))
                    size = (
                        rng.uniform(0.14, min(0.4, width * 0.8)),
                        depth * 0.85,
                        tall,
                    )
                    self.on(
                        shelf,
                        support,
                        furniture.box(rng, self.shapes, size),
                        turn=self.jitter(3),
                    )
                elif support.clear > 0.3:
                    self.on(
                        shelf,
                        support,
                        furniture.plant(rng, self.shapes, standing=False),
                    )

    def clutter(self, base: Placed, kinds: list[str], count: int) -> None:
        """Put small things on the tops of a piece of furniture."""
        rng = self.rng
        tops = [s for s in base.piece.supports if s.kind == "top"]
        for _ in range(count if tops else 0):
            support = tops[rng.integers(len(tops))]
            kind = rng.choice(kinds)
            if kind == "box":
                size = rng.uniform((0.1, 0.08, 0.05), (0.34, 0.26, 0.24))
                one = furniture.box(rng, self.shapes, size)
                below = self.on(base, support, one, turn=self.jitter(25))
                if below and rng.random() < 0.3:
                    smaller = furniture.box(
                        rng, self.shapes, size * rng.uniform(0.6, 0.95, 3)
                    )
                    self.on(below, below.piece.supports[0], smaller)
            elif kind == "books":
                one = furniture.books(rng, self.shapes, 0.3, 0.24, 0.14)
                self.on(base, support, one, turn=self.jitter(30))
            elif kind == "lamp":
                self.on(base, support, furniture.lamp(rng, self.shapes, standing=False))
            elif kind == "plant":
                self.on(
                    base, support, furniture.plant(rng, self.shapes, standing=False)
                )
            elif kind == "screen":
                one = furniture.screen(
                    rng, self.shapes, large=base.piece.name == "cabinet"
                )
                self.on(
                    base, support, one, turn=self.jitter(6), back=rng.random() < 0.7
                )

    def cushions(self, base: Placed, count: int) -> None:
        """Put cushions on a seat."""
        rng = self.rng
        for _ in range(count):
            seat = next(s for s in base.piece.supports if s.kind == "seat")
            leaning = rng.random() < 0.7
            one = furniture.cushion(rng, self.shapes, leaning)
            turn = self.jitter(8) if leaning else rng.uniform(-0.6, 0.6)
            self.on(base, seat, one, turn=turn, back=leaning)

    def box_stack(self) -> None:
        """Set a box on the floor, more on it, another touching it."""
        rng = self.rng
        below = self.somewhere(furniture.box(rng, self.shapes), near_wall=0.7)
        if below is None:
            return
        if rng.random() < 0.4:
            self.beside(below, furniture.box(rng, self.shapes), gap=(0.0, 0.02))
        for _ in range(rng.integers(0, 3)):
            if below.piece.name != "box" or not below.piece.supports:
                return
            size = below.piece.high - below.piece.low
            one = furniture.box(rng, self.shapes, size * rng.uniform(0.65, 0.98, 3))
            above = self.on(below, below.piece.supports[0], one)
            if above is None:
                return
            below = above

    def finish(self) -> Room:
        """Return the room."""
        return Room(
            solids=Solids.joined(self.parts),
            label=np.array(self.labels),
            instance=np.array(self.instances),
            outline=self.corners,
            height=self.height,
            occupied=self._taken,
            shapes=[one.piece.shape for one in self.placed],
        )


def _living(layout: Layout) -> None:
    rng = layout.rng
    couch = layout.against_wall(
        furniture.sofa(rng, layout.shapes, layout.fabric), corner=0.25
    )
    if couch is None:
        couch = layout.somewhere(
            furniture.sofa(rng, layout.shapes, layout.fabric), near_wall=0.0
        )
    if couch:
        front = couch.piece.high[1]
        low = furniture.coffee_table(rng, layout.shapes, layout.wood)
        y = front - low.low[1] + rng.uniform(0.08, 0.45)
        if rng.random() < 0.6:
            at = couch.point(0, front + 0.4)
            layout.rug(*at, couch.yaw, rng.uniform(1.6, 2.4), rng.uniform(1.2, 1.7))
        stand = layout.put(low, *couch.point(rng.uniform(-0.2, 0.2), y), 0, couch.yaw)
        if stand:
            layout.clutter(stand, ["books", "box", "plant"], rng.integers(1, 4))
            for side in (-1, 1):
                if rng.random() < 0.5:
                    seat = furniture.armchair(rng, layout.shapes, layout.second_fabric)
                    x = side * (
                        stand.piece.width / 2 + seat.high[1] + rng.uniform(0.1, 0.5)
                    )
                    yaw = stand.yaw + side * math.pi / 2 + layout.jitter(15)
                    one = layout.put(
                        seat, *stand.point(x, rng.uniform(-0.2, 0.4)), 0, yaw
                    )
                    if one and rng.random() < 0.4:
                        layout.cushions(one, 1)
        layout.cushions(couch, rng.integers(1, 5))
        if rng.random() < 0.6:
            layout.beside(
                couch,
                furniture.lamp(rng, layout.shapes, standing=True),
                gap=(0.02, 0.15),
            )
        if rng.random() < 0.5:
            side = layout.beside(
                couch, furniture.nightstand(rng, layout.shapes, layout.wood)
            )
            if side:
                layout.clutter(side, ["lamp", "plant", "books"], 1)
    board = layout.against_wall(furniture.cabinet(rng, layout.shapes, layout.wood))
    if board:
        layout.clutter(board, ["screen", "plant", "books", "lamp"], rng.integers(1, 5))
    _dining(layout) if rng.random() < 0.35 else None


def _dining(layout: Layout) -> None:
    rng = layout.rng
    style = rng.integers(5)
    for _ in range(6):
        if rng.random() < 0.35:
            board = furniture.round_table(rng, layout.shapes, layout.wood)
        else:
            board = furniture.table(rng, layout.shapes, layout.wood)
        spot = layout.open_spot(min(board.depth / 2 + 0.35, 0.9))
        if spot is None:
            continue
        wall = layout.walls[rng.integers(len(layout.walls))]
        placed = layout.put(board, *spot, 0.0, wall.yaw + layout.jitter(3))
        if placed is None:
            continue
        layout.chairs_around(placed, style, rng.uniform(0.7, 1.0))
        layout.clutter(placed, ["plant", "box", "books"], rng.integers(0, 4))
        break


def _bedroom(layout: Layout) -> None:
    rng = layout.rng
    berth = layout.against_wall(
        furniture.bed(rng, layout.shapes, layout.wood, layout.fabric)
    )
    if berth:
        layout.cushions(berth, rng.integers(1, 4))
        for _ in range(rng.integers(1, 3)):
            side = layout.beside(
                berth, furniture.nightstand(rng, layout.shapes, layout.wood)
            )
            if side:
                layout.clutter(side, ["lamp", "books", "plant"], rng.integers(1, 3))
        if rng.random() < 0.5:
            at = berth.point(0, berth.piece.high[1] * 0.6)
            layout.rug(*at, berth.yaw, rng.uniform(1.8, 2.4), rng.uniform(1.3, 1.8))
    closet = layout.against_wall(
        furniture.wardrobe(rng, layout.shapes, layout.second_wood), corner=0.7
    )
    if closet and rng.random() < 0.4:
        layout.beside(closet, furniture.shelf(rng, layout.shapes, layout.second_wood))
    if rng.random() < 0.6:
        _desk(layout)
    if rng.random() < 0.5:
        chest = layout.against_wall(furniture.cabinet(rng, layout.shapes, layout.wood))
        if chest:
            layout.clutter(chest, ["screen", "plant", "box"], rng.integers(1, 3))


def _desk(layout: Layout) -> Placed | None:
    rng = layout.rng
    place = layout.against_wall(furniture.desk(rng, layout.shapes, layout.second_wood))
    if place:
        _equip(layout, place)
    return place


def _equip(layout: Layout, place: Placed) -> None:
    """Set a chair at a desk and the usual things on it."""
    rng = layout.rng
    style = 3 if rng.random() < 0.7 else rng.integers(3)
    layout.chairs_around(place, style, 1.0, sides=1) if place.piece.width < 1.3 else (
        layout.seat_at(
            place,
            furniture.chair(
                rng, layout.shapes, style, layout.wood, layout.second_fabric
            ),
            rng.uniform(-0.15, 0.15),
            place.piece.high[1],
            -math.pi / 2,
        )
    )
    layout.clutter(place, ["screen"], rng.integers(1, 3))
    layout.clutter(place, ["books", "box", "lamp", "plant"], rng.integers(1, 4))


def _office(layout: Layout) -> None:
    rng = layout.rng
    for _ in range(rng.integers(1, 4)):
        place = _desk(layout)
        if place and rng.random() < 0.5:
            twin = layout.beside(
                place, furniture.desk(rng, layout.shapes, layout.second_wood)
            )
            if twin:
                _equip(layout, twin)
    if rng.random() < 0.4:
        _dining(layout)
    for _ in range(rng.integers(1, 3)):
        board = layout.against_wall(
            furniture.cabinet(rng, layout.shapes, layout.wood), corner=0.5
        )
        if board:
            layout.clutter(board, ["books", "box", "plant"], rng.integers(1, 4))


def _meeting(layout: Layout) -> None:
    rng = layout.rng
    style = rng.integers(4)
    wide = furniture.table(
        rng, layout.shapes, layout.wood, rng.uniform(1.6, 2.4), rng.uniform(0.8, 1.1)
    )
    for _ in range(8):
        spot = layout.open_spot(0.5)
        if spot is None:
            continue
        wall = layout.walls[rng.integers(len(layout.walls))]
        placed = layout.put(wide, *spot, 0.0, wall.yaw + layout.jitter(2))
        if placed:
            layout.chairs_around(placed, style, 0.9)
            layout.clutter(placed, ["box", "books", "screen"], rng.integers(0, 4))
            break
    first = layout.against_wall(
        furniture.chair(rng, layout.shapes, style, layout.wood, layout.fabric), gap=0.1
    )
    for _ in range(rng.integers(1, 5) if first else 0):
        one = furniture.chair(rng, layout.shapes, style, layout.wood, layout.fabric)
        first = layout.beside(first, one, gap=(0.0, 0.05)) or first


_KINDS = (_living, _dining, _bedroom, _office, _meeting)
_SHARES = (0.32, 0.16, 0.2, 0.2, 0.12)


def _shelves(layout: Layout) -> None:
    rng, previous = layout.rng, None
    for _ in range(rng.integers(1, 4)):
        stack = furniture.shelf(
            rng, layout.shapes, layout.second_wood, low=rng.random() < 0.25
        )
        if previous and rng.random() < 0.6:
            placed = layout.beside(previous, stack, gap=(0.0, 0.01))
        else:
            placed = layout.against_wall(stack, corner=0.4, gap=0.01, degrees=0.3)
        if placed:
            layout.fill_shelf(placed, rng.uniform(0.6, 0.95))
            previous = placed


def _storage(layout: Layout) -> None:
    rng = layout.rng
    if rng.random() < 0.3:
        layout.against_wall(
            furniture.wardrobe(rng, layout.shapes, layout.wood), corner=0.5
        )
        return
    board = layout.against_wall(
        furniture.cabinet(rng, layout.shapes, layout.wood), corner=0.4
    )
    if board:
        layout.clutter(board, ["books", "box", "plant", "lamp"], rng.integers(1, 4))


def _green(layout: Layout) -> None:
    one = furniture.plant(layout.rng, layout.shapes, standing=True)
    layout.against_wall(one, corner=0.8, gap=0.15)


def _light(layout: Layout) -> None:
    layout.somewhere(
        furniture.lamp(layout.rng, layout.shapes, standing=True), near_wall=0.8
    )


def _spare_chair(layout: Layout) -> None:
    rng = layout.rng
    if rng.random() < 0.25:
        one = furniture.armchair(rng, layout.shapes, layout.second_fabric)
    else:
        style = rng.integers(5)
        one = furniture.chair(
            rng, layout.shapes, style, layout.second_wood, layout.second_fabric
        )
    placed = layout.somewhere(one, near_wall=0.5)
    if placed and rng.random() < 0.2:
        size = rng.uniform((0.15, 0.12, 0.06), (0.24, 0.24, 0.2))
        layout.on(
            placed, placed.piece.supports[0], furniture.box(rng, layout.shapes, size)
        )
    elif placed and rng.random() < 0.3:
        twin = furniture.chair(
            rng, layout.shapes, 1, layout.second_wood, layout.second_fabric
        )
        layout.beside(placed, twin, gap=(0.0, 0.05))


_EXTRAS = (
    (_shelves, 0.2),
    (_storage, 0.18),
    (Layout.box_stack, 0.2),
    (_green, 0.1),
    (_light, 0.06),
    (_spare_chair, 0.14),
    (_dining, 0.06),
    (_desk, 0.06),
)
_EXTRA_SHARES = np.array([share for _, share in _EXTRAS])


def furnish(rng: Rng, shapes: Shapes = _ALL) -> Room:
    """Return a random furnished room, its furniture of the given shapes.

    What its kind asks for comes first; then more, until a third to a half of
    the floor is covered or nothing fits.
    """
    layout = Layout(rng, shapes)
    _KINDS[rng.choice(len(_KINDS), p=_SHARES)](layout)
    full = rng.uniform(0.34, 0.54)
    for _ in range(36):
        if layout.covered() >= full:
            break
        _EXTRAS[rng.choice(len(_EXTRAS), p=_EXTRA_SHARES)][0](layout)
    layout.pictures(rng.integers(0, 6))
    return layout.finish()
