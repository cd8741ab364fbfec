"""PointContrast: its batches, gradients, names of weights, and that it learns."""

import copy

import numpy as np
import pytest
import torch

from pointins_plugin.errors import UserError
from pointins_plugin.host import build_model, launch
from pointins_plugin.models.tokens import input_to_token

LOSSES = [
    {"type": "PointInfoNCELoss", "num_pairs": 256},
    {"type": "HardestContrastiveLoss", "num_pairs": 256, "num_negatives": 256},
]
GRID = 0.08
MODEL = {
    "type": "PointContrast",
    "backbone": {
        "type": "PT-v3m2",
        "in_channels": 6,
        "order": ("z", "hilbert"),
        "stride": (2, 2),
        "enc_depths": (1, 1, 1),
        "enc_channels": (8, 16, 32),
        "enc_num_head": (1, 2, 4),
        "enc_patch_size": (64, 64, 64),
        "mlp_ratio": 2,
        "drop_path": 0.0,
        "shuffle_orders": False,
        "enable_flash": False,
        "traceable": True,
        "enc_mode": True,
    },
    "loss": LOSSES[0],
    "up_cast_level": 2,
    "match_max_r": 0.08,
}


def make_batch(scenes=2, seed=0):
    """Views of random surfaces: halves that overlap in the middle, rotated."""
    rng = np.random.default_rng(seed)
    parts = {"coord": [], "origin_coord": [], "feat": []}
    sizes = []
    for _ in range(scenes):
        x = rng.random((1500, 2)) * 3
        height = 0.3 * np.sin(3 * x[:, 0]) * np.cos(2 * x[:, 1])
        coord = np.column_stack([x, height]).astype(np.float32)
        color = np.column_stack([np.sin(x), height]).astype(np.float32)
        for low, high in ((0, 2), (1, 3)):
            keep = (x[:, 0] >= low) & (x[:, 0] < high)
            angle = rng.uniform(0, 2 * np.pi)
            c, s = np.cos(angle), np.sin(angle)
            turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=np.float32)
            moved = coord[keep] @ turn.T
            parts["coord"].append(moved)
            parts["origin_coord"].append(coord[keep])
            parts["feat"].append(np.hstack([moved, color[keep]]))
            sizes.append(int(keep.sum()))
    batch = {
        f"global_{key}": torch.from_numpy(np.concatenate(value))
        for key, value in parts.items()
    }
    batch["global_offset"] = torch.cumsum(torch.tensor(sizes), 0)
    batch["grid_size"] = torch.full((scenes,), GRID)
    return batch


def as_pairs(batch):
    """The same views as a pair dataset collates them."""
    ends = batch["global_offset"].tolist()
    spans = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    pairs = {"grid_size": batch["grid_size"]}
    for side, name in enumerate(("view1", "view2")):
        for key in ("coord", "origin_coord", "feat"):
            parts = [batch[f"global_{key}"][span] for span in spans[side::2]]
            pairs[f"{name}_{key}"] = torch.cat(parts)
        sizes = torch.tensor([len(part) for part in parts])
        pairs[f"{name}_offset"] = torch.cumsum(sizes, 0)
    return pairs


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss["type"])
def test_learns_to_find_the_same_place(loss):
    torch.manual_seed(0)
    model = build_model({**copy.deepcopy(MODEL), "loss": loss})
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    batch = make_batch()
    losses = []
    for _ in range(30):
        output = model(batch)
        optimizer.zero_grad()
        output["loss"].backward()
        optimizer.step()
        losses.append(float(output["loss"].detach()))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])
    assert output["matched_cosine"] > output["unmatched_cosine"] + 0.3


def test_every_weight_gets_a_gradient():
    torch.manual_seed(0)
    model = build_model(copy.deepcopy(MODEL))
    output = model(make_batch())
    output["loss"].backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert not missing
    assert all(value.numel() == 1 for value in output.values())


def test_weights_have_the_names_that_downstream_replaces():
    model = build_model(copy.deepcopy(MODEL))
    backbone = build_model(copy.deepcopy(MODEL["backbone"]))
    prefix = "student.backbone."
    found = {key[len(prefix) :] for key in model.state_dict() if key.startswith(prefix)}
    assert found == set(backbone.state_dict())
    others = {key for key in model.state_dict() if not key.startswith(prefix)}
    assert others == {"student.contrast_head.weight", "student.contrast_head.bias"}


