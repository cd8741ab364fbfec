"""Pre-trained encoders: the features of a checkpoint, from it or from an export."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny_run import shrink
from toy_encoder import CONFIG, boxes, write_run

import pointins_plugin
from pointins_plugin.commands.export import run as export
from pointins_plugin.errors import UserError
from pointins_plugin.exported import write_export
from pointins_plugin.host import Config, build_model
from pointins_plugin.models.tokens import backbone_tokens
from pointins_plugin.paths import find_config
from pointins_plugin.pretrained import load, read_pretrained

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the model of a run and its checkpoint."""
    return write_run(tmp_path_factory.mktemp("run"))


def features(path, scene=None, **options):
    model, transform = load(path, **options)
    with torch.no_grad():
        point = model(transform(scene or boxes()))
    return point.feat[point.inverse]


def own_features(model, branch, batch, level=2):
    """Return the features of every cell by the parts of PointINS itself."""
    torch.manual_seed(0)
    backbone = getattr(model, branch)["backbone"]
    with torch.no_grad():
        tokens, _ = backbone_tokens(
            backbone, model.encoder(branch)._input(batch), level
        )
    return tokens


@pytest.mark.parametrize("branch", ["student", "teacher"])
def test_features_and_offsets_of_the_checkpoint_to_the_bit(run, branch):
    model, path = run
    encoder, transform = load(path, branch)
    batch = transform(boxes())
    torch.manual_seed(7)
    state = torch.get_rng_state()
    with torch.no_grad():
        found = encoder(dict(batch))
    assert torch.equal(torch.get_rng_state(), state)
    expected = own_features(model, branch, batch)
    assert torch.equal(found.feat, expected.feat)
    torch.manual_seed(0)
    own = model.encoder(branch).predict_offsets(batch)
    torch.manual_seed(0)
    assert torch.equal(encoder.predict_offsets(batch)["shift"], own["shift"])


def test_branches_differ(run):
    _, path = run
    assert not torch.equal(
        features(path, branch="student"), features(path, branch="teacher")
    )
    assert torch.equal(features(path), features(path, branch="student"))


@pytest.mark.parametrize("name", ["encoder.safetensors", "folder"])
def test_exports_give_the_same_to_the_bit(run, tmp_path, name):
    pytest.importorskip("safetensors")
    _, path = run
    pretrained = read_pretrained(path, "teacher")
    write_export(tmp_path / name, pretrained.spec, pretrained.weights)
    assert torch.equal(features(tmp_path / name), features(path, branch="teacher"))
    back = read_pretrained(tmp_path / name)
    assert back.grouping == pretrained.grouping
    assert back.recipe == pretrained.recipe
    with pytest.raises(UserError, match="holds the teacher, not the student"):
        load(tmp_path / name, "student")


def test_three_lines(run):
    _, path = run
    model, transform = pointins_plugin.load(path)
    point = model(transform(boxes()))
    feature = point.feat[point.inverse]
    assert feature.shape == (3000, 64)  # 16 + 16 + 32 channels, for every point
    assert not model.training
    assert transform.recipe.features == ("coord", "color", "normal")


def test_up_cast(run):
    _, path = run
    scene = boxes()
    coarse = load(path, up_cast=0)
    point = coarse[0](coarse[1](scene))
    assert point.feat.shape[1] == 32
    # by hand, as users of Sonata do
    for _ in range(2):
        parent = point.pop("pooling_parent")
        inverse = point.pop("pooling_inverse")
        parent.feat = torch.cat([parent.feat, point.feat[inverse]], dim=-1)
        point = parent
    assert "pooling_parent" not in point.keys()
    finest = load(path, up_cast="all")
    batch = finest[1](scene)
    assert point.feat.shape == (len(batch["coord"]), 64)
    assert features(path, up_cast=1).shape == (3000, 48)
    with pytest.raises(UserError, match="up_cast='some'"):
        load(path, up_cast="some")


def test_points_of_a_cell_share_their_feature_and_others_do_not(run):
    scene = boxes()
    feature = features(run[1], scene)
    cell = np.floor(scene["coord"] / 0.05)
    _, index, count = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    index = index.reshape(-1)
    crowded = index == count.argmax()
    assert crowded.sum() > 5
    assert (feature[crowded] == feature[crowded][:1]).all()
    assert (feature[~crowded] != feature[crowded][:1]).any(1).all()


def test_training_mode_draws_as_ever(run):
    model, transform = load(run[1])
    batch = transform(boxes())
    model.train()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    model(dict(batch))
    assert not torch.equal(torch.get_rng_state(), state)


def test_custom_keywords_reach_the_backbone(run):
    encoder, _ = load(run[1], enc_patch_size=(32, 32, 32))
    own, _ = load(run[1])

    def sizes(model):
        return {
            value
            for module in model.modules()
            for name, value in vars(module).items()
            if name.startswith("patch_size")
        }

    assert (sizes(own), sizes(encoder)) == ({64}, {32})


