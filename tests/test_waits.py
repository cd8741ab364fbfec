"""No step waits for a GPU but where docs/performance.md says so, and why."""

import copy
import re
import sys
from functools import cache, partial
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "models"))
import waits
from test_point_ins import PAPER, SPATIAL, model
from test_sonata_objective import model as sonata_model
from toy_scenes import BACKBONE, PRIOR, batch

from pointins_plugin.hooks.ema_teacher import update_teacher
from pointins_plugin.host import HOST
from pointins_plugin.ops.device import to_device
from pointins_plugin.priors import PriorBuffer, build_prior

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
UNET = {
    "type": "SpUNet-v1m1",
    "in_channels": 6,
    "num_classes": 0,
    "base_channels": 8,
    "channels": (8,) * 4,
    "layers": (1,) * 4,
}
MODELS = {
    "paper": partial(model, PAPER),
    "spatial": partial(model, SPATIAL),
    "ground": partial(model, {**SPATIAL, "ground": {"cell": 0.1, "height": 0.05}}),
    "DOS": partial(model, None),
    "Sonata": sonata_model,
    "U-Net": partial(
        model, None, backbone=UNET, up_cast_level=0, token_pool=4, head_in_channels=8
    ),
    "flash-attn": partial(model, None, backbone={**BACKBONE, "enable_flash": True}),
}

pytestmark = pytest.mark.skipif(HOST != "standalone", reason="its own backbones")


def step(net, data):
    """Take a whole step: forward, backward, optimizer, teacher; return the losses."""
    net.train()
    net.set_progress(0.5)
    torch.manual_seed(0)
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    output = net(data)
    output["loss"].backward()
    optimizer.step()
    for student, teacher in net.ema_pairs():
        update_teacher(student, teacher, 0.99)
    return output


def no_flash(heads, bounds, **_):
    """Stand in for flash-attn, whose kernels are not looked into."""
    return heads[:, 2]


def data_for(name):
    return batch(num_local=3 if name == "Sonata" else 0)


@cache
def watched(name):
    """Return what a step waits for and its losses, on the pretended GPU."""
    net = waits.far(MODELS[name]())
    data = waits.far(data_for(name))
    with pytest.MonkeyPatch.context() as patch:
        if name == "flash-attn":
            attention = sys.modules["pointins_plugin.host.standalone.attention"]
            patch.setattr(attention, "flash_for", lambda device: no_flash)
        with waits.watch() as found:
            output = step(net, data)
    return found, {key: float(waits.near(value)) for key, value in output.items()}


def steps_of(words):
    """Return the models of "all", "all but a, b" or "a, b"."""
    if words == "all":
        return list(MODELS)
    names = words.removeprefix("all but ").split(", ")
    assert set(names) <= set(MODELS), words
    return [n for n in MODELS if (n in names) != words.startswith("all but ")]


@cache
def page():
    """Return {model: the functions that docs/performance.md says wait in its step}."""
    text = PAGE.read_text(encoding="utf-8").split("### Where a GPU is waited for")[1]
    listed = {name: set() for name in MODELS}
    for line in re.findall(r"^\| `.*", text, re.MULTILINE):
        where, steps, *reasons = (cell.strip() for cell in line.strip("|").split("|"))
        assert len(reasons) == 2, line
        assert all(reasons), f"no reason: {line}"
        for name in steps_of(steps):
            listed[name] |= set(re.findall(r"`([^`]+)`", where))
    return listed


@pytest.mark.parametrize("name", MODELS)
def test_a_step_waits_where_the_page_says(name):
    found, _ = watched(name)
    new = {
        where: dict(why) for where, why in found.items() if where not in page()[name]
    }
    assert not new, "not in the table"
    assert page()[name] <= set(found), "in the table, but no more"


