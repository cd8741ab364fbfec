"""Linear probes of frozen backbones: what they see, fit and score."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny_run

from pointins_plugin.errors import UserError
from pointins_plugin.evaluation.label_free import scene_prediction
from pointins_plugin.evaluation.ridge_probe import LinearMap
from pointins_plugin.host import Config, build_model
from pointins_plugin.paths import config_root
from pointins_plugin.study.linear import (
    Probe,
    _Linear,
    _worst,
    fit_heads,
    score_heads,
)
from pointins_plugin.study.measures import draw_probe

CONFIGS = ("mosd-insseg-lin", "rooms-insseg-lin", "streets-panoptic-lin")


@pytest.fixture(scope="module", params=CONFIGS)
def cfg(request, tmp_path_factory):
    """A probe's config on tiny scenes."""
    folder = tmp_path_factory.mktemp("probe")
    path = config_root() / "pointins" / f"{request.param}.py"
    with pytest.MonkeyPatch.context() as patch:
        tiny_run.thin_generators(patch)
        data = tiny_run.TinyData(folder / "data")
        cfg = tiny_run.tiny(Config.fromfile(path), data, folder)
        cfg.hooks = [*cfg.hooks, {"type": "NormMomentum", "momentum": 0.1}]
        yield cfg


@pytest.fixture(scope="module")
def probe(cfg):
    return Probe(cfg)


def test_features_are_what_the_heads_see(probe):
    dataset = probe.dataset("train")
    batch = probe.batch(dataset, 0)
    feature = probe.features(batch)
    assert len(feature) == len(batch["coord"])
    shift, instance = probe.predict(batch)
    with torch.no_grad():
        expected = probe.model.bias_head(feature).numpy()
    np.testing.assert_allclose(shift, expected, rtol=1e-4, atol=1e-5)
    assert instance.shape == (len(feature),)
    again = probe.features(probe.batch(dataset, 0))
    torch.testing.assert_close(again, feature)


def test_training_scenes_are_seen_unchanged(probe):
    """By the transforms of evaluation: nothing drawn at random."""
    dataset = probe.dataset("train")
    one, two = (probe.batch(dataset, 0) for _ in range(2))
    torch.testing.assert_close(one["coord"], two["coord"])
    assert "instance_centroid" in one


class _Draws:
    """A data set that draws the points of a scene."""

    def __getitem__(self, index):
        return {"coord": torch.rand(3, 3)}


def test_a_sampling_draws_its_own_points_and_always_the_same(cfg):
    probe, seen = Probe(cfg), []
    for probe.sampling in (0, 1, 0, 1):
        seen.append([probe.batch(_Draws(), index)["coord"] for index in (0, 1)])
    assert torch.equal(seen[0][1], seen[2][1])
    assert torch.equal(seen[1][1], seen[3][1])
    drawn = [scene for sampling in seen[:2] for scene in sampling]
    assert len({tuple(scene.flatten().tolist()) for scene in drawn}) == 4


def test_the_backbone_is_that_of_the_checkpoint(cfg, tmp_path):
    torch.manual_seed(7)
    given = build_model(cfg.model.backbone).state_dict()
    state = {f"student.backbone.{key}": value for key, value in given.items()}
    path = tmp_path / "model_last.pth"
    torch.save({"state_dict": state}, path)
    found = Probe(cfg, path).model.backbone.state_dict()
    assert found.keys() == given.keys()
    for key, value in given.items():
        torch.testing.assert_close(found[key], value)
    first, second = (Probe(cfg).model.state_dict() for _ in range(2))
    for key, value in first.items():
        assert torch.equal(value, second[key]), key  # random weights are the seed's
    torch.save({"state_dict": {"student.backbone.x": torch.zeros(1)}}, path)
    with pytest.raises(UserError, match="keys of the backbone matched"):
        Probe(cfg, path)


