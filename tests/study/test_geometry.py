"""What coordinates alone find: the scenes a run sees, and when it is measured."""

import json

import numpy as np
import pytest

from pointins_plugin.host import HOOKS, Config, build_dataset
from pointins_plugin.host.standalone.sampling import EpochSampler, SeededDataset
from pointins_plugin.study import geometry
from pointins_plugin.study.geometry import (
    geometry_config,
    geometry_path,
    geometry_scores,
    measure_geometry,
    sampled_scenes,
)
from pointins_plugin.study.ladder import PRETRAINING, WHOLE, Ladder, Unit


@pytest.fixture(scope="module")
def ladder():
    return Ladder.read()


def config(ladder, seed, size="quick"):
    return geometry_config(ladder, "rooms", seed, size)


def test_scenes_are_sampled_as_in_a_run(ladder):
    """The trainer's validation loader, of the same seed, gives the same points."""
    cfg = config(ladder, 3)
    scenes = sampled_scenes(cfg, HOOKS.build(cfg.hooks[0]))
    whole = ladder.config(Unit("rooms", ladder.rows[WHOLE], 3), PRETRAINING, "quick")
    dataset = SeededDataset(build_dataset(whole.data.val), whole.seed)
    places = list(EpochSampler(len(dataset), whole.seed, False))
    first, *_ = scenes = list(scenes)
    for place, scene in zip(places, scenes, strict=True):
        _, sample = dataset[place]
        assert np.array_equal(sample["coord"].numpy(), scene["coord"])
        assert np.array_equal(sample["instance"].numpy(), scene["instance"])
        assert scene["plane"].any()
    other = next(sampled_scenes(config(ladder, 4), HOOKS.build(cfg.hooks[0])))
    # the same room, of which other points are taken
    assert np.ptp(other["coord"], 0) == pytest.approx(np.ptp(first["coord"], 0), 0.1)
    assert not np.array_equal(other["coord"][:100], first["coord"][:100])


def test_true_offsets_are_ahead_of_coordinates(ladder):
    pytest.importorskip("sklearn")
    found = geometry_scores(config(ladder, 0))
    assert found["scenes"] == 2
    methods = found["methods"]
    assert methods.keys() == {"hdbscan", "plane_components", "oracle"}
    assert methods["oracle"]["ap50"] > 80 > methods["plane_components"]["ap50"] > 0
    assert found["options"]["baseline_radius"] == pytest.approx(1.25 * 0.08)


def test_runs_of_the_study_leave_geometry_out(ladder):
    """It is the same for all rows, and no run is repeated for it."""
    for baselines in (True, False):
        cfg = ladder.config(
            Unit("rooms", ladder.rows[WHOLE], 0), PRETRAINING, "quick", baselines
        )
        (hook,) = [h for h in cfg.hooks if h["type"] == "LabelFreeInstanceEvaluator"]
        assert HOOKS.build(hook).baselines == (
            ("hdbscan", "plane_components", "oracle") if baselines else ()
        )


def test_it_is_measured_once_and_anew_when_asked_otherwise(
    ladder, tmp_path, monkeypatch
):
    measured = []

    def scores(cfg):
        measured.append(cfg)
        return {"scenes": 2, "options": {}, "methods": {}}

    monkeypatch.setattr(geometry, "geometry_scores", scores)
    place = ("rooms", 1, "quick", tmp_path)
    assert measure_geometry(ladder, *place)
    path = geometry_path(tmp_path, "rooms", 1, "quick")
    assert path.name == "rooms-geometry-seed1-quick.json"
    result = json.loads(path.read_text())
    assert {"date", "commit", "machine", "settings"} < result["stages"][
        "geometry"
    ].keys()
    assert (result["data"], result["row"], result["seed"]) == ("rooms", "geometry", 1)
    assert not measure_geometry(ladder, *place)
    assert isinstance(measured[0], Config)
    path.write_text("{")  # damaged
    assert measure_geometry(ladder, *place)
    values = json.loads(json.dumps(ladder.values))
    values["sizes"]["quick"]["rooms"]["shared"]["data.val.num_scenes"] = 3
    assert measure_geometry(Ladder(ladder.rows, values), *place)
    assert len(measured) == 3
