"""What the package is, what it needs and why."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent

REQUIRED = [
    "torch>=2.4",  # everything; 2.4 asks autocast by device
    "numpy>=1.24",  # data before it is a tensor; runs on 1.x and 2.x
    "scipy>=1.10",  # k-d trees of neighbour search on CPU, families of priors
    "addict>=2.4",  # Pointcept's batches (Point) and configs are addict dicts
    "tqdm>=4.60",  # progress of whatever lasts longer than a few seconds
]

DEMO = [
    "scikit-learn>=1.3",  # HDBSCAN, of label-free priors and as a baseline
    "matplotlib>=3.6",  # pictures
]

EXPORT = [
    "safetensors>=0.4",  # encoders as files that run nothing when they are read
]

LAZ = [
    "laspy[lazrs]>=2.4",  # compressed LAS clouds; plain ones need nothing
]

TEST = [
    *EXPORT,
    *LAZ,
    "pytest>=7.4",
    "pytest-xdist>=3.2",  # the tests on every core
    "ruff==0.17.5",  # pinned: another version formats differently
]

# The peers of benchmarks/, besides Pointcept.
BENCH = [
    *DEMO,
    "faiss-cpu",  # k-means
    "fast-pytorch-kmeans",
    "psutil",  # which fast-pytorch-kmeans imports without saying so
    "torch-cluster",  # nearest points; from source: --no-build-isolation, minutes
]

# The native parts that a CUDA 12 machine can use; without them plain PyTorch runs.
CUDA120 = [
    "spconv-cu120",  # sparse convolution; wheels up to Python 3.11
    "torch-scatter",  # from source: needs the CUDA toolchain
    "timm",  # imported by Pointcept's PT-v3
    "addict",
]

# From source: needs the CUDA toolchain, and minutes.
FLASH = ["flash-attn"]

# What `import pointcept` asks for that pip can install on any machine. The rest of
# Pointcept (a clone, its libs/ and torch-cluster) is installed by its own README.
POINTCEPT = [
    "einops",
    "ftfy",
    "h5py",
    "peft",
    "plyfile",
    "pyyaml",
    "regex",
    "tensorboard",
    "tensorboardX",
    "termcolor",
    "timm",
    "torch-geometric<2.8",  # later ones need pyg-lib
    "wandb",
    "yapf",
]


class BuildWithConfigs(build_py):
    """Put configs/ beside the code of a wheel, where ``paths.config_root`` looks.

    They are no packages (names have dashes) and live outside the package, so that
    a checkout shows them first; an editable install reads them there.
    """

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "pointins_plugin", "_configs")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(
            ROOT / "configs", target, ignore=shutil.ignore_patterns("__pycache__")
        )


def read_version():
    text = (ROOT / "pointins_plugin" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)[1]


setup(
    name="pointins",
    version=read_version(),
    description="Instance-aware self-supervised pre-training for point clouds",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    keywords="point cloud, self-supervised, instance segmentation, Pointcept",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["pointins_plugin", "pointins_plugin.*"]),
    install_requires=REQUIRED,
    extras_require={
        "demo": DEMO,
        "export": EXPORT,
        "laz": LAZ,
        "test": TEST,
        "bench": BENCH,
        "cuda120": CUDA120,
        "flash": FLASH,
        "pointcept": POINTCEPT,
    },
    entry_points={
        "console_scripts": ["pointins = pointins_plugin.cli:main"],
        # No release of Pointcept reads this yet; one that does needs no more of us.
        "pointcept.plugins": ["pointins = pointins_plugin"],
    },
    cmdclass={"build_py": BuildWithConfigs},
)
