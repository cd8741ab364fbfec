"""Configs: inheritance, templates, options, the round trip, and errors."""

import argparse
import copy
import pickle
from pathlib import PosixPath

import numpy as np
import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.host.standalone.config import Config, DictAction, parse_value


@pytest.fixture
def write(tmp_path):
    def _write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    return _write


def test_bases_merge_key_by_key(write):
    write("base.py", "a = dict(x=1, y=dict(z=2, w=3))\nb = [1, 2]\nc = 5\n")
    path = write("child.py", '_base_ = "base.py"\na = dict(y=dict(z=7))\nb = [9]\n')
    cfg = Config.fromfile(path)
    assert cfg.a == {"x": 1, "y": {"z": 7, "w": 3}}
    assert cfg.b == [9]
    assert cfg.c == 5


def test_delete_replaces(write):
    write("base.py", "a = dict(x=1, y=2)\n")
    path = write("child.py", '_base_ = "base.py"\na = dict(_delete_=True, z=3)\n')
    assert Config.fromfile(path).a == {"z": 3}


def test_values_of_bases_and_file_names(write):
    write("one.py", "lr = dict(base=0.5)\n")
    write("two.py", "n = [1, 2]\n")
    text = (
        '_base_ = ["one.py", "two.py"]\nx = {{_base_.lr.base}}\ny = ({{ _base_.n }},)\n'
    )
    path = write("child.py", text + 'z = "{{ fileBasenameNoExtension }}"\n')
    cfg = Config.fromfile(path)
    assert (cfg.x, cfg.y, cfg.z) == (0.5, ([1, 2],), "child")


def test_functions_and_modules_stay_out(write):
    cfg = Config.fromfile(write("a.py", "import os\ndef f():\n    pass\nx = 1\n"))
    assert list(cfg) == ["x"]


def test_lists_that_configs_import_from_pointcept_are_here(write):
    module = "pointcept.datasets.preprocessing.scannet.meta_data"
    text = f"from {module}.scannet200_constants import (\n    CLASS_LABELS_200,\n)\n"
    cfg = Config.fromfile(write("a.py", text + "names = CLASS_LABELS_200\n"))
    assert len(set(cfg.names)) == len(cfg.names) == 200
    assert cfg.names[:3] == ("wall", "chair", "floor")
    assert "bathroom cabinet" in cfg.names
    with pytest.raises(UserError, match=r"a.py, line 1: .*No module named"):
        Config.fromfile(write("a.py", "from pointcept.nowhere import x\n"))


def test_dumped_config_reads_back_equal(write, tmp_path):
    text = "a = dict(t=(1, 2), s='x', n=None, l=[dict(k=0.1)], b=True)\nc = {1: 'y'}\n"
    cfg = Config.fromfile(write("a.py", text))
    cfg.dump(tmp_path / "dumped.py")
    again = Config.fromfile(tmp_path / "dumped.py")
    assert again._cfg_dict == cfg._cfg_dict
    assert isinstance(again.a.t, tuple)


AWKWARD = {
    "infinite": [float("inf"), -float("inf"), 1e-300],
    "template": "{{ fileDirname }} and {{_base_.x}} and a \\ 'quote'",
    "empty": [{}, [], (), set(), ""],
    "keys": {1: "a", "two words": "b", "class": "c", (1, 2): "d", None: "e"},
    "one": (1,),
    "others": [{3, 1, 2}, range(3), b"x", 2j, True, None],
    "long": {"numbers": list(range(40)), "text": "word " * 40},
    "deep": [{"type": "A", "parts": ({"type": "B", "sizes": (1, 2, 3)},) * 3}] * 2,
}


def test_awkward_values_read_back_equal(tmp_path):
    cfg = Config(AWKWARD)
    cfg.dump(tmp_path / "dumped.py")
    again = Config.fromfile(tmp_path / "dumped.py")
    assert again._cfg_dict == cfg._cfg_dict
    assert again.pretty_text == cfg.pretty_text
    assert isinstance(again.deep[0].parts, tuple)


def test_text_is_one_a_person_reads():
    cfg = Config({"model": {"type": "A", "sizes": list(range(30))}, "lr": 0.1})
    assert cfg.pretty_text.startswith("model = dict(\n    type='A',\n    sizes=[")
    assert cfg.pretty_text.endswith("],\n)\nlr = 0.1\n")
    short = Config({"hooks": [{"type": "A", "k": (1, 2)}]})
    assert short.pretty_text == "hooks = [dict(type='A', k=(1, 2))]\n"


def test_numpy_numbers_become_plain_and_objects_are_refused():
    cfg = Config({"a": {"lr": np.float64(0.5), "n": np.int64(3)}})
    assert cfg.pretty_text == "a = dict(lr=0.5, n=3)\n"
    with pytest.raises(UserError, match=r"a\.b\.1 is a PosixPath"):
        Config({"a": {"b": [0, PosixPath("x")]}}).dump()


def test_digest_is_of_values():
    one, two = Config({"a": 1, "b": {"c": 2}}), Config({"a": 1, "b": {"c": 3}})
    assert one.digest() != two.digest()
    assert one.digest(without=["b"]) == two.digest(without=["b"])


def test_copies_are_configs_of_their_own():
    cfg = Config({"a": {"b": [1]}}, "x.py")
    for other in (copy.deepcopy(cfg), pickle.loads(pickle.dumps(cfg))):
        assert isinstance(other, Config)
        assert other.filename == "x.py"
        other.a.b.append(2)
    assert cfg.a.b == [1]