def test_heads_are_fitted_scored_and_drawn(cfg, tmp_path):
    probe = Probe(cfg)
    before = {k: v.clone() for k, v in probe.model.backbone.state_dict().items()}
    fitted = fit_heads(probe, class_points=2_000)
    assert fitted["train_points"] > 0
    scores = score_heads(probe)
    main = "pq" if "panoptic" in cfg.model.type.lower() else "map"
    for score in (scores[main], scores["miou"], scores["allacc"]):
        assert 0 <= score <= 100
    assert scores["allacc"] > 30  # the ground and walls at least are learnt
    assert scores["offset_r2"] < 1
    assert scores["true_things"].keys() == {"map", "ap50", "ap25"}
    assert scores["worst_scene"]["index"] in range(len(probe.dataset("val").data_list))
    for key, value in probe.model.backbone.state_dict().items():
        torch.testing.assert_close(value, before[key])
    again = Probe(cfg)
    assert fit_heads(again, class_points=2_000) == fitted
    assert score_heads(again) == scores
    pytest.importorskip("matplotlib")
    draw_probe(probe, 0, "A *row*", tmp_path / "row.png")
    assert (tmp_path / "row.png").read_bytes().startswith(b"\x89PNG")


def test_the_worst_scene_is_the_first_of_lowest_score():
    size = 40
    truth = np.repeat([0, 1], size)
    halves = np.where(np.arange(2 * size) % 2, truth, -1)
    scenes = [
        scene_prediction(found, target)
        for found, target in (
            (truth, np.full(2 * size, -1)),  # nothing to be found
            (truth, truth),
            (halves, truth),  # at an overlap of exactly one half
            (halves, truth),
        )
    ]
    worst = _worst(scenes)
    assert worst["index"] == 2
    assert worst["map"] < 100
    assert _worst(scenes[:1]) is None


class Omniscient(torch.nn.Module):
    """A head that says the truth of the scene its backbone has just seen."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.batch = None

    def forward(self, feature):
        if self.kind == "offset":
            shift = self.batch["instance_centroid"] - self.batch["coord"]
            return torch.where(self.batch["instance"][:, None] >= 0, shift, 0.0)
        known = self.batch["segment"].clamp(min=0)
        return 50.0 * torch.nn.functional.one_hot(known, self.classes).float()


def test_perfect_heads_score_perfectly(cfg):
    probe = Probe(cfg)
    offset, classes = Omniscient("offset"), Omniscient("class")
    classes.classes = cfg.data.num_classes

    def tell(module, inputs):
        offset.batch = classes.batch = inputs[0]

    probe.model.register_forward_pre_hook(tell)
    probe.model.bias_head, probe.model.seg_head = offset, classes
    scores = score_heads(probe)
    assert scores["offset_r2"] == pytest.approx(1, abs=1e-6)
    assert scores["offset_cosine"] > 0.99  # points at their centre have none
    assert scores["allacc"] > 97  # cells at borders hold points of two classes
    given = scores["true_things"]
    assert given["ap25"] > 70  # instances of fewer points than count are not found
    # whatever is known of classes
    classes.forward = lambda feature: torch.zeros(len(feature), classes.classes)
    scores = score_heads(probe)
    assert scores["true_things"] == pytest.approx(given)
    assert scores["allacc"] < 97
    # and with nothing known of offsets what touches is one
    offset.forward = lambda feature: torch.zeros(len(feature), 3)
    assert score_heads(probe)["true_things"]["map"] < given["map"]


def test_a_fitted_map_is_applied_as_it_is():
    rng = np.random.default_rng(0)
    fitted = LinearMap(rng.normal(size=(5, 3)), rng.normal(size=3))
    feature = rng.normal(size=(7, 5)).astype(np.float32)
    found = _Linear(fitted)(torch.from_numpy(feature))
    np.testing.assert_allclose(found.numpy(), fitted(feature), rtol=1e-5, atol=1e-5)
