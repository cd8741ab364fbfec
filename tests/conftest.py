"""Fixtures: data that stays outside the repository; tests without it are skipped."""

import os
from pathlib import Path

import pytest


def pytest_configure(config):
    """Test the standalone host, unless the tests of the other are asked for."""
    if not any("pointcept" in str(word) for word in config.args):
        os.environ["POINTINS_HOST"] = "standalone"


BESIDE = Path(__file__).resolve().parents[2] / "shared"


def _outside(variable: str, default: Path, holds: str) -> Path:
    folder = Path(os.environ.get(variable) or default)
    if not any(folder.glob(holds)):
        pytest.skip(f"no {holds} in {folder}: set {variable} to the folder with them")
    return folder


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Folder of the reference outputs (``*.npz``)."""
    return _outside("POINTINS_GOLDEN", BESIDE / "golden", "*.npz")


@pytest.fixture(scope="session")
def mosd_dir() -> Path:
    """Root of the mOSD table tops, in the default folder layout."""
    return _outside("POINTINS_MOSD", BESIDE / "data" / "mosd", "*/*/coord.npy")
