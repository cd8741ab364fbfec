"""PanopticEvaluator: numbers by hand through sampling, checks, and the report."""

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.panoptic_quality import PanopticQuality
from pointins_plugin.hooks import PanopticEvaluator
from pointins_plugin.host import Config, comm, get_root_logger, launch

NAMES = ["car", "road"]


class Oracle(torch.nn.Module):
    """Predicts what the batch says, on the sampled points."""

    segment_ignore_index = (-1, 1)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        return {
            "loss": torch.tensor(0.5),
            "pred_segment": batch["guess"][:, 0],
            "pred_instance": batch["guess"][:, 1],
        }


def batch(name, guess, inverse, segment, instance, **more):
    return {
        "guess": torch.tensor(guess),
        "offset": torch.tensor([len(guess)]),
        "inverse": torch.tensor(inverse),
        "origin_segment": torch.tensor(segment),
        "origin_instance": torch.tensor(instance),
        "origin_offset": torch.tensor([len(segment)]),
        "name": [name],
        **more,
    }


def scan_a():
    # sampled points: car 0, car 1, road; the seven original points fall on them
    return batch(
        "a",
        [[0, 0], [0, 1], [1, -1]],
        [0, 0, 1, 1, 2, 2, 2],
        [0, 0, 0, 0, 1, 1, 0],
        [5, 5, 6, 6, -1, -1, 6],
    )


def trainer(tmp_path, loader, **data):
    data = {"names": NAMES, "num_classes": 2, "things": ["car"], **data}
    cfg = Config(dict(data=data, evaluate=True, seed=0, resume=False, save_path=""))
    cfg.save_path = str(tmp_path)
    scalars = {}
    return SimpleNamespace(
        cfg=cfg,
        model=Oracle(),
        val_loader=loader,
        logger=get_root_logger(),
        writer=SimpleNamespace(
            add_scalar=lambda name, value, epoch: scalars.update({name: value})
        ),
        scalars=scalars,
        comm_info={},
        epoch=0,
        max_epoch=1,
    )


def evaluate(tmp_path, loader, hook=None, **data):
    hook = hook or PanopticEvaluator(min_points=1)
    hook.trainer = trainer(tmp_path, loader, **data)
    hook.before_train()
    hook.after_epoch()
    return hook.trainer, json.loads((tmp_path / hook.filename).read_text())


