"""What stands in streets, built of solids: local frame, foot on z = 0, facing +x.

The colour of a solid is its reflectance at the wavelength of a LiDAR, 0-255, as grey.
"""

import math

import numpy as np

from .solids import Maker, Solids


def _grey(reflectance: float) -> tuple[float, float, float]:
    value = 255.0 * min(max(reflectance, 0.01), 1.0)
    return (value, value, value)


def _wheel(make: Maker, x: float, y: float, radius: float, width: float) -> None:
    make.pole(
        (x, y - width / 2, radius), (x, y + width / 2, radius), radius, _grey(0.1)
    )


def car(rng: np.random.Generator) -> Solids:
    """A hatchback, saloon, estate or van of 3.6 to 5.2 m."""
    kind = rng.choice(
        ["hatchback", "saloon", "estate", "van"], p=[0.35, 0.3, 0.2, 0.15]
    )
    length = {"hatchback": 4.0, "saloon": 4.6, "estate": 4.6, "van": 5.0}[kind]
    length *= rng.uniform(0.92, 1.06)
    width = rng.uniform(1.68, 1.9)
    height = {"hatchback": 1.5, "saloon": 1.45, "estate": 1.5, "van": 1.95}[kind]
    height *= rng.uniform(0.95, 1.05)
    paint, glass = _grey(rng.choice([0.08, 0.25, 0.5, 0.75])), _grey(0.08)
    clearance, belt = 0.18, 0.62 * height
    make = Maker()
    middle = (clearance + belt) / 2
    make.box((0, 0, middle), (length, width, belt - clearance), paint, rounding=0.16)
    hood = {"hatchback": 0.24, "saloon": 0.24, "estate": 0.22, "van": 0.14}[kind]
    trunk = {"hatchback": 0.04, "saloon": 0.2, "estate": 0.03, "van": 0.01}[kind]
    front, back = length * (0.5 - hood), -length * (0.5 - trunk)
    cabin = height - belt
    make.box(
        ((front + back) / 2, 0, belt + cabin / 2),
        (front - back, 0.84 * width, cabin),
        glass,
        rounding=0.25 * cabin,
        returns=0.6,
    )
    make.box(
        ((front + back) / 2 - 0.03 * length, 0, height - 0.04),
        (0.8 * (front - back), 0.78 * width, 0.08),
        paint,
    )
    radius = rng.uniform(0.3, 0.35)
    for x in (0.31 * length, -0.31 * length):
        for side in (-1, 1):
            _wheel(make, x, side * (width / 2 - 0.1), radius, 0.22)
    for side in (-1, 1):  # plates shine
        make.box((side * length / 2, 0, 0.5), (0.04, 0.5, 0.12), _grey(1.0))
        make.box(
            (front - 0.1, side * (width / 2 + 0.08), belt), (0.1, 0.16, 0.12), paint
        )
    return make.build()


def truck(rng: np.random.Generator) -> Solids:
    """A lorry or bus of 6.5 to 12 m."""
    length, width = rng.uniform(6.5, 12.0), rng.uniform(2.3, 2.55)
    height = rng.uniform(2.9, 3.8)
    paint = _grey(rng.choice([0.3, 0.6, 0.8]))
    make = Maker()
    if rng.random() < 0.4:  # a bus
        make.box((0, 0, (0.3 + height) / 2), (length, width, height - 0.3), paint)
        for side in (-1, 1):
            make.box(
                (0, side * width / 2, 0.62 * height),
                (0.9 * length, 0.04, 0.28 * height),
                _grey(0.06),
                returns=0.6,
            )
    else:
        cab = rng.uniform(1.7, 2.3)
        make.box(
            (length / 2 - cab / 2, 0, 0.5 + 0.4 * height),
            (cab, width, 0.8 * height),
            paint,
            rounding=0.15,
        )
        box = length - cab - 0.5
        low = rng.uniform(0.9, 1.2)
        make.box(
            (-length / 2 + box / 2, 0, (low + height) / 2),
            (box, width, height - low),
            _grey(rng.choice([0.2, 0.5, 0.8])),
        )
        make.box((0, 0, 0.75), (length, 0.9, 0.3), _grey(0.1))
    for x in (0.38 * length, -0.3 * length, -0.38 * length):
        for side in (-1, 1):
            _wheel(make, x, side * (width / 2 - 0.2), 0.5, 0.35)
    make.box((-length / 2, 0, 0.9), (0.04, 0.5, 0.12), _grey(1.0))
    return make.build()