def test_delete_works_at_any_depth(write):
    write("base.py", "a = dict(x=dict(y=1))\n")
    text = '_base_ = "base.py"\na = dict(x=dict(_delete_=True, z=2))\n'
    text += "b = dict(c=dict(_delete_=True, d=1))\n"
    cfg = Config.fromfile(write("child.py", text))
    assert cfg.a == {"x": {"z": 2}}
    assert cfg.b == {"c": {"d": 1}}


def test_options_of_optimizer_and_scheduler_may_be_added():
    cfg = Config({"optimizer": {"type": "AdamW"}, "scheduler": {"type": "OneCycleLR"}})
    cfg.merge_from_dict({"optimizer.betas": (0.9, 0.95), "scheduler.pct_start": 0.1})
    assert cfg.optimizer.betas == (0.9, 0.95)
    with pytest.raises(UserError, match=r"did you mean 'pct_start'"):
        cfg.merge_from_dict({"scheduler.pct_strat": 0.1})


def test_options_set_dotted_keys_and_positions():
    cfg = Config({"a": {"b": [{"c": 1}, {"c": 2}]}, "seed": None})
    cfg.merge_from_dict({"a.b.1.c": 5, "seed": 3, "save_path": "x"})
    assert cfg.a.b[1].c == 5
    assert cfg.seed == 3
    assert cfg.save_path == "x"


def test_an_entry_of_a_list_is_found_by_its_type():
    hooks = [{"type": "Timer"}, {"type": "CheckpointSaver", "save_freq": None}]
    cfg = Config({"hooks": [*hooks, 0, {"type": "Timer"}]})
    cfg.merge_from_dict({"hooks.CheckpointSaver.save_freq": 2})
    assert cfg.hooks[1].save_freq == 2
    with pytest.raises(UserError, match="did you mean 'CheckpointSaver'"):
        cfg.merge_from_dict({"hooks.ChekpointSaver.save_freq": 2})
    with pytest.raises(UserError, match="hooks is a list of 4; give a position"):
        cfg.merge_from_dict({"hooks.Timer.x": 2})  # which of the two?


def test_options_may_add_what_a_class_accepts():
    cfg = Config({"model": {"type": "OffsetBranch", "prior": 1}})
    cfg.merge_from_dict({"model.loss_weight": 0.5})
    assert cfg.model.loss_weight == 0.5
    with pytest.raises(UserError, match=r"no key 'los_weight'.*did you mean 'loss_w"):
        cfg.merge_from_dict({"model.los_weight": 0.5})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sise": 1}, r"no key 'batch_sise' \(did you mean 'batch_size'\?\)"),
        ({"a.c": 1}, "a has no key 'c'"),
        ({"l.3": 1}, "l is a list of 1"),
        ({"batch_size.x": 1}, "batch_size is 2, which has no keys"),
        ({"evaluate": "no"}, "evaluate=no: write True or False"),
        ({"evaluate": "Off"}, "evaluate=Off: write True or False"),
    ],
)
def test_unknown_options_are_refused(options, message):
    cfg = Config({"batch_size": 2, "a": {"b": 1}, "l": [0], "evaluate": True})
    with pytest.raises(UserError, match=message):
        cfg.merge_from_dict(options)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-3", 1e-3),
        ("true", True),
        ("None", None),
        ("name", "name"),
        ("a,b", ["a", "b"]),
        ("1,2", [1, 2]),
        ("(1,2)", (1, 2)),
        ("[1,2]", [1, 2]),
        ("(a,[b,2])", ("a", ["b", 2])),
        ("exp/run-1", "exp/run-1"),
    ],
)
def test_values_of_options(text, value):
    assert parse_value(text) == value


def test_option_without_a_value_is_refused():
    parser = argparse.ArgumentParser()
    parser.add_argument("--options", nargs="+", action=DictAction)
    assert parser.parse_args(["--options", "a.b=1", "c=x=y"]).options == {
        "a.b": 1,
        "c": "x=y",
    }
    with pytest.raises(UserError, match="write it as key=value"):
        parser.parse_args(["--options", "seed"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (1\n", "a.py, line 1: "),
        ("x = 1\ny = 1 / 0\n", "a.py, line 2: ZeroDivisionError"),
        ('_base_ = "none.py"\n', "none.py, the base of a.py cannot be read: No such"),
        ('_base_ = "a.py"\n', "_base_ leads back to it"),
        ("x = {{ _base_.y }}\n", "no base defines 'y'"),
        ('custom_imports = dict(imports=["no_such_module_x"])\n', "no_such_module_x"),
    ],
)
def test_broken_files_are_named(write, text, message):
    with pytest.raises(UserError, match=message):
        Config.fromfile(write("a.py", text))


def test_conflicts_are_named(write):
    write("one.py", "x = 1\n")
    write("two.py", "x = 2\n")
    with pytest.raises(UserError, match="two bases define x"):
        Config.fromfile(write("a.py", '_base_ = ["one.py", "two.py"]\n'))
    path = write("b.py", '_base_ = "one.py"\nx = dict(y=1)\n')
    with pytest.raises(UserError, match="_delete_=True"):
        Config.fromfile(path)
    with pytest.raises(UserError, match=r"missing\.py cannot be read"):
        Config.fromfile(path.parent / "missing.py")


def test_missing_attribute_suggests():
    with pytest.raises(AttributeError, match="did you mean 'batch_size'"):
        _ = Config({"batch_size": 1}).batch_sise
