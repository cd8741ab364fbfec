"""Loading pre-trained backbones: which keys, which branch, what is refused."""

import logging
from types import SimpleNamespace

import pytest
import torch
import torch.nn as nn

from pointins_plugin.errors import UserError
from pointins_plugin.exported import FORMAT, write_export
from pointins_plugin.hooks import PretrainedLoader
from pointins_plugin.hooks.pretrained import backbone_weights
from pointins_plugin.host import ConfigDict, build_model


class Net(nn.Module):
    """A downstream model with an encoder, perhaps a decoder, and a bias head."""

    def __init__(self, width=4, decoder=False):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.enc = nn.Linear(3, width)
        if decoder:
            self.backbone.dec = nn.Linear(width, width)
        self.bias_head = nn.Sequential(
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, 3),
        )

    def forward(self, batch):
        return self.bias_head(self.backbone.enc(batch["feat"]))


def checkpoint(path, width=4, teacher=True, prefix=""):
    torch.manual_seed(5)
    state = {}
    for branch in ("student", "teacher")[: 1 + teacher]:
        for name, value in nn.Linear(3, width).state_dict().items():
            state[f"{prefix}{branch}.backbone.enc.{name}"] = value
        for layer, shape in ((0, (3, width)), (2, (3, 3))):
            for name, value in nn.Linear(shape[1], shape[0]).state_dict().items():
                state[f"{prefix}{branch}.offset_head.mlp.{layer}.{name}"] = value
    state[f"{prefix}offset_branch.prior.magnitude_prior"] = torch.linspace(0, 1, 1001)
    torch.save({"state_dict": state}, path)
    return state


def loader(path, model, **options):
    hook = PretrainedLoader(**options)
    feat = torch.randn(50, 3)
    hook.trainer = SimpleNamespace(
        model=model,
        cfg=ConfigDict(
            weight=None if path is None else str(path),
            resume=False,
            model={"backbone": {"enc_channels": (4,)}},
        ),
        logger=logging.getLogger("test"),
        train_loader=[{"feat": feat, "name": ["a"]}] * 3,
    )
    return hook


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("branch", ["student", "teacher"])
def test_the_branch_that_was_asked_for(tmp_path, branch, prefix, caplog):
    state = checkpoint(tmp_path / "x.pth", prefix=prefix)
    model = Net()
    hook = loader(tmp_path / "x.pth", model, branch=branch)
    with caplog.at_level("INFO"):
        hook.before_train()
    expected = state[f"{prefix}{branch}.backbone.enc.weight"]
    assert torch.equal(model.backbone.enc.weight, expected)
    assert hook.matched == 1
    assert f"2 of 2 keys of the backbone matched the {branch}'s (100.0%)" in caplog.text


def test_a_decoder_starts_anew(tmp_path, caplog):
    checkpoint(tmp_path / "x.pth")
    hook = loader(tmp_path / "x.pth", Net(decoder=True))
    with caplog.at_level("INFO"):
        hook.before_train()
    assert hook.matched == 1
    assert "The decoder starts anew: 2 keys" in caplog.text


def test_the_bias_head_starts_as_the_offset_head(tmp_path, caplog):
    state = checkpoint(tmp_path / "x.pth")
    model = Net().train()
    hook = loader(tmp_path / "x.pth", model, init_bias_head=True, init_batches=2)
    with caplog.at_level("INFO"):
        hook.before_train()
    assert "on 100 points" in caplog.text
    first = state["student.offset_head.mlp.0.weight"]
    assert torch.equal(model.bias_head[0].weight[:3], first)
    assert model.training


def test_a_supervised_checkpoint_gives_its_backbone():
    state = {
        "module.backbone.enc.weight": torch.ones(2),
        "seg_head.bias": torch.ones(1),
    }
    assert list(backbone_weights(state, "student", "x")) == ["backbone.enc.weight"]


