"""PT-v3m2 against Pointcept's numbers, and its own invariances."""

import json

import numpy as np
import pytest
import torch

from pointins_plugin.host.standalone.pt_v3m2 import (
    PointTransformerV3,
    SerializedAttention,
    patch_padding,
)
from pointins_plugin.models.tokens import up_cast


def golden(folder, name):
    data = np.load(folder / f"{name}.npz")
    config = json.loads(str(data["config"]))
    config.pop("type")
    tensors = {
        part: {
            key[len(part) + 1 :]: torch.from_numpy(data[key])
            for key in data
            if key.startswith(f"{part}/")
        }
        for part in ("state", "in")
    }
    return config, tensors["state"], tensors["in"], torch.from_numpy(data["expected"])


@pytest.mark.parametrize("name", ["ptv3m2_encoder", "ptv3m2_decoder"])
def test_equals_pointcept(golden_dir, name):
    """Pooling shuffles its orders even where the config does not (as Pointcept's).

    The files were made after ``torch.manual_seed(4)``: building the model from that
    seed gives their weights, and leaves the generator where their forward began.
    """
    config, state, batch, expected = golden(golden_dir, name)
    torch.manual_seed(4)
    net = PointTransformerV3(**config)
    own = net.state_dict()
    assert own.keys() == state.keys()
    for key, value in state.items():
        torch.testing.assert_close(own[key], value, msg=key)
    net.load_state_dict(state)
    net.eval()
    with torch.no_grad():
        point = net(batch)
        if config["enc_mode"]:
            point, _ = up_cast(point, len(config["stride"]))
    torch.testing.assert_close(point.feat, expected, atol=1e-4, rtol=0)
