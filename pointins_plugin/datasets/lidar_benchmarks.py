"""What the outdoor benchmarks count: classes, things and stuff, smallest segments."""

from dataclasses import dataclass

from pointins_plugin.host import NUSCENES_CLASSES, SEMANTIC_KITTI_CLASSES


@dataclass(frozen=True)
class Benchmark:
    """The classes of a panoptic benchmark, as training numbers them.

    Attributes:
        title: for messages.
        names: of the classes.
        things: names of those that have instances; the others are stuff.
        min_points: unmatched segments of fewer points are no errors.
        submitted: id that stands for each class in a submission.
    """

    title: str
    names: tuple[str, ...]
    things: tuple[str, ...]
    min_points: int
    submitted: tuple[int, ...]

    @property
    def stuff(self) -> tuple[str, ...]:
        """Return the names of the classes without instances."""
        return tuple(name for name in self.names if name not in self.things)

    @property
    def stuff_classes(self) -> tuple[int, ...]:
        """Return the classes without instances, as numbers."""
        return tuple(map(self.names.index, self.stuff))


# Source: semantic-kitti-api, evaluate_panoptic.py; raw ids are submitted.
SEMANTIC_KITTI = Benchmark(
    title="SemanticKITTI",
    names=tuple(SEMANTIC_KITTI_CLASSES),
    things=(
        "car",
        "bicycle",
        "motorcycle",
        "truck",
        "other-vehicle",
        "person",
        "bicyclist",
        "motorcyclist",
    ),
    min_points=50,
    submitted=tuple(SEMANTIC_KITTI_CLASSES.values()),
)

# Source: nuscenes-devkit, eval/panoptic; classes are submitted from 1, 0 is void.
NUSCENES = Benchmark(
    title="nuScenes",
    names=tuple(NUSCENES_CLASSES),
    things=(
        "barrier",
        "bicycle",
        "bus",
        "car",
        "construction_vehicle",
        "motorcycle",
        "pedestrian",
        "traffic_cone",
        "trailer",
        "truck",
    ),
    min_points=15,
    submitted=tuple(range(1, len(NUSCENES_CLASSES) + 1)),
)