@pytest.mark.parametrize("stem", ["embedding.stem.linear", "conv_input.0"])
def test_an_encoder_by_itself_is_a_backbone(stem):
    state = {f"{stem}.weight": torch.ones(2), "enc.enc0.bias": torch.ones(1)}
    found = backbone_weights(state, "student", "x")
    assert list(found) == [f"backbone.{stem}.weight", "backbone.enc.enc0.bias"]
    with pytest.raises(UserError, match="no backbone at all"):
        backbone_weights({"seg_head.bias": torch.ones(1)}, "student", "x")


def test_refusals(tmp_path):
    with pytest.raises(UserError, match="branch='both'; use 'student' or 'teacher'"):
        PretrainedLoader(branch="both")
    with pytest.raises(UserError, match="checkpoint by -w, or use the -scratch"):
        loader(None, Net()).before_train()
    loader(None, Net(), required=False).before_train()
    checkpoint(tmp_path / "x.pth", teacher=False)
    with pytest.raises(UserError, match=r"no backbone of the teacher .*of the student"):
        loader(tmp_path / "x.pth", Net(), branch="teacher").before_train()
    state = {"student.backbone.other": torch.ones(1)}
    torch.save({"state_dict": state}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"0 of 2 keys .*first without a match"):
        loader(tmp_path / "other.pth", Net()).before_train()
    with pytest.raises(UserError, match="does not exist"):
        loader(tmp_path / "y.pth", Net()).before_train()
    model = Net()
    del model.bias_head
    with pytest.raises(UserError, match="has no bias head"):
        loader(tmp_path / "x.pth", model, init_bias_head=True).before_train()


@pytest.mark.parametrize("place", ["student.backbone.", ""])
def test_a_real_encoder_fits_a_probe_and_a_decoder(tmp_path, place):
    encoder = dict(
        type="PT-v3m2",
        in_channels=4,
        stride=(2,),
        enc_depths=(1, 1),
        enc_channels=(8, 8),
        enc_num_head=(1, 1),
        enc_patch_size=(16, 16),
        dec_depths=(1,),
        dec_channels=(8,),
        dec_num_head=(1,),
        dec_patch_size=(16,),
        enc_mode=True,
    )
    pretrained = build_model({**encoder, "mask_token": True})
    state = {f"{place}{k}": v for k, v in pretrained.state_dict().items()}
    torch.save({"config": encoder, "state_dict": state}, tmp_path / "x.pth")
    for enc_mode, channels in ((True, 16), (False, 8)):
        model = build_model(
            dict(
                type="DefaultSegmentorV2",
                num_classes=2,
                backbone_out_channels=channels,
                backbone={**encoder, "enc_mode": enc_mode},
            )
        )
        hook = loader(tmp_path / "x.pth", model)
        hook.before_train()
        assert hook.matched == 1
        for name, value in model.backbone.enc.state_dict().items():
            assert torch.equal(value, pretrained.enc.state_dict()[name])


def net(channels, name="embedding"):
    """A backbone of 23 keys that begins with a stem, and a head."""
    model = nn.Module()
    model.backbone = nn.Module()
    setattr(model.backbone, name, nn.Sequential(nn.Linear(channels, 4)))
    model.backbone.enc = nn.Sequential(*(nn.Linear(4, 4) for _ in range(8)))
    model.backbone.norm = nn.BatchNorm1d(4)
    model.head = nn.Linear(4, 2)
    return model


def as_student(model, without=()):
    return {
        f"student.{key}": torch.full_like(value, 7)
        for key, value in model.state_dict().items()
        if key.startswith("backbone.") and key not in without
    }


@pytest.mark.parametrize("name", ["embedding", "conv_input"])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_stem_of_other_channels_is_an_error(tmp_path, name, frozen):
    torch.save({"state_dict": as_student(net(9, name))}, tmp_path / "x.pth")
    model = net(6, name)
    model.backbone.requires_grad_(not frozen)
    with pytest.raises(UserError, match=r"in_channels and .*feat_keys") as error:
        loader(tmp_path / "x.pth", model).before_train()
    assert f"backbone.{name}.0.weight is 4x9 there and 4x6 in the" in str(error.value)
    assert "\n" not in str(error.value)
    hook = loader(tmp_path / "x.pth", model, allow_partial=True)
    hook.before_train()
    assert hook.matched == 22 / 23
    assert (model.backbone.enc[0].weight == 7).all()