def bicycle(rng: np.random.Generator) -> Solids:
    """A bicycle without a rider."""
    make = Maker()
    radius, half = rng.uniform(0.31, 0.36), rng.uniform(0.48, 0.54)
    frame = _grey(rng.uniform(0.1, 0.6))
    for x in (-half, half):
        _wheel(make, x, 0.0, radius, 0.05)
    seat, head = (-0.18, 0, 0.95), (half - 0.12, 0, 0.95)
    crank = (-0.05, 0, 0.3)
    for a, b in (
        ((-half, 0, radius), seat),
        ((-half, 0, radius), crank),
        (crank, seat),
        (crank, head),
        (seat, head),
        (head, (half, 0, radius)),
    ):
        make.pole(a, b, 0.025, frame)
    make.box((seat[0], 0, 1.0), (0.26, 0.14, 0.06), _grey(0.1))
    make.pole((head[0], -0.28, 1.04), (head[0], 0.28, 1.04), 0.02, frame)
    return make.build()


def pedestrian(rng: np.random.Generator) -> Solids:
    """A person, standing or in stride, perhaps with a bag."""
    height = rng.uniform(1.2, 1.92)
    cloth, skin = _grey(rng.uniform(0.1, 0.7)), _grey(0.5)
    make = Maker()
    stride = rng.uniform(0.0, 0.35) * height / 1.75
    hip, neck = 0.5 * height, 0.84 * height
    broad = rng.uniform(0.2, 0.25) * height / 1.75
    for side in (-1, 1):
        foot = (side * stride, side * 0.09, 0.0)
        make.pole(foot, (0, side * 0.09, hip), 0.065, cloth, head_radius=0.09)
        hand = (-side * 0.7 * stride, side * (broad + 0.05), 0.45 * height)
        make.pole(hand, (0, side * broad, neck - 0.05), 0.045, cloth)
    make.ball((0, 0, (hip + neck) / 2), (0.14, broad, (neck - hip) / 2 + 0.06), cloth)
    make.ball((0.01, 0, 0.93 * height), (0.1, 0.085, 0.075 * height), skin)
    if rng.random() < 0.3:
        make.box((-0.18, 0, 0.68 * height), (0.16, 0.3, 0.42), cloth, rounding=0.05)
    return make.build()


def trunk(rng: np.random.Generator, height: float) -> Solids:
    """The stem of a tree, with two boughs."""
    radius = rng.uniform(0.1, 0.25)
    make = Maker()
    top = (rng.normal(0, 0.15), rng.normal(0, 0.15), height)
    make.pole((0, 0, 0), top, radius, _grey(0.35), head_radius=0.6 * radius)
    for _ in range(2):
        turn = rng.uniform(0, 2 * math.pi)
        tip = (math.cos(turn), math.sin(turn), height + 0.8)
        make.pole((*top[:2], 0.85 * height), tip, 0.4 * radius, _grey(0.35))
    return make.build()


def crown(rng: np.random.Generator, low: float) -> Solids:
    """Leaves of a tree above ``low`` metres: rays often pass."""
    make = Maker()
    spread = rng.uniform(1.2, 2.4)
    for _ in range(rng.integers(4, 8)):
        half = rng.uniform(0.5, 0.9, 3) * spread * (1, 1, 0.8)
        x, y = rng.normal(0, 0.45 * spread, 2)
        z = low + half[2] * 0.8 + rng.uniform(0, 1.3) * spread
        make.ball((x, y, z), half, _grey(rng.uniform(0.4, 0.6)))
    return make.build()