def test_the_teacher_has_its_own_options(run, tmp_path):
    custom = "up_cast_level=2, teacher_custom=dict(enc_patch_size=(32, 32, 32)),"
    config = CONFIG.replace("up_cast_level=2,", custom)
    path = broken(run, tmp_path, lambda _: config)
    for branch, size in (("student", 64), ("teacher", 32)):
        patches = read_pretrained(path, branch).spec["backbone"]["enc_patch_size"]
        assert patches == [size] * 3


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("rooms-pretrain-spunet", 8),
        ("rooms-pretrain-sonata", 32),
        ("rooms-pretrain-supervised-offset", 32),
        ("rooms-pretrain-pointcontrast-nce", 32),
        ("rooms-insseg-lin", 32),
        ("rooms-semseg-ft", 8),
        ("indoor-pretrain", 24),
        ("streets-panoptic-lin", 32),
    ],
)
def test_checkpoints_of_every_kind(tmp_path, name, channels):
    cfg = Config.fromfile(find_config(f"pointins/{name}"))
    cfg.model = shrink(cfg.model)
    model = build_model(cfg.model)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    cfg.dump(tmp_path / "config.py")
    scene = {**boxes(), "strength": np.ones((3000, 1), np.float32)}
    feature = features(tmp_path / "model.pth", scene)
    assert feature.shape == (3000, channels)
    assert feature.isfinite().all()


def test_the_config_may_be_a_name(tmp_path):
    model = build_model(Config.fromfile(find_config("demo-pretrain")).model)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    for name in ("pointins/demo-pretrain", "demo-pretrain"):
        assert read_pretrained(tmp_path / "model.pth", config=name).grouping


def test_offsets_of_a_segmentor_with_the_branch_to_the_bit(tmp_path, capsys):
    """Its one head stands beside the backbone, on tokens of a size of its own."""
    cfg = Config.fromfile(DOCS / "examples" / "segmentor-rooms-with-branch.py")
    cfg.model, cfg.hooks = shrink(cfg.model), []
    torch.manual_seed(0)
    model = build_model(cfg.model).eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    cfg.dump(tmp_path / "config.py")
    for branch in ("student", "teacher"):
        encoder, transform = load(tmp_path / "model.pth", branch)
        batch = transform(boxes())
        found = encoder.predict_offsets(dict(batch))
        torch.manual_seed(0)
        expected = model.predict_offsets(dict(batch))
        for key in ("shift", "feat"):
            assert torch.equal(found[key], expected[key])
        assert len(torch.unique(found["feat"], dim=0)) < len(found["feat"])
    pretrained = read_pretrained(tmp_path / "model.pth")
    assert pretrained.spec["offset_head"]["token_size"] == model.token_size
    assert pretrained.grouping.radius == pytest.approx(0.75 * model.token_size)
    pytest.importorskip("safetensors")
    out = tmp_path / "encoder.safetensors"
    export(["-w", str(tmp_path / "model.pth"), str(out)])
    assert "with its offset head" in capsys.readouterr().out
    back = load(out)[0].predict_offsets(dict(batch))
    assert torch.equal(back["shift"], expected["shift"])


def broken(run, tmp_path, change):
    _, path = run
    checkpoint = torch.load(path, weights_only=True)
    config = change(checkpoint) or CONFIG
    (tmp_path / "config.py").write_text(config, encoding="utf-8")
    torch.save(checkpoint, tmp_path / "bad.pth")
    return tmp_path / "bad.pth"


def drop(part):
    def change(checkpoint):
        state = checkpoint["state_dict"]
        for key in [key for key in state if part in key]:
            del state[key]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("student.backbone"), "that of the teacher"),
        (drop("backbone"), "no backbone at all"),
        (drop("backbone.enc.enc0"), "do not fit its config"),
        (drop("magnitude_prior"), "not its unit of length"),
        (lambda _: CONFIG.replace("(16, 16, 32)", "(16, 16, 64)"), "do not fit"),
        (lambda _: CONFIG.replace("backbone=", "spine="), "model has no backbone"),
        (lambda _: CONFIG.replace('"GridSample"', '"Copy"'), "is unknown"),
    ],
)
def test_checkpoints_that_do_not_fit(run, tmp_path, change, message):
    with pytest.raises(UserError, match=message) as error:
        load(broken(run, tmp_path, change))
    assert "\n" not in str(error.value)


def test_missing_files(run, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "none.pth")
    lonely = tmp_path / "lonely.pth"
    lonely.write_bytes(run[1].read_bytes())
    with pytest.raises(UserError, match=r"no config\.py beside it"):
        load(lonely)
    found, _ = load(lonely, config=str(run[1].parents[1] / "config.py"))
    assert found.offset_head is not None
    with pytest.raises(UserError, match="did you mean 'pointins/rooms-pretrain'"):
        load(lonely, config="pointins/rooms-pretrian")
    with pytest.raises(UserError, match="branch 'both'"):
        load(run[1], "both")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        load(tmp_path / "folder")


def test_without_the_evaluator_grouping_fits_the_tokens(run, tmp_path):
    config = CONFIG[: CONFIG.index("hooks = [")]
    path = broken(run, tmp_path, lambda _: config)
    found = read_pretrained(path).grouping
    # tokens are the cells (all pools are undone), 5 cm; the prior's median is 20 cm
    assert found.radius == pytest.approx(0.75 * 0.05)
    assert found.bandwidth == pytest.approx(0.4 * 0.2)
    assert found.ground is None
    ground = config.replace("odr=None,", "odr=None, ground=dict(height=0.2),")
    path = broken(run, tmp_path, lambda _: ground)
    assert read_pretrained(path).grouping.ground == {"height": 0.2}
