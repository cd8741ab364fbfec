"""Our Sonata beside Pointcept's: same weights, batch and masks, same losses."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import small_runs

from pointins_plugin.host import HOST, build_model, default_config_parser
from pointins_plugin.models.point_ins import Masking

pytestmark = pytest.mark.skipif(
    HOST != "pointcept",
    reason="set POINTCEPT_ROOT to a checkout of Pointcept with its requirements",
)

BACKBONE = {
    "type": "PT-v3m2",
    "in_channels": 6,
    "order": ("z", "hilbert"),
    "stride": (2, 2, 2),
    "enc_depths": (1, 1, 1, 1),
    "enc_channels": (16, 16, 32, 32),
    "enc_num_head": (2, 2, 4, 4),
    "enc_patch_size": (64, 64, 64, 64),
    "drop_path": 0.0,
    "enable_flash": False,
    "traceable": True,
    "enc_mode": True,
    "mask_token": True,
}
SONATA = {
    "backbone": BACKBONE,
    "head_in_channels": 80,
    "head_hidden_channels": 64,
    "head_embed_channels": 16,
    "head_num_prototypes": 48,
    "teacher_custom": {"drop_path": 0.0},
    "mask_jitter": 0.004,
    "match_max_r": 0.3,
    "up_cast_level": 2,
}
JITTER = SONATA["mask_jitter"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """More of them race in spconv's CPU kernels."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_batch():
    """Two scenes of two global and four local views; no two points share a cell."""
    cells = torch.cartesian_prod(*(torch.arange(n) for n in (40, 40, 20)))
    data = {"grid_size": torch.tensor([0.02, 0.02])}
    parts = {"global": [], "local": []}
    for scene in range(2):
        chosen = torch.multinomial(torch.ones(len(cells)), 3000)
        points = cells[chosen] * 0.05 + torch.rand(3000, 3) * 0.01
        for view in range(2):
            seen = points[torch.randperm(3000)[: 1500 + 200 * view]]
            parts["global"].append((seen, seen * (1 + 0.05 * view) + 0.3 * scene))
        for view in range(4):
            seen = points[torch.randperm(3000)[: 300 + 50 * view]]
            parts["local"].append((seen, seen * 0.9))
    for kind, clouds in parts.items():
        coord = torch.cat([moved for _, moved in clouds])
        data[f"{kind}_coord"] = coord
        data[f"{kind}_origin_coord"] = torch.cat([seen for seen, _ in clouds])
        data[f"{kind}_offset"] = torch.tensor([len(s) for s, _ in clouds]).cumsum(0)
        data[f"{kind}_feat"] = torch.cat([coord, torch.rand(len(coord), 3)], 1)
    return data


@pytest.fixture(scope="module")
def reference(_one_thread):
    """Losses and gradients of Pointcept's model, and what it computed them from."""
    torch.manual_seed(0)
    theirs = build_model({"type": "Sonata-v1m1", **copy.deepcopy(SONATA)})
    state = theirs.state_dict()
    for name, value in state.items():
        if name.endswith("mask_token"):
            state[name] = 0.1 * torch.randn_like(value)
        elif name.startswith("teacher") and not name.endswith("original0"):
            state[name] = value + 0.02 * torch.randn_like(value)
    theirs.load_state_dict(state)
    data = make_batch()
    mask = torch.rand(len(data["global_coord"])) < 0.5
    noise = torch.randn(int(mask.sum()), 3).clamp(-2, 2)
    jitter = torch.zeros(len(mask), 3)
    jitter[mask] = noise * JITTER
    theirs.generate_mask = lambda coord, offset: (mask, None)
    theirs.teacher_temp = theirs.teacher_temp_base
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))
        patch.setattr(torch, "randn_like", lambda _: noise.clone())
        losses = theirs.train()(copy.deepcopy(data))
        losses["loss"].backward()
    given = {"state": state, "data": data, "mask": mask, "jitter": jitter}
    return {name: value.item() for name, value in losses.items()}, {
        **given,
        "gradient": gradients(theirs),
    }


def gradients(net):
    return {
        name: parameter.grad
        for name, parameter in net.student.named_parameters()
        if parameter.grad is not None
    }


def our_step(config, given):
    """Return our trunk's losses and gradients: same weights, batch and masks."""
    net = build_model(config)
    net.load_state_dict(given["state"], strict=config.get("offset_branch") is None)
    net.draw_masking = lambda *_: Masking(given["mask"], given["jitter"])
    net.train()
    net.set_progress(0.5)
    shuffle, torch.randperm = torch.randperm, lambda n, **_: torch.arange(n)
    try:
        losses = net(copy.deepcopy(given["data"]))
    finally:
        torch.randperm = shuffle
    losses["loss"].backward()
    return {name: value.item() for name, value in losses.items()}, gradients(net)


