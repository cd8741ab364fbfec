"""Streets: a road, perhaps a crossing, what lines it and who is on it."""

import math
from dataclasses import dataclass

import numpy as np

from . import street_objects as objects
from .solids import Footprints, Maker, Solids, footprints, overlaps

THINGS = ("car", "truck", "bicycle", "pedestrian")
STUFF = (
    "road",
    "sidewalk",
    "terrain",
    "building",
    "fence",
    "vegetation",
    "trunk",
    "pole",
    "sign",
)
CLASSES = (*THINGS, *STUFF)

_REACH = 95.0  # m, half length of what is built


@dataclass
class Street:
    """A street around the place of the sensor.

    Attributes:
        solids: all solids.
        label: (n,) index into ``CLASSES`` of each solid.
        instance: (n,) thing each solid belongs to, -1 for stuff.
        porous: (n,) bool, leaves: rays end somewhere inside.
        sensor: (2,) where the sensor's car stands, heading along +x, m.
    """

    solids: Solids
    label: np.ndarray
    instance: np.ndarray
    porous: np.ndarray
    sensor: np.ndarray


class _Builder:
    """Collects objects; things and posts never share space."""

    def __init__(self):
        self.parts: list[Solids] = []
        self.labels: list[np.ndarray] = []
        self.instances: list[np.ndarray] = []
        self.occupied: list[Footprints] = []
        self.count = 0

    def add(self, solids: Solids, name: str, occupy: bool = True) -> None:
        thing = name in THINGS
        self.parts.append(solids)
        self.labels.append(np.full(len(solids), CLASSES.index(name)))
        self.instances.append(np.full(len(solids), self.count if thing else -1))
        self.count += thing
        if occupy:
            self.occupied.append(footprints(solids))

    def place(self, solids: Solids, name: str) -> bool:
        """Add an object unless it would run into another."""
        prisms = footprints(solids)
        for other in self.occupied:
            if overlaps(prisms, other).any():
                return False
        self.add(solids, name)
        return True

    def reserve(self, x: float, y: float, length: float, width: float) -> None:
        """Keep a rectangle clear."""
        slab = Maker().slab(
            (x - length / 2, y - width / 2, 0.2),
            (x + length / 2, y + width / 2, 2.5),
            (0, 0, 0),
        )
        self.occupied.append(footprints(slab.build()))


@dataclass
class _Plan:
    half_road: float
    sidewalk: float  # width
    kerb: float  # height of the sidewalk
    setback: float  # of the houses from the sidewalk
    built: float  # share of the frontage with houses
    crossing: float | None  # x of the crossing road
    half_crossing: float

    def free(self, x: float, margin: float = 0.0) -> bool:
        """Is x off the crossing road and its sidewalks?"""
        if self.crossing is None:
            return True
        return abs(x - self.crossing) > self.half_crossing + self.sidewalk + margin


def lay_street(rng: np.random.Generator) -> Street:
    """Return a random street; all randomness comes from ``rng``."""
    plan = _Plan(
        half_road=rng.uniform(3.2, 6.5),
        sidewalk=rng.uniform(1.6, 4.0),
        kerb=rng.uniform(0.1, 0.18),
        setback=rng.uniform(0.0, 7.0) * (rng.random() < 0.7),
        built=rng.uniform(0.2, 0.95),
        crossing=rng.uniform(-35.0, 35.0) if rng.random() < 0.6 else None,
        half_crossing=rng.uniform(3.0, 5.0),
    )
    build = _Builder()
    sensor = np.array([0.0, -plan.half_road / 2])
    build.reserve(*sensor, 5.0, 2.2)
    _ground(build, rng, plan)
    for side in (-1, 1):
        _kerbside(build, rng, plan, side)
        _frontage(build, rng, plan, side)
        _parked(build, rng, plan, side)
        _bicycles(build, rng, plan, side)
        _people(build, rng, plan, side)
    _traffic(build, rng, plan)
    solids = Solids.joined(build.parts)
    label = np.concatenate(build.labels)
    leaves = label == CLASSES.index("vegetation")
    return Street(solids, label, np.concatenate(build.instances), leaves, sensor)


def _slab(build: _Builder, name: str, x, y, top: float, grey: float) -> None:
    solids = Maker().slab((x[0], y[0], top - 0.6), (x[1], y[1], top), [255 * grey] * 3)
    build.add(solids.build(), name, occupy=False)