def test_another_shape_behind_the_stem_names_the_key(tmp_path):
    state = as_student(net(6))
    state["student.backbone.enc.3.bias"] = torch.ones(5)
    torch.save({"state_dict": state}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"enc\.3\.bias is 5 there and 4 in"):
        loader(tmp_path / "x.pth", net(6)).before_train()


@pytest.mark.parametrize("key", ["backbone.enc.3.bias", "backbone.norm.running_var"])
def test_a_frozen_backbone_needs_every_key(tmp_path, key):
    state = as_student(net(6), without=[key])
    torch.save({"state_dict": state}, tmp_path / "x.pth")
    model = net(6)
    loader(tmp_path / "x.pth", model).before_train()
    assert (model.backbone.enc[0].weight == 7).all()
    frozen = net(6)
    frozen.backbone.requires_grad_(False)
    with pytest.raises(UserError, match=rf"lacks 1 keys .*first: {key}"):
        loader(tmp_path / "x.pth", frozen).before_train()
    loader(tmp_path / "x.pth", frozen, allow_partial=True).before_train()
    assert (frozen.backbone.enc[0].weight == 7).all()


def input_config(grid_size=0.05, features=("coord", "color")):
    steps = [
        dict(type="GridSample", grid_size=grid_size),
        dict(type="Collect", feat_keys=features),
    ]
    return {"data": dict(val=dict(transform=steps))}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, None),
        ({"grid_size": 0.1}, "grid_size=0.05, here 0.1"),
        ({"features": ("coord",)}, "feat_keys=('coord', 'color'), here ('coord',)"),
    ],
)
def test_another_input_than_that_of_pre_training_is_a_warning(
    tmp_path, given, text, caplog
):
    checkpoint(tmp_path / "x.pth")
    source = f"data = {input_config()['data']!r}\n"
    (tmp_path / "config.py").write_text(source, encoding="utf-8")
    hook = loader(tmp_path / "x.pth", Net())
    hook.trainer.cfg.update(input_config(**given))
    hook.before_train()
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == (text is not None)
    assert text is None or text in warnings[0]


@pytest.mark.parametrize(
    "line", ["open('ran', 'w')", "import os", "_base_ = 'other.py'", "x = data['val']"]
)
def test_a_config_of_more_than_values_is_not_run(tmp_path, line, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "x.pth")
    (tmp_path / "other.py").write_text("", encoding="utf-8")
    source = f"data = {input_config()['data']!r}\n{line}\n"
    (tmp_path / "config.py").write_text(source, encoding="utf-8")
    hook = loader(tmp_path / "x.pth", Net())
    hook.trainer.cfg.update(input_config(grid_size=0.1))
    hook.before_train()
    assert not (tmp_path / "ran").exists()
    assert "grid_size" not in caplog.text


@pytest.mark.parametrize("name", ["encoder.safetensors", "folder"])
def test_an_export_is_loaded(tmp_path, name, caplog):
    pytest.importorskip("safetensors")
    spec = {
        "format": FORMAT,
        "source": {"branch": "student"},
        "scene": {"grid_size": 0.05, "features": ["coord"]},
    }
    weights = {f"backbone.enc.{k}": v for k, v in Net().backbone.enc.named_parameters()}
    write_export(tmp_path / name, spec, weights)
    model = Net()
    hook = loader(tmp_path / name, model)
    hook.trainer.cfg.update(input_config(0.1, ("coord",)))
    hook.before_train()
    assert torch.equal(model.backbone.enc.weight, weights["backbone.enc.weight"])
    assert "grid_size=0.05, here 0.1" in caplog.text
    for options in ({"branch": "teacher"}, {"init_bias_head": True}):
        with pytest.raises(UserError, match="the checkpoint that it was exported"):
            loader(tmp_path / name, Net(), **options).before_train()