def typed_config():
    """The same model in our own words."""
    sizes = ("hidden_channels", "embed_channels", "num_prototypes")
    return {
        "type": "PointINS",
        "backbone": copy.deepcopy(BACKBONE),
        "semantic": {
            "type": "SonataObjective",
            **{name: SONATA[f"head_{name}"] for name in sizes},
        },
        "match_max_r": SONATA["match_max_r"],
        "mask_jitter": JITTER,
        "shared_grid": True,
    }


def flat_config():
    return {"type": "PointINS", **copy.deepcopy(SONATA)}


@pytest.mark.parametrize("config", [flat_config, typed_config])
def test_losses_and_gradients_are_pointcepts(reference, config):
    expected, given = reference
    found, gradient = our_step(config(), given)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-4), name
    assert gradient.keys() == given["gradient"].keys()
    for name, value in given["gradient"].items():
        torch.testing.assert_close(gradient[name], value, rtol=1e-3, atol=1e-5)


def test_branch_leaves_sonatas_losses_alone(reference):
    expected, given = reference
    branch = {"prior": {"type": "log_normal", "median": 0.2, "sigma": 0.5}}
    found, _ = our_step({**flat_config(), "offset_branch": branch}, given)
    for name in set(expected) - {"loss"}:
        assert found[name] == pytest.approx(expected[name], abs=1e-4), name
    total = expected["loss"] + 0.25 * found["offset_loss"]
    assert found["loss"] == pytest.approx(total, abs=1e-4)


def test_standalone_gives_the_same_losses(reference, tmp_path):
    expected, given = reference
    torch.save(given, tmp_path / "given.pt")
    subprocess.run(
        [sys.executable, __file__, tmp_path],
        env={
            **{key: val for key, val in os.environ.items() if key != "POINTCEPT_ROOT"},
            "POINTINS_HOST": "standalone",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        check=True,
    )
    found = json.loads((tmp_path / "losses.json").read_text())
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-4), name


def test_checkpoints_cross_both_ways():
    theirs = build_model({"type": "Sonata-v1m1", **copy.deepcopy(SONATA)})
    ours = build_model(flat_config())
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    # as Pointcept's downstream configs load it
    names = {
        name.removeprefix("student.backbone."): value
        for name, value in ours.state_dict().items()
        if name.startswith("student.backbone.")
    }
    build_model(copy.deepcopy(BACKBONE)).load_state_dict(names)


def test_existing_config_becomes_instance_aware(tmp_path, monkeypatch):
    """Pointcept's own Sonata config, another type and a branch, in its own trainer."""
    monkeypatch.chdir(tmp_path)
    small_runs.write_data(tmp_path)
    base = Path(os.environ["POINTCEPT_ROOT"]).resolve() / "configs" / "sonata"
    (tmp_path / "instance_aware.py").write_text(
        f"""
_base_ = ["{base / "pretrain-sonata-v1m1-0-base.py"}"]
custom_imports = dict(imports=["pointins_plugin"])
model = dict(
    type="PointINS",
    offset_branch=dict(
        prior=dict(type="log_normal", median=0.45, sigma=0.78),
        odr=dict(type="ODRLoss"),
        scr=dict(type="SCRLoss"),
    ),
)
"""
    )
    options = {"save_path": str(tmp_path / "run"), "epoch": 1, "eval_epoch": 1}
    options |= {"batch_size": 2, "num_worker": 1, "seed": 0, "enable_wandb": False}
    cfg = default_config_parser(str(tmp_path / "instance_aware.py"), options)
    small_runs.shrink(cfg.model)
    cfg.model.update(head_in_channels=24, head_num_prototypes=16, momentum_base=0.5)
    cfg.model.update(head_hidden_channels=16, head_embed_channels=8)
    datasets = cfg.data.train.datasets
    cfg.data.train.datasets = [part for part in datasets if "scannet" in part.data_root]
    cfg.data.train.datasets = cfg.data.train.datasets[:1]
    trainer = small_runs.train(cfg)
    model = trainer.model
    assert model._averaging is not None
    path = tmp_path / "run" / "model" / "model_last.pth"
    saved = torch.load(path, weights_only=False)["state_dict"]
    for head in ("mask_head", "unmask_head", "offset_head"):
        student, teacher = (
            saved[f"{side}.{head}.mlp.0.weight"] for side in ("student", "teacher")
        )
        assert torch.isfinite(student).all()
        assert not torch.equal(student, teacher)


if __name__ == "__main__":  # on the standalone host, for one of the tests
    folder = Path(sys.argv[1])
    inputs = torch.load(folder / "given.pt", weights_only=True)
    (folder / "losses.json").write_text(json.dumps(our_step(flat_config(), inputs)[0]))