@pytest.mark.parametrize("name", [name for name in MODELS if name != "flash-attn"])
def test_the_step_is_the_one_of_the_cpu(name):
    """On the pretended GPU code takes its branch for GPUs: the losses are the same."""
    _, losses = watched(name)
    expected = step(MODELS[name](), copy.deepcopy(data_for(name)))
    assert losses.keys() == expected.keys()
    for key, value in expected.items():
        assert losses[key] == pytest.approx(float(value.detach()), rel=1e-4), key


def rows():
    return torch.tensor([3.0, 1.0, 2.0])


WAIT = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x[0]),
    "if": lambda x: 1 if x.sum() > 0 else 0,
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "row by a tensor without dimension": lambda x: x[x.argmax()],
    "rows by a mask": lambda x: x[x > 1],
    "rows set by a mask": lambda x: x.clone().__setitem__(x > 1, rows()[:2].to(x)),
    "nonzero": lambda x: torch.nonzero(x),
    "masked_select": lambda x: x.masked_select(x > 1),
    "unique": lambda x: x.unique(),
    "unique_consecutive": lambda x: x.unique_consecutive(),
    "bincount": lambda x: x.long().bincount(minlength=9),
    "repeat_interleave": lambda x: x.repeat_interleave(x.long()),
    "equal": lambda x: torch.equal(x, x + 1),
    "inv": lambda x: torch.linalg.inv(torch.diag(x)),
    "solve": lambda x: torch.linalg.solve(torch.diag(x), x),
    "eigh": lambda x: torch.linalg.eigh(torch.diag(x)),
    "svd": lambda x: torch.linalg.svd(torch.diag(x)),
    "cholesky": lambda x: torch.linalg.cholesky(torch.diag(x)),
    "numbers": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "numbers like": lambda x: x.new_tensor([1.0, 2.0]),
    "to the device": lambda x: rows().to(x.device),
    "from pageable memory": lambda x: rows().to(x.device, non_blocking=True),
    "rows by an index of the host": lambda x: x[torch.tensor([0, 2])],
}
GO_ON = {
    "sums": lambda x: (x.cumsum(0) / x.sum()).sort(),
    "filled": lambda x: x.new_full((2,), 3.0),
    "set to a number": lambda x: x.clone().__setitem__(slice(1), 2.0),
    "where": lambda x: torch.where(x > 1, x, 0.0),
    "rows by an index": lambda x: x[x.argsort()],
    "index_select": lambda x: x.index_select(0, x.argmax()[None]),
    "repeat_interleave": lambda x: x.repeat_interleave(x.long(), output_size=6),
    "inv_ex": lambda x: torch.linalg.inv_ex(torch.diag(x)),
    "pinned": lambda x: rows().pin_memory().to(x.device, non_blocking=True),
    "to_device": lambda x: to_device(rows(), x.device),
    "on the host": lambda x: rows().unique().tolist(),
}


@pytest.mark.parametrize("what", [*WAIT, *GO_ON])
def test_the_watch_knows_what_waits(what):
    call = WAIT.get(what) or GO_ON[what]
    with waits.watch() as found:
        x = waits.far(rows())
        found.clear()
        call(x)
    assert set(found) == ({waits.OUTSIDE} if what in WAIT else set())


def test_the_watch_sees_the_backward_pass():
    layer = waits.far(torch.nn.Linear(3, 3))
    with waits.watch() as found:
        chosen = layer.weight[layer.bias < 9].sum()
        found.clear()
        chosen.backward()
    assert found == {waits.OUTSIDE: {"rows by a mask": 1}}
    assert torch.equal(layer.weight.grad.near, torch.ones(3, 3))


def test_devices_do_not_mix():
    with waits.watch(), pytest.raises(RuntimeError, match="are mixed"):
        waits.far(rows()) + rows()


def test_the_watch_names_the_function():
    prior = waits.far(PriorBuffer(build_prior(PRIOR)))
    with waits.watch() as found:
        prior.load_state_dict(prior.state_dict())
    assert set(found) == {"priors.py:_load_from_state_dict"}