def test_both_kinds_of_batch_are_the_same():
    torch.manual_seed(0)
    # nothing is drawn: every point has one match, and all take part
    loss = {"type": "PointInfoNCELoss", "num_pairs": None}
    model = build_model({**copy.deepcopy(MODEL), "loss": loss, "match_max_k": 1})
    outputs = [model.eval()(batch) for batch in (make_batch(), as_pairs(make_batch()))]
    assert outputs[0]["matches"] == outputs[1]["matches"] > 100
    for key in ("loss", "matched_cosine"):
        torch.testing.assert_close(outputs[0][key], outputs[1][key])


def test_views_without_a_common_place_give_zero_and_the_same_entries():
    model = build_model(copy.deepcopy(MODEL))
    batch = make_batch(1)
    apart = batch["global_offset"][0]
    batch["global_origin_coord"][apart:] += 100
    output = model(batch)
    output["loss"].backward()
    assert output["loss"] == output["matches"] == 0
    assert output.keys() == model(make_batch(1)).keys()
    assert all(p.grad is not None for p in model.parameters())


def test_given_cells_are_used():
    model = build_model({**copy.deepcopy(MODEL), "up_cast_level": 0}).eval()
    batch = make_batch()
    plain = model(batch)
    del batch["grid_size"]
    batch["global_grid_coord"] = (batch["global_coord"] / (GRID / 4)).floor().long()
    batch["global_grid_coord"] -= batch["global_grid_coord"].amin(0)
    with torch.no_grad():
        assert model(batch)["matches"] > 2 * plain["matches"]  # finer tokens


def test_returns_tokens_of_plain_clouds():
    model = build_model(copy.deepcopy(MODEL)).eval()
    batch = make_batch(1)
    plain = {key[7:]: batch[key] for key in batch if key.startswith("global_")}
    point = model({**plain, "grid_size": GRID}, return_point=True)["point"]
    assert point.feat.shape == (len(point.coord), 8 + 16 + 32)
    assert len(input_to_token(point)) == len(plain["coord"])


def test_bad_batches_and_options_are_one_line():
    model = build_model(copy.deepcopy(MODEL))
    batch = make_batch()
    batch["global_offset"] = batch["global_offset"][1:]
    with pytest.raises(UserError, match="3 views are no pairs"):
        model(batch)
    del batch["global_offset"]
    with pytest.raises(UserError, match="global_offset is not there"):
        model(batch)
    with pytest.raises(UserError, match="up_cast_level must be from 0 to 2"):
        build_model({**copy.deepcopy(MODEL), "up_cast_level": 3})


ALONE = {**MODEL, "loss": {**LOSSES[0], "scope": "process"}}


def _train_alone(folder):
    """Two processes with different views: gradients agree, losses are their own."""
    torch.manual_seed(0)
    model = build_model(copy.deepcopy(ALONE))
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    rank = torch.distributed.get_rank()
    torch.manual_seed(rank)
    loss = parallel(make_batch(1, seed=rank))["loss"]
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    torch.save((loss.detach(), gradient), f"{folder}/{rank}.pth")


def test_two_processes_average_the_gradients_of_their_own_batches(tmp_path):
    launch(_train_alone, 2, cfg=(str(tmp_path),))
    (loss0, gradient0), (loss1, gradient1) = (
        torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1)
    )
    torch.testing.assert_close(gradient0, gradient1)
    expected, losses = 0, []
    for rank in (0, 1):
        torch.manual_seed(0)
        model = build_model(copy.deepcopy(ALONE))
        torch.manual_seed(rank)
        loss = model(make_batch(1, seed=rank))["loss"]
        loss.backward()
        losses.append(loss.detach())
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        expected = expected + gradient / 2
    torch.testing.assert_close(torch.stack(losses), torch.stack([loss0, loss1]))
    torch.testing.assert_close(gradient0, expected, atol=1e-5, rtol=1e-4)
