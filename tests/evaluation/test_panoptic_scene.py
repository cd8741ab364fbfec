"""Scans of the benchmarks, from label file to score, by the benchmarks' own rule."""

import numpy as np
import pytest

from pointins_plugin.datasets import fake_layouts
from pointins_plugin.datasets.lidar_benchmarks import NUSCENES, SEMANTIC_KITTI
from pointins_plugin.evaluation.panoptic_quality import PanopticQuality
from pointins_plugin.evaluation.panoptic_scene import add_scene, panoptic_scenes
from pointins_plugin.host import Config, build_dataset, collate_fn
from pointins_plugin.paths import config_root

# (raw class, instance id, points, class of the benchmark); of one class are several
# raw classes, with the same id, with none, and of stuff
KITTI = [
    (13, 1, 60, "other-vehicle"),  # bus
    (20, 1, 70, "other-vehicle"),
    (10, 1, 80, "car"),
    (252, 1, 75, "car"),  # moving
    (10, 0, 100, "car"),
    (252, 0, 90, "car"),
    (40, 0, 300, "road"),
    (60, 0, 90, "road"),  # lane marking
    (30, 2, 55, "person"),
    (0, 0, 40, None),
]
NUSC = [
    (2, 1, 40, "pedestrian"),  # adult
    (3, 1, 30, "pedestrian"),  # child
    (2, 0, 45, "pedestrian"),
    (3, 0, 35, "pedestrian"),
    (15, 7, 60, "bus"),  # bendy
    (16, 7, 70, "bus"),
    (24, 0, 300, "driveable_surface"),
    (0, 0, 40, None),
]


def write_kitti(root, labels):
    folder = root / "dataset/sequences/08"
    (folder / "labels").mkdir(parents=True)
    np.array([i << 16 | c for c, i in labels], "<u4").tofile(
        folder / "labels/000000.label"
    )
    return folder / "velodyne/000000.bin", 4


def write_nuscenes(root, labels):
    fake_layouts.write_nuscenes(root, splits=("val",), scans=1, num_points=50)
    (file,) = root.rglob("*_panoptic.npz")
    np.savez(file, data=np.array([1000 * c + i for c, i in labels], np.uint16))
    (scan,) = (root / "raw/samples").rglob("*.bin")
    return scan, 5


def counts(true, predicted, num_classes, min_points):
    """Return tp, fp, fn, sum of IoU of each class, by comparing sets of points.

    Segments are the points of one class and one label; void points are in none.
    """
    result = np.zeros((4, num_classes))
    for c in range(num_classes):
        sides = []
        for side in (true, predicted):
            segments = {}
            for point, ((real, _), (cls, label)) in enumerate(
                zip(true, side, strict=True)
            ):
                if real >= 0 and cls == c:
                    segments.setdefault(label, set()).add(point)
            sides.append(list(segments.values()))
        pairs = [
            (i, j, len(a & b) / len(a | b))
            for i, a in enumerate(sides[0])
            for j, b in enumerate(sides[1])
        ]
        matched = [pair for pair in pairs if pair[2] > 0.5]
        result[0, c] = len(matched)
        result[3, c] = sum(pair[2] for pair in matched)
        for row, side, place in ((1, 1, 1), (2, 0, 0)):
            hit = {pair[place] for pair in matched}
            result[row, c] = sum(
                len(segment) >= min_points and index not in hit
                for index, segment in enumerate(sides[side])
            )
    return result


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.2])
@pytest.mark.parametrize(
    ("config", "benchmark", "content", "write"),
    [
        ("semantickitti", SEMANTIC_KITTI, KITTI, write_kitti),
        ("nuscenes", NUSCENES, NUSC, write_nuscenes),
    ],
)
def test_scores_are_those_of_the_benchmark(
    tmp_path, config, benchmark, content, write, noise
):
    labels = [(c, i) for c, i, n, _ in content for _ in range(n)]
    names = [name for _, _, n, name in content for _ in range(n)]
    classes = [-1 if name is None else benchmark.names.index(name) for name in names]
    scan, columns = write(tmp_path, labels)
    scan.parent.mkdir(exist_ok=True)
    points = np.zeros((len(labels), columns), "<f4")
    points[:, 0] = np.arange(len(labels))  # a cell each
    points.tofile(scan)

    cfg = Config.fromfile(config_root() / f"pointins/{config}-panoptic-lin.py")
    dataset = build_dataset({**cfg.data.val, "data_root": str(tmp_path)})
    batch = {k: np.asarray(v) for k, v in collate_fn([dataset[0]]).items()}

    # things of a class are told apart by label, some of them merged or cut
    rng = np.random.default_rng(0)
    things = [benchmark.names.index(name) for name in benchmark.things]
    ids = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    segment = np.array([max(c, 0) for c in classes])
    instance = np.array([ids[label] for label in labels])
    wrong = rng.random(len(labels)) < noise
    segment[wrong] = rng.integers(0, len(benchmark.names), wrong.sum())
    instance[wrong] = rng.integers(0, len(ids), wrong.sum())
    instance[~np.isin(segment, things) | (rng.random(len(labels)) < noise)] = -1
    sampled = np.zeros((2, len(batch["coord"])), int)
    sampled[:, batch["inverse"]] = segment, instance
    output = dict(pred_segment=sampled[0], pred_instance=sampled[1])

    score = PanopticQuality(len(benchmark.names), (), benchmark.min_points, things)
    (scene,) = panoptic_scenes(batch, output)
    add_scene(score, scene, "test")
    expected = counts(
        list(zip(classes, labels, strict=True)),
        list(zip(segment.tolist(), instance.tolist(), strict=True)),
        len(benchmark.names),
        benchmark.min_points,
    )
    found = score.true_positive, score.false_positive, score.false_negative
    np.testing.assert_array_equal(found, expected[:3])
    np.testing.assert_allclose(score.iou_sum, expected[3], atol=1e-12)
    assert expected[0].sum() > 3
