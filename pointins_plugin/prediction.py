"""Instances of a whole cloud without labels: any number of points, one answer."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pointins_plugin.evaluation.grouping import Grouping
from pointins_plugin.host import batch_to, in_evaluation
from pointins_plugin.scene_transform import SceneTransform
from pointins_plugin.tiling import Tile, blocks, tiles

# Most cells among which planes are sought at once (memory), and how wide ground may be.
_BLOCK = 300_000
_GROUND_SIDE = 2000.0


@dataclass(frozen=True)
class Prediction:
    """What is predicted of a cloud's N points.

    Attributes:
        instance: (N,) int32, -1 for none; numbered from the largest.
        shift: (N, 3) float32, metres, to the predicted centre of the point's instance.
        plane: (N,) bool, points of dominant planes, which have no instance.
        num_tiles: parts that the cloud was predicted in.
        assumed: what the cloud lacked and was made up.
    """

    instance: np.ndarray
    shift: np.ndarray
    plane: np.ndarray
    num_tiles: int
    assumed: tuple[str, ...]


def predict_instances(
    model: Any,
    transform: SceneTransform,
    scene: Mapping[str, Any],
    grouping: Grouping,
    max_points: int = 20000,
    overlap: float = 1.0,
    scene_size: float = np.inf,
    progress: Callable[[Iterable[Tile]], Iterable[Tile]] = iter,
) -> Prediction:
    """Predict offsets part by part, and group the centres of the whole cloud at once.

    Parts bound the memory of the network only: an object that lies in several has one
    predicted centre, so that nothing has to be merged afterwards. A point is predicted
    where it is the core of a part; planes are found, and neighbours agree on centres,
    within parts and their margins too.

    Args:
        model: has ``predict_offsets`` (``Encoder``, ``PointINS``).
        transform: of what the model was trained with.
        scene: ``coord`` (N, 3) metres, z up, and what else there is.
        grouping: how centres become instances.
        max_points: most cells of a part.
        overlap: width of the margin of a part, metres.
        scene_size: width of the scenes that the model was trained on, metres.
        progress: wraps the parts, to show how many are left.

    Raises:
        UserError: a scene that cannot be used, or a model without offsets.
    """
    cells = transform.cells(scene)
    coord = cells.arrays["coord"]
    shift = np.zeros((len(cells), 3), np.float32)
    plane = _planes(grouping, coord, scene_size)
    parts = list(tiles(coord, max_points, overlap))
    for part in progress(parts):
        rows = part.rows
        predicted = _offsets(model, transform.batch(cells, rows))
        agreed = grouping.agree(coord[rows], predicted, plane[rows])
        shift[part.core] = agreed[: len(part.core)]
    # The points of a cell share its centre.
    inverse = cells.inverse
    instance = by_size(grouping.instances(coord, shift, plane)[inverse])
    points = np.asarray(scene["coord"])
    moved = points[cells.row][inverse] - points
    return Prediction(
        instance.astype(np.int32),
        shift[inverse] + moved.astype(np.float32),
        plane[inverse],
        len(parts),
        cells.assumed,
    )


def _planes(grouping: Grouping, coord: np.ndarray, scene_size: float) -> np.ndarray:
    """Return (N,) bool, the cells of planes, or of the ground."""
    plane = np.zeros(len(coord), bool)
    side = scene_size if grouping.ground is None else _GROUND_SIDE
    for rows in blocks(coord, side, _BLOCK):
        plane[rows] = grouping.plane(coord[rows])
    return plane


def _offsets(model: Any, batch: dict[str, Any]) -> np.ndarray:
    device = next(model.parameters()).device
    batch = batch_to(batch, device)
    output = in_evaluation(model.predict_offsets, batch)
    return output["shift"].float().cpu().numpy()


def by_size(instance: np.ndarray) -> np.ndarray:
    """Number instances anew from the largest, those of one size as they were."""
    inside = instance >= 0
    count = np.bincount(instance[inside])
    order = np.argsort(-count, kind="stable")
    rank = np.empty(len(count) + 1, np.int64)
    rank[order] = np.arange(len(count))
    rank[-1] = -1
    return rank[instance]