def _ground(build: _Builder, rng: np.random.Generator, plan: _Plan) -> None:
    far, road = _REACH, rng.uniform(0.1, 0.2)
    paved = rng.uniform(0.2, 0.35)
    _slab(build, "terrain", (-far, far), (-far, far), -0.04, 0.4)
    _slab(build, "road", (-far, far), (-plan.half_road, plan.half_road), 0.0, road)
    blocks = [(-far, far)]
    if plan.crossing is not None:
        edge = (plan.crossing - plan.half_crossing, plan.crossing + plan.half_crossing)
        _slab(build, "road", edge, (-far, far), 0.0, road)
        blocks = [(-far, edge[0]), (edge[1], far)]
    for side in (-1, 1):
        near, end = plan.half_road, plan.half_road + plan.sidewalk
        for block in blocks:
            strip = sorted((side * near, side * end))
            _slab(build, "sidewalk", block, strip, plan.kerb, paved)
            yard = sorted((side * end, side * far))
            _slab(build, "terrain", block, yard, plan.kerb - 0.02, 0.45)


def _kerbside(build: _Builder, rng: np.random.Generator, plan: _Plan, side: int):
    """Lamps, trees, posts and signs along the kerb."""
    y = side * (plan.half_road + 0.45)
    facing = -side * math.pi / 2
    trees = rng.random() < 0.6
    x = -_REACH + rng.uniform(0, 15)
    while x < _REACH:
        if plan.free(x, 1.0):
            if trees and plan.sidewalk > 2 and rng.random() < 0.6:
                _tree(build, rng, x, y + side * 0.3, plan.kerb)
            else:
                post = objects.lamp_post(rng).moved(x, y, plan.kerb, facing)
                build.place(post, "pole")
        x += rng.uniform(9.0, 22.0)
    spots = list(rng.uniform(-60, 60, 3))
    if plan.crossing is not None:
        gap = plan.half_crossing + plan.sidewalk + 0.6
        spots += [plan.crossing - gap, plan.crossing + gap]
    for x in spots:
        if not plan.free(x):
            continue
        height = rng.uniform(2.0, 2.9)
        turn = rng.choice([0.0, math.pi]) + rng.normal(0, 0.1)
        post = objects.post(rng, height + 0.3).moved(x, y, plan.kerb, turn)
        if build.place(post, "pole"):
            board = objects.sign(rng, height).moved(x, y, plan.kerb, turn)
            build.add(board, "sign", occupy=False)
    if rng.random() < 0.3:  # bollards
        start = rng.uniform(-30, 20)
        for x in np.arange(start, start + 12, 1.5):
            if plan.free(x):
                short = objects.post(rng, 0.9)
                build.place(short.moved(x, y - side * 0.2, plan.kerb, 0.0), "pole")


def _tree(build: _Builder, rng: np.random.Generator, x, y, z) -> None:
    height = rng.uniform(1.8, 3.5)
    stem = objects.trunk(rng, height).moved(x, y, z, rng.uniform(0, 6.3))
    if build.place(stem, "trunk"):
        leaves = objects.crown(rng, height - 0.3).moved(x, y, z, 0.0)
        build.add(leaves, "vegetation", occupy=False)


def _frontage(build: _Builder, rng: np.random.Generator, plan: _Plan, side: int):
    """Houses, and yards with fences, shrubs and trees before and between them."""
    line = plan.half_road + plan.sidewalk
    yaw = 0.0 if side > 0 else math.pi
    height = plan.kerb - 0.02
    x = -_REACH
    while x < _REACH:
        length, depth = rng.uniform(8.0, 22.0), rng.uniform(8.0, 12.0)
        middle = x + length / 2
        clear = plan.free(middle, length / 2 + 0.5)
        house = clear and rng.random() < plan.built
        setback = plan.setback * rng.uniform(0.8, 1.2)
        if house:
            front = side * (line + setback + 0.2)
            solids = objects.building(rng, length, depth)
            build.add(solids.moved(middle, front, height, yaw), "building")
        if clear and (setback > 1.5 or not house):
            if rng.random() < 0.5:
                rail = objects.fence(rng, length)
                build.place(rail.moved(middle, side * (line + 0.2), height, 0), "fence")
            deep = setback if house else 12.0
            for _ in range(rng.integers(0, 3 + int(deep))):
                at = rng.uniform(x, x + length)
                y = side * (line + 0.9 + rng.uniform(0, max(deep - 1.5, 0.1)))
                if rng.random() < 0.4 and deep > 3:
                    _tree(build, rng, at, y, height)
                else:
                    shrub = objects.bush(rng).moved(at, y, height, 0.0)
                    build.add(shrub, "vegetation", occupy=False)
            if rng.random() < 0.4:
                _hedge(build, rng, (x, x + length), side * (line + 0.7), height)
        x += length + (rng.uniform(0.0, 6.0) if rng.random() < 0.5 else 0.0)


