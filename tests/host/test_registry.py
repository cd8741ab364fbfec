"""Registries: names, duplicates, and what a config gets wrong."""

import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.host.standalone.registry import Registry


@pytest.fixture
def shapes():
    registry = Registry("shapes")

    @registry.register_module()
    class Circle:
        def __init__(self, radius, centre=(0, 0)):
            self.radius = radius
            self.centre = centre

    @registry.register_module("Polygon-v1")
    class Polygon:
        def __init__(self, **options):
            self.options = options

    return registry


def test_builds_by_name_with_keywords(shapes):
    circle = shapes.build({"type": "Circle", "radius": 2})
    assert (circle.radius, circle.centre) == (2, (0, 0))
    assert shapes.build({"type": "Polygon-v1", "n": 3}).options == {"n": 3}
    assert "Polygon" not in shapes
    assert "Polygon-v1" in shapes
    assert shapes.get("Square") is None
    assert len(shapes) == 2


def test_config_wins_over_defaults_and_stays_as_it_was(shapes):
    cfg = {"type": "Circle", "radius": 1}
    assert shapes.build(cfg, radius=5, centre=(1, 1)).radius == 1
    assert cfg == {"type": "Circle", "radius": 1}


def test_a_name_is_taken_once(shapes):
    class Circle:
        pass

    with pytest.raises(KeyError, match="Circle is already registered in shapes"):
        shapes.register_module(module=Circle)
    shapes.register_module(module=Circle, force=True)
    assert shapes.get("Circle") is Circle


def test_a_value_of_a_wrong_type_is_one_line_that_says_where(shapes):
    @shapes.register_module()
    class Disc:
        def __init__(self, radius):
            self.area = 3 * radius**2

    with pytest.raises(UserError) as told:
        shapes.build({"type": "Disc", "radius": "2"})
    line = str(told.value)
    assert line.startswith("config: Disc: unsupported operand")
    assert "test_registry.py, line " in line
    assert "\n" not in line
    assert isinstance(told.value.__cause__, TypeError)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"type": "Circel"}, r"'Circel' is not in the shapes.*did you mean 'Circle'"),
        ({"type": "Xyz"}, r"'Xyz' is not in the shapes registry"),
        ({"radius": 1}, r"an entry of shapes needs a type"),
        (
            {"type": "Circle", "radius": 1, "center": 0},
            r"Circle has no option 'center' \(did you mean 'centre'\?\)",
        ),
        ({"type": "Circle"}, r"Circle needs the option 'radius'"),
        ("Circle", r"an entry of shapes needs a type"),
    ],
)
def test_mistakes_in_a_config(shapes, cfg, message):
    with pytest.raises(UserError, match=message):
        shapes.build(cfg)
