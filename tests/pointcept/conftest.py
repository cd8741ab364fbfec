"""Everything here runs inside a real Pointcept; without one it is skipped."""

import sys
from pathlib import Path

import pytest
import torch

from pointins_plugin import host

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _in_pointcept():
    if host.HOST != "pointcept":
        pytest.skip(
            "set POINTCEPT_ROOT to a checkout of Pointcept (docs/pointcept.md) and run "
            "pytest tests/pointcept by itself"
        )


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small clouds gain nothing from more, and cores may be shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    """A folder with small data sets of random points in ``data``."""
    import small_runs

    return small_runs.write_data(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def in_data(data_folder, monkeypatch):
    """Work in that folder, as configs name data by relative paths."""
    monkeypatch.chdir(data_folder)
    return data_folder