def _hedge(build: _Builder, rng: np.random.Generator, ends, y, z) -> None:
    for x in np.arange(*ends, 0.9):
        shrub = objects.bush(rng).moved(x, y + rng.normal(0, 0.1), z, 0.0)
        build.add(shrub, "vegetation", occupy=False)


def _vehicle(rng: np.random.Generator, trucks: float = 0.06) -> tuple[Solids, str]:
    if rng.random() < trucks:
        return objects.truck(rng), "truck"
    return objects.car(rng), "car"


def _length(solids: Solids) -> float:
    low, high = solids.bounds()
    return float(high[0] - low[0])


def _parked(build: _Builder, rng: np.random.Generator, plan: _Plan, side: int):
    """Rows along the kerb, bumper to bumper or with gaps."""
    if plan.half_road < 4.0 and rng.random() < 0.5:
        return
    density = rng.uniform(0.2, 0.95)
    heading = 0.0 if side < 0 else math.pi
    x = -70.0 + rng.uniform(0, 5)
    while x < 70.0:
        solids, name = _vehicle(rng)
        length = _length(solids)
        at = x + length / 2
        if rng.random() < density and plan.free(at, length / 2 + 3.0):
            y = side * (plan.half_road - rng.uniform(1.05, 1.25))
            turn = heading + math.pi * (rng.random() < 0.1) + rng.normal(0, 0.02)
            build.place(solids.moved(at, y, 0.0, turn), name)
        x += length + rng.uniform(0.4, 1.3)


def _traffic(build: _Builder, rng: np.random.Generator, plan: _Plan) -> None:
    for side in (-1, 1):
        x = -75.0 + rng.uniform(0, 25)
        while x < 75.0:
            solids, name = _vehicle(rng, trucks=0.12)
            y = side * min(1.7, plan.half_road / 2) + rng.normal(0, 0.15)
            turn = (0.0 if side < 0 else math.pi) + rng.normal(0, 0.03)
            build.place(solids.moved(x, y, 0.0, turn), name)
            x += _length(solids) + rng.uniform(4.0, 40.0)
    if plan.crossing is not None:
        for side in (-1, 1):
            for y in rng.uniform(8.0, 50.0, rng.integers(0, 4)) * rng.choice([-1, 1]):
                solids, name = _vehicle(rng)
                x = plan.crossing + side * plan.half_crossing / 2
                place = solids.moved(x, y, 0.0, side * math.pi / 2)
                build.place(place, name)


def _bicycles(build: _Builder, rng: np.random.Generator, plan: _Plan, side: int):
    """Racks on the sidewalk, and single ones against it."""
    for _ in range(rng.integers(0, 4)):
        x = rng.uniform(-45.0, 45.0)
        y = side * (plan.half_road + rng.uniform(1.1, max(1.2, plan.sidewalk - 0.5)))
        turn = rng.choice([0.0, math.pi / 2]) + rng.normal(0, 0.1)
        for k in range(rng.integers(1, 6)):
            at = x + k * rng.uniform(0.62, 0.85)
            if plan.free(at):
                lean = turn if turn > 0.5 else turn + math.pi / 2
                place = objects.bicycle(rng).moved(at, y, plan.kerb, lean)
                build.place(place, "bicycle")


def _people(build: _Builder, rng: np.random.Generator, plan: _Plan, side: int):
    """Alone and in groups that stand or walk close together."""
    for _ in range(rng.integers(2, 9)):
        x = rng.uniform(-50.0, 50.0)
        y = side * (plan.half_road + rng.uniform(0.7, plan.sidewalk + 0.2))
        z = plan.kerb
        if not plan.free(x) or rng.random() < 0.1:  # on the road
            y, z = rng.uniform(-plan.half_road, plan.half_road), 0.0
        heading = rng.choice([0.0, math.pi]) + rng.normal(0, 0.4)
        for k in range(rng.choice([1, 2, 3, 4], p=[0.55, 0.25, 0.12, 0.08])):
            across = k * rng.uniform(0.55, 0.8)
            at_x = x - math.sin(heading) * across
            at_y = y + math.cos(heading) * across
            person = objects.pedestrian(rng)
            turn = heading + rng.normal(0, 0.2)
            build.place(person.moved(at_x, at_y, z, turn), "pedestrian")
