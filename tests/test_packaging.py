"""What is shipped: dependencies declared, rooms complete, arrows and configs kept."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

from pointins_plugin.errors import UserError
from pointins_plugin.paths import config_root, find_config

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pointins_plugin"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Modules whose package has another name.
DISTRIBUTION = {"sklearn": "scikit-learn"}

# Native parts and the host: probed at run time, of use only where installed.
PROBED = {"flash_attn", "pointcept", "pointgroup_ops", "pointops", "spconv"}
PROBED |= {"torch_cluster", "torch_scatter", "wandb", "tensorboardX", "open3d"}

ROOMS_THAT_KNOW_NOBODY = ("ops", "priors.py", "files.py")


@pytest.fixture(scope="module")
def setup_lists():
    """The lists of setup.py by name, read without running it."""
    lists = {}
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            items = [i for i in node.value.elts if isinstance(i, ast.Constant)]
            names = {re.match(r"[\w.-]+", item.value)[0] for item in items}
            lists[node.targets[0].id] = names
    return lists


def imports(path):
    """Pairs (module, whether it is imported when the file is) of one file."""
    tree = ast.parse(path.read_text())
    lazy = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Try)):
            lazy.update(id(child) for child in ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, id(node) not in lazy
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module, id(node) not in lazy


def test_every_import_is_declared(setup_lists):
    required = setup_lists["REQUIRED"]
    optional = set().union(*setup_lists.values())
    undeclared = []
    for path in SOURCES:
        for module, eager in imports(path):
            top = module.split(".")[0]
            if top in sys.stdlib_module_names or top in {PACKAGE.name, *PROBED}:
                continue
            if DISTRIBUTION.get(top, top) not in (required if eager else optional):
                undeclared.append(f"{path.relative_to(ROOT)}: {module}")
    assert not undeclared


def test_only_the_host_room_imports_pointcept():
    found = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in SOURCES
        if PACKAGE / "host" not in path.parents
        for module, _ in imports(path)
        if module.split(".")[0] == "pointcept"
    ]
    assert not found


def test_the_host_is_met_at_its_door():
    """Only `pointins doctor`, which examines the host, looks inside."""
    inside = [
        f"{path.name}: {module}"
        for path in SOURCES
        if PACKAGE / "host" not in path.parents and path.name != "diagnosis.py"
        for module, _ in imports(path)
        if module.startswith("pointins_plugin.host.")
    ]
    assert not inside


def test_rooms_that_know_nobody_import_nobody():
    found = []
    for path in SOURCES:
        room = path.relative_to(PACKAGE).parts[0]
        if room not in ROOMS_THAT_KNOW_NOBODY:
            continue
        known = (room, "errors", "files")  # what a user is told, how files are written
        own = {f"{PACKAGE.name}.{name}" for name in known}
        for module, _ in imports(path):
            inside = module.split(".")[0] == PACKAGE.name
            if inside and ".".join(module.split(".")[:2]) not in own:
                found.append(f"{path.relative_to(ROOT)}: {module}")
    assert not found


def test_every_folder_with_code_is_a_package():
    # setuptools leaves a folder without __init__.py out of the wheel, silently.
    folders = {path.parent for path in SOURCES}
    assert PACKAGE in folders
    bare = [f.name for f in folders if not (f / "__init__.py").is_file()]
    assert not bare


def test_one_version_everywhere():
    version = importlib.import_module("pointins_plugin").__version__
    # setup.py reads the line without importing torch.
    line = f'^__version__ = "{re.escape(version)}"$'
    assert re.search(line, (PACKAGE / "__init__.py").read_text(), re.M)
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^version: {re.escape(version)}$", citation, re.M)


def test_console_script_exists():
    match = re.search(r'"pointins = ([\w.]+):(\w+)"', (ROOT / "setup.py").read_text())
    assert callable(getattr(importlib.import_module(match[1]), match[2]))


def test_configs_are_found_in_a_checkout():
    assert config_root() == ROOT / "configs"


def test_configs_are_found_in_a_wheel(tmp_path):
    package = tmp_path / "site-packages" / "pointins_plugin"
    (package / "_configs" / "pointins").mkdir(parents=True)
    assert config_root(package) == package / "_configs"
    # Another project's configs/ beside an installed package are not ours.
    (tmp_path / "site-packages" / "configs" / "pointins").mkdir(parents=True)
    assert config_root(package) == package / "_configs"


def test_a_config_is_found_by_its_name_or_its_file(tmp_path):
    shipped = next((ROOT / "configs" / "pointins").glob("*.py"))
    for name in (f"pointins/{shipped.stem}", f"pointins/{shipped.name}", shipped):
        assert Path(find_config(str(name))) == shipped
    own = tmp_path / "own.py"
    own.touch()
    assert find_config(str(own)) == str(own)
    with pytest.raises(UserError, match=f"did you mean 'pointins/{shipped.stem}'"):
        find_config(f"pointins/{shipped.stem[:-1]}")


def test_missing_configs_are_told(tmp_path):
    with pytest.raises(UserError, match="installation is incomplete"):
        config_root(tmp_path / "pointins_plugin")


def test_nothing_left_over_and_no_path_of_a_machine():
    shipped = [*SOURCES, *ROOT.glob("scripts/*.sh"), *ROOT.glob("configs/**/*.py")]
    shipped += [ROOT / "README.md", ROOT / "setup.py", *ROOT.glob("docs/**/*.md")]
    bad = re.compile(r"\b(TODO|FIXME)\b|(?<![\w.])/(home|root|Users|work)/\w")
    found = [p.name for p in shipped if bad.search(p.read_text(encoding="utf-8"))]
    assert not found