def bush(rng: np.random.Generator) -> Solids:
    """A shrub or a piece of hedge."""
    make = Maker()
    for _ in range(rng.integers(2, 5)):
        half = rng.uniform(0.25, 0.7, 3)
        x, y = rng.normal(0, 0.4, 2)
        make.ball((x, y, 0.6 * half[2]), half, _grey(rng.uniform(0.4, 0.6)))
    return make.build()


def lamp_post(rng: np.random.Generator) -> Solids:
    """A street lamp whose arm reaches over the road (+x)."""
    height = rng.uniform(5.5, 8.0)
    make = Maker()
    make.pole((0, 0, 0), (0, 0, height), 0.1, _grey(0.45), head_radius=0.05)
    reach = rng.uniform(0.6, 1.6)
    make.pole((0, 0, height), (reach, 0, height + 0.2), 0.04, _grey(0.45))
    make.box((reach, 0, height + 0.15), (0.6, 0.22, 0.12), _grey(0.4))
    return make.build()


def post(rng: np.random.Generator, height: float) -> Solids:
    """The thin pole of a sign, or a bollard."""
    radius = rng.uniform(0.03, 0.05) if height > 1.5 else rng.uniform(0.06, 0.1)
    return Maker().pole((0, 0, 0), (0, 0, height), radius, _grey(0.5)).build()


def sign(rng: np.random.Generator, height: float) -> Solids:
    """A traffic sign at the top of a post, facing +x: it shines back."""
    size = rng.uniform(0.5, 0.8)
    make = Maker()
    if rng.random() < 0.5:
        make.pole(
            (0.05, 0, height), (0.09, 0, height), size / 2, _grey(rng.uniform(0.8, 1))
        )
    else:
        make.box((0.07, 0, height), (0.04, size, size), _grey(rng.uniform(0.8, 1)))
    return make.build()


def fence(rng: np.random.Generator, length: float) -> Solids:
    """A wall, railing or wire fence along x."""
    height = rng.uniform(0.8, 1.8)
    returns = float(rng.choice([1.0, 0.55, 0.35]))
    make = Maker()
    make.box((0, 0, height / 2), (length, 0.08, height), _grey(0.3), returns=returns)
    for x in np.arange(-length / 2, length / 2 + 0.01, 2.5):
        make.box((x, 0, height / 2), (0.1, 0.12, height + 0.1), _grey(0.35))
    return make.build()


def building(rng: np.random.Generator, length: float, depth: float) -> Solids:
    """A house with its front at y = 0, behind it y > 0; doors, sills, balconies."""
    height = rng.uniform(5.0, 18.0)
    wall = _grey(rng.uniform(0.25, 0.6))
    make = Maker()
    make.box((0, depth / 2, height / 2), (length, depth, height), wall)
    if rng.random() < 0.5:
        make.box((0, -0.06, 0.35), (length, 0.12, 0.7), wall)
    for floor in range(int(height // 3.2)):
        z = 3.2 * floor
        if z + 2.4 > height:
            break
        for x in np.arange(-length / 2 + 1.6, length / 2 - 1.4, rng.uniform(2.4, 4.0)):
            if floor and rng.random() < 0.12:
                make.box((x, -0.5, z + 0.1), (2.2, 1.0, 0.18), wall)
                make.box((x, -0.97, z + 0.6), (2.2, 0.06, 0.9), wall, returns=0.7)
            elif floor or rng.random() < 0.7:
                make.box(
                    (x, -0.005, z + 1.6), (1.1, 0.05, 1.3), _grey(0.05), returns=0.35
                )
                make.box((x, -0.1, z + 0.9), (1.3, 0.2, 0.06), wall)
    return make.build()
