"""Options of what a config file used up as it was read are refused, with its places."""

import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.host.standalone.config import RUNTIME_KEYS, Config
from pointins_plugin.host.standalone.defaults import REQUIRED_KEYS
from pointins_plugin.host.standalone.helper_keys import READ_KEYS, places_of_helper

RUNTIME = "configs/pointins/_base_/default_runtime.py"
TEXT = """
data_root = "data/scenes"
names = ["floor", "mug"]
grid_size = 0.05
shift = True
batch_size = 2
data = dict(
    names=names,
    train=dict(data_root=data_root, transform=[dict(type="X", grid_size=grid_size)]),
    val=dict(data_root=data_root, shuffle=True, scale=0.05),
)
"""


@pytest.fixture(params=["as written", "as dumped"])
def cfg(request, tmp_path):
    path = tmp_path / "config.py"
    path.write_text(TEXT)
    if request.param == "as dumped":
        Config.fromfile(path).dump(path)
    return Config.fromfile(path)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("data_root", "data_root: .*in data.train.data_root, data.val.data_root: set"),
        ("names", r"its value is in data\.names: set that"),
        ("grid_size", r"its value is in data\.train\.transform\.0\.grid_size: set"),
    ],
)
def test_a_helper_names_its_places(cfg, key, message):
    with pytest.raises(UserError, match=message):
        cfg.merge_from_dict({key: "other"})


def test_what_is_read_is_set(cfg):
    cfg.merge_from_dict({"batch_size": 4, "data.val.data_root": "x", "shift": False})
    assert (cfg.batch_size, cfg.data.val.data_root, cfg.shift) == (4, "x", False)


def test_a_long_list_of_places_is_cut():
    cfg = Config(dict(x="long", data={name: "long" for name in "abcdef"}))
    with pytest.raises(UserError, match=r"data\.a, .*data\.d and 2 more"):
        cfg.merge_from_dict({"x": "y"})


def test_equal_is_of_one_type():
    assert places_of_helper(dict(n=1, data=dict(n=True)), "n") == []
    assert places_of_helper(dict(n=1, data=dict(n=1)), "n") == ["data.n"]


def test_what_trainers_read_is_no_helper():
    runtime = {key for key in Config.fromfile(RUNTIME) if not key.startswith("_")}
    assert runtime | {*REQUIRED_KEYS} | {*RUNTIME_KEYS} <= READ_KEYS