def test_original_points_are_scored_by_hand(tmp_path):
    run, report = evaluate(tmp_path, [scan_a()])
    # car 5: IoU 1; car 6: 2 of 3 points; road: 2 of 3 predicted
    car = report["classes"]["car"]
    assert car["pq"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert car["rq"] == 100
    assert report["classes"]["road"]["pq"] == pytest.approx(100 * 2 / 3)
    assert report["pq"] == pytest.approx((car["pq"] + 200 / 3) / 2)
    assert report["scenes"] == 1
    assert report["loss"] == 0.5
    assert run.comm_info["current_metric_name"] == "PQ"
    assert run.comm_info["current_metric_value"] == pytest.approx(report["pq"] / 100)
    assert run.scalars["val/PQ"] == pytest.approx(report["pq"] / 100)
    assert run.scalars["val/PQ_things"] == pytest.approx(car["pq"] / 100)
    assert report["history"][0]["pq"] == report["pq"]


def test_points_without_instance_are_a_segment_as_in_the_benchmarks(tmp_path):
    given = batch("a", [[0, -1], [0, -1]], [0, 1], [0, 0], [-1, -1])
    _, report = evaluate(tmp_path, [given])
    assert report["classes"]["car"]["pq"] == 100


def test_repeated_scans_count_once_and_batches_do_not_matter(tmp_path):
    a = scan_a()
    b = batch("b", [[0, 0], [1, -1]], [0, 1, 0], [0, 0, 1], [0, 0, -1])
    both = {
        key: torch.cat([a[key], b[key]]) for key in a if key not in ("name", "offset")
    }
    both |= {
        "offset": torch.tensor([3, 5]),
        "origin_offset": torch.tensor([7, 10]),
        "name": ["a", "b"],
    }
    _, apart = evaluate(tmp_path, [a, b, a])
    _, joined = evaluate(tmp_path, [both])
    assert apart["scenes"] == joined["scenes"] == 2
    assert apart["classes"] == joined["classes"]


def test_nearest_points_stand_in_for_an_inverse(tmp_path):
    given = scan_a()
    coord = torch.arange(3.0)[:, None].expand(3, 3)
    given["coord"] = coord
    given["origin_coord"] = coord[given.pop("inverse")] + 0.1
    _, report = evaluate(tmp_path, [given])
    _, same = evaluate(tmp_path, [scan_a()])
    assert report["classes"] == same["classes"]


def random_batches():
    rng = np.random.default_rng(1)
    for name in "abcde":
        guess = np.stack([rng.integers(0, 2, 50), rng.integers(-1, 4, 50)], 1)
        inverse = rng.integers(0, 50, 400)
        labels = guess[inverse]
        labels[rng.random(400) < 0.2] = (1, -1)
        yield batch(name, guess.tolist(), inverse.tolist(), *labels.T)


def my_share(folder):
    """Score every second scan; as samplers do, the last one comes on both ranks."""
    world, rank = comm.get_world_size(), comm.get_rank()
    scans = list(random_batches())
    mine = [*range(rank, len(scans), world), *([4] if rank else [])]
    place = Path(folder) / f"{world}_{rank}"
    place.mkdir()
    hook = PanopticEvaluator(min_points=15)
    loader = DataLoader(scans, batch_size=None, sampler=mine)
    hook.trainer = trainer(place, loader)
    hook.before_train()
    hook.after_epoch()
    metric = hook.trainer.comm_info["current_metric_value"]
    (place / "metric.txt").write_text(repr(metric))


def test_two_processes_equal_one(tmp_path):
    for processes in (1, 2):
        launch(my_share, processes, cfg=(str(tmp_path),), timeout=timedelta(seconds=60))
    one, two = (
        json.loads((tmp_path / f"{n}_0" / "panoptic.json").read_text()) for n in (1, 2)
    )
    assert one["pq"] > 0
    assert one["scenes"] == 5
    assert one == two
    metrics = {file.read_text() for file in tmp_path.glob("*/metric.txt")}
    assert len(metrics) == 1  # every rank knows the same


def test_equals_the_score_of_all_points(tmp_path):
    rng = np.random.default_rng(0)
    loader, total = [], PanopticQuality(2, min_points=3, things=[0])
    for name in "abc":
        guess = np.stack([rng.integers(0, 2, 50), rng.integers(-1, 4, 50)], 1)
        inverse = rng.integers(0, 50, 400)
        segment, instance = rng.integers(-1, 2, 400), rng.integers(-1, 4, 400)
        loader.append(batch(name, guess.tolist(), inverse.tolist(), segment, instance))
        predicted = guess[inverse]
        total.update(predicted[:, 0], predicted[:, 1] + 1, segment, instance + 1)
    _, report = evaluate(tmp_path, loader, PanopticEvaluator(min_points=3))
    expected = total.compute()
    for key in ("pq", "sq", "rq", "miou", "pq_dagger", "pq_things", "pq_stuff"):
        assert report[key] == pytest.approx(100 * expected[key], abs=1e-9)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"things": None}, "not said which classes are things"),
        ({"things": ["bus"]}, "things names 'bus'"),
        ({"stuff": ["car", "road"]}, "'car' must be among things or among stuff"),
        ({"things": ["road"]}, r"model's segment_ignore_index=\(-1, 1\)"),
    ],
)
def test_things_are_checked_before_training(tmp_path, data, message):
    hook = PanopticEvaluator()
    hook.trainer = trainer(tmp_path, [], **data)
    with pytest.raises(UserError, match=message):
        hook.before_train()


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="min_points=-1"):
        PanopticEvaluator(min_points=-1)
    given = scan_a()
    del given["origin_instance"]
    with pytest.raises(UserError, match="no 'instance' of the original points"):
        evaluate(tmp_path, [given])
    given = {**scan_a(), "offset": torch.tensor([1, 3]), "name": ["a", "b"]}
    del given["origin_offset"]
    with pytest.raises(UserError, match="no 'origin_offset'"):
        evaluate(tmp_path, [given])
