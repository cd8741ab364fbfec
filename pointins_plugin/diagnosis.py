"""What a machine has of what the plugin can use; nothing here raises.

Packages are looked up, not imported, where that is enough: a broken one must not take
the examination down. Substitutes for Pointcept on CPU do not count as installed.
"""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

OK, BAD, NONE = "ok", "bad", "none"
POINTCEPT_COMMIT = "d74c646"

_CORE = ("numpy", "scipy", "addict", "tqdm")
# Package, the extra that brings it, and what it is for.
_EXTRAS = (
    ("matplotlib", "demo", "pictures"),
    ("scikit-learn", "demo", "label-free priors"),
    ("safetensors", "export", "export and load"),
    ("laspy", "laz", ".laz clouds"),
)
# What Pointcept imports, by package; those below run on CPU by substitutes.
_POINTCEPT = ("tensorboardX", "einops", "yapf")
_POINTCEPT_CUDA = (
    ("torch-scatter", "torch_scatter"),
    ("torch-cluster", "torch_cluster"),
    ("timm", "timm"),
    ("wandb", "wandb"),
    ("pointops", "pointops"),
    ("pointgroup_ops", "pointgroup_ops"),
)
_DATA_SETS = ("scannet", "s3dis", "semantic_kitti", "nuscenes", "mosd")
# Wheels of spconv by the CUDA they are built for, oldest first.
_SPCONV_WHEELS = (
    ((11, 8), "spconv-cu118"),
    ((12, 0), "spconv-cu120"),
    ((12, 1), "spconv-cu121"),
    ((12, 4), "spconv-cu124"),
    ((12, 6), "spconv-cu126"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        state: ``"ok"``; ``"bad"``, there but will trouble; ``"none"``, not there.
        found: what there is.
        advice: what its lack costs and how to get it; empty where all is well.
    """

    name: str
    state: str
    found: str
    advice: str = ""


def examine(folder: str | Path = ".") -> list[Finding]:
    """Look at everything; ``folder`` is where runs would be written."""
    findings: list[Finding] = []
    for look in (
        _plugin,
        _torch,
        _gpu,
        _host,
        _pointcept,
        _spconv,
        _flash,
        _pointcept_needs,
        _core,
        _extras,
        _torchvision,
        _data,
        _memory,
        lambda: _disk(Path(folder)),
        _threads,
    ):
        try:
            findings += look()
        except Exception as error:  # a doctor does not fall ill
            name = getattr(look, "__name__", "").strip("_").replace("_", " ")
            text = f"could not be examined ({type(error).__name__}: {error})"
            findings.append(Finding(name or "machine", BAD, text.splitlines()[0]))
    return findings


def version(package: str) -> str | None:
    """Return the installed version of a package, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def _there(module: str) -> bool:
    """Whether a module lies on the path; substitutes do not, they are made up."""
    return PathFinder.find_spec(module) is not None


def _torch_module() -> Any:
    """Return torch, None where it is missing or broken."""
    try:
        import torch
    except Exception:
        return None
    return torch


def _plugin() -> Iterator[Finding]:
    import pointins_plugin

    where = Path(pointins_plugin.__file__).parent
    machine = f"{platform.system()} {platform.machine()}"
    found = f"{pointins_plugin.__version__} in {where}"
    yield Finding("pointins", OK, found)
    state = OK if sys.version_info >= (3, 10) else BAD
    yield Finding("Python", state, f"{platform.python_version()}, {machine}")


def _host() -> Iterator[Finding]:
    from pointins_plugin.errors import UserError

    asked = os.environ.get("POINTINS_HOST", "")
    asked = f" (POINTINS_HOST={asked})" if asked else ""
    if _torch_module() is None:
        yield Finding("host", BAD, f"none{asked}", "each host needs torch")
        return
    try:
        from pointins_plugin.host import HOST
    except UserError as error:
        yield Finding("host", BAD, f"none{asked}", str(error))
        return
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Finding(
            "host", BAD, f"none{asked}: {reason}", "pip install pointins again"
        )
        return
    yield Finding("host", OK, f"{HOST}{asked}")


def _pointcept() -> Iterator[Finding]:
    root, error = _checkout()
    if root is None:
        yield Finding(
            "Pointcept",
            BAD if os.environ.get("POINTCEPT_ROOT") else NONE,
            error or "not found",
            "not needed; to run in it: git clone https://github.com/Pointcept/Pointcept"
            " and set POINTCEPT_ROOT",
        )
        return
    commit = git_commit(Path(root))
    at = f"{root} at {commit[:7] if commit else 'an unknown commit'}"
    if error:
        advice = f"cannot be used: {error}; {_install_pointcept_needs()}"
        yield Finding("Pointcept", BAD, at, advice)
    elif commit and not commit.startswith(POINTCEPT_COMMIT):
        advice = (
            f"the plugin is tested with {POINTCEPT_COMMIT}: on trouble git checkout "
            "that commit"
        )
        yield Finding("Pointcept", BAD, at, advice)
    else:
        yield Finding("Pointcept", OK, at)


def _checkout() -> tuple[str | None, str | None]:
    """Return where Pointcept lies, and why it cannot be used; None each."""
    named = os.environ.get("POINTCEPT_ROOT")
    if named and not (Path(named) / "pointcept" / "__init__.py").is_file():
        return None, f"POINTCEPT_ROOT={named} holds no pointcept folder"
    if _torch_module() is None:  # the host's own search needs it
        return named or None, None
    # POINTINS_HOST=standalone lets this module load whatever Pointcept is like
    with _environment("POINTINS_HOST", "standalone"):
        from pointins_plugin.host.locate import pointcept_error
        from pointins_plugin.host.pointcept_cpu.checkout import use_checkout
    error = pointcept_error()
    return use_checkout(), error


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def git_commit(root: Path) -> str | None:
    """Return the commit that a checkout is at, read from its files; None if unknown."""
    git = root / ".git"
    try:
        if git.is_file():  # a worktree or submodule
            git = (root / git.read_text().partition("gitdir:")[2].strip()).resolve()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head or None
        name = head.partition(":")[2].strip()
        shared = git / "commondir"
        homes = [git]
        if shared.is_file():
            homes.append((git / shared.read_text().strip()).resolve())
        for home in homes:
            if (home / name).is_file():
                return (home / name).read_text().strip()
            if (home / "packed-refs").is_file():
                for line in (home / "packed-refs").read_text().splitlines():
                    if line.endswith(f" {name}"):
                        return line.split()[0]
    except OSError:
        pass
    return None


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        yield Finding(
            "torch", BAD, reason, "nothing runs without it; pip install torch"
        )
        return
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    if getattr(torch.version, "hip", None):
        built = f"ROCm {torch.version.hip}"
    yield Finding("torch", OK, f"{torch.__version__} ({built})")


def _gpu() -> Iterator[Finding]:
    torch = _torch_module()
    if torch is None:
        return
    if not torch.cuda.is_available():
        driver = shutil.which("nvidia-smi") is not None
        if torch.version.cuda:
            advice = "torch cannot use a GPU: look at nvidia-smi and the driver"
        elif driver:
            advice = "there is a driver, but torch is a CPU build: pip install torch"
        else:
            advice = "the demo and mOSD run in minutes; paper-scale runs need GPUs"
        state = BAD if driver else NONE
        yield Finding("GPU", state, "none that torch can use", advice)
        return
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        half = "bf16" if torch.cuda.is_bf16_supported() else "fp16 only"
        yield Finding(
            "GPU" if index == 0 else f"GPU {index}",
            OK,
            f"{found.name}, sm_{found.major}{found.minor}, {half}, "
            f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free",
        )


def _cuda() -> tuple[int, ...] | None:
    torch = _torch_module()
    if torch is None or not torch.version.cuda or not torch.cuda.is_available():
        return None
    return _numbers(torch.version.cuda)


def spconv_package(cuda: tuple[int, ...] | None, python: tuple[int, int]) -> str:
    """Return the package of sparse convolutions for a version of CUDA and Python."""
    if cuda is None:
        return "spconv"
    fitting = [name for built, name in _SPCONV_WHEELS if built <= cuda < (13,)]
    if not fitting or (fitting[-1] == "spconv-cu120" and python > (3, 11)):
        return "spconv-triton"
    return fitting[-1]


def spconv_problem(package: str, found: str, cumm: str | None) -> str:
    """Return what is known to go wrong with a build of spconv, or nothing."""
    if package == "spconv-cu120" and _numbers(found) <= (2, 3, 6):
        return (
            "the last for CUDA 12.0, reported to crash (floating point exception) on "
            "recent GPUs; pip install spconv-cu126 instead"
        )
    if package == "spconv":
        return (
            "its CPU kernels race on more than one thread and give wrong numbers: not "
            "used on the standalone host, replaced under Pointcept"
        )
    if cumm is not None and _numbers(cumm) >= (0, 8) and package != "spconv-triton":
        return f"needs cumm below 0.8, {cumm} is there; pip install 'cumm<0.8'"
    return ""


def _spconv() -> Iterator[Finding]:
    names = [name for _, name in _SPCONV_WHEELS] + ["spconv", "spconv-triton"]
    here = [(name, version(name)) for name in names]
    here = [(name, found) for name, found in here if found]
    if not here:
        package = spconv_package(_cuda(), sys.version_info[:2])
        yield Finding(
            "spconv",
            NONE,
            "not installed",
            "sparse convolutions run in plain PyTorch; Pointcept cannot be imported. "
            f"pip install {package}",
        )
        return
    for name, found in here:
        cumm = next(
            (
                version(other)
                for other in (name.replace("spconv", "cumm"), "cumm")
                if version(other)
            ),
            None,
        )
        problem = spconv_problem(name, found, cumm)
        if len(here) > 1:
            problem = problem or "several builds at once overwrite each other: keep one"
        yield Finding("spconv", BAD if problem else OK, f"{name} {found}", problem)


def _flash() -> Iterator[Finding]:
    found = version("flash-attn")
    if found:
        yield Finding("flash-attn", OK, found)
    elif _cuda() is None:
        yield Finding("flash-attn", NONE, "not installed, and of no use on CPU")
    else:
        yield Finding(
            "flash-attn",
            NONE,
            "not installed",
            "attention by scaled_dot_product_attention: slower, more memory. "
            'pip install "pointins[flash]" (from source, minutes, needs nvcc)',
        )


def _install_pointcept_needs() -> str:
    """Return how to install what Pointcept needs, on this kind of machine."""
    if _cuda() is None:
        # some of the extra's packages would put a CUDA build in the place of torch
        return 'see docs/pointcept.md, "Without one"'
    return 'pip install "pointins[pointcept]"'


def _pointcept_needs() -> Iterator[Finding]:
    """Report what only Pointcept needs, in one line."""
    here, lacking = [], []
    for package in _POINTCEPT:
        (here if version(package) else lacking).append(package)
    on_cuda = _cuda() is not None
    for package, module in _POINTCEPT_CUDA:
        if version(package) or _there(module):
            here.append(package)
        elif on_cuda:
            lacking.append(package)
    pyg = version("torch-geometric")
    if pyg and _numbers(pyg) >= (2, 8):
        yield Finding(
            "torch-geometric",
            BAD,
            pyg,
            "2.8 and later need pyg-lib: pip install --no-deps torch-geometric==2.7.0",
        )
    used = os.environ.get("POINTCEPT_ROOT") or _there("pointcept")
    state = OK if not lacking else BAD if used else NONE
    found = ", ".join(here) or "nothing yet"
    if not on_cuda:
        found += " (on CPU pointops, torch-scatter, ... have substitutes)"
    advice = ""
    if lacking:
        advice = (
            f"for Pointcept: {', '.join(lacking)} missing; {_install_pointcept_needs()}"
        )
        if on_cuda and {"pointops", "pointgroup_ops"} & set(lacking):
            advice += ", and build libs/pointops and libs/pointgroup_ops of Pointcept"
    yield Finding("for Pointcept", state, found, advice)


def _core() -> Iterator[Finding]:
    found = {name: version(name) for name in _CORE}
    lacking = [name for name, value in found.items() if value is None]
    text = ", ".join(f"{name} {value}" for name, value in found.items() if value)
    advice = f"pip install {' '.join(lacking)}" if lacking else ""
    yield Finding("packages", BAD if lacking else OK, text, advice)


def _extras() -> Iterator[Finding]:
    found = [(name, version(name)) for name, _, _ in _EXTRAS]
    text = ", ".join(f"{name} {value}" for name, value in found if value)
    lacking = [entry for entry in _EXTRAS if version(entry[0]) is None]
    if version("laspy") and not (version("lazrs") or version("laszip")):
        lacking.append(("lazrs", "laz", ".laz clouds"))  # laspy alone unpacks nothing
    if not lacking:
        yield Finding("extras", OK, text)
        return
    costs = ", ".join(f"{use} ({name})" for name, _, use in lacking)
    extras = ",".join(dict.fromkeys(extra for _, extra, _ in lacking))
    yield Finding(
        "extras",
        NONE,
        text or "none",
        f'without: {costs}. pip install "pointins[{extras}]"',
    )


def _torchvision() -> Iterator[Finding]:
    vision, torch = version("torchvision"), version("torch")
    if vision is None or torch is None:
        return
    if torch.endswith("+cpu") and not vision.endswith("+cpu"):
        yield Finding(
            "torchvision",
            BAD,
            f"{vision} beside torch {torch}",
            "breaks at import, and timm with it: pip install torchvision --index-url "
            "https://download.pytorch.org/whl/cpu",
        )


def _data() -> Iterator[Finding]:
    named = os.environ.get("POINTINS_DATA")
    root = Path(named or "data")
    source = f"{root} ($POINTINS_DATA)" if named else f"{root.resolve()}"
    if not root.is_dir():
        yield Finding(
            "data",
            BAD if named else NONE,
            f"no folder {source}",
            "generated rooms and streets need none; for scans set POINTINS_DATA to "
            "the folder of data sets",
        )
        return
    here = [
        f"{name} ({count_scenes(root / name)})"
        for name in _DATA_SETS
        if (root / name).is_dir()
    ]
    text = f"{source}: {', '.join(here) or 'none of ' + ', '.join(_DATA_SETS)}"
    yield Finding("data", OK if here else NONE, text)


def count_scenes(root: Path) -> str:
    """Return how many scenes (ROOT/SPLIT/SCENE) or sequences a data set holds."""
    sequences = root / "dataset" / "sequences"
    if sequences.is_dir():
        return f"{sum(entry.is_dir() for entry in os.scandir(sequences))} sequences"
    if (root / "raw").is_dir() or (root / "info").is_dir():
        return "raw"
    splits = [entry for entry in os.scandir(root) if entry.is_dir()]
    scenes = sum(
        sum(scene.is_dir() for scene in os.scandir(split.path)) for split in splits
    )
    return f"{scenes} scenes"


def available_memory() -> tuple[int, int]:
    """Return free and total memory of this process, bytes, a container's limit too."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = 1024 * int(line.split()[1])
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            most = int(Path(limit).read_text())
            taken = int(Path(used).read_text())
        except (OSError, ValueError):
            continue
        if most < total:
            total, free = most, min(free, most - taken)
    return free, total


def _memory() -> Iterator[Finding]:
    free, total = (value / 2**30 for value in available_memory())
    text = f"{free:.1f} of {total:.1f} GiB free"
    if free < 4:
        yield Finding("memory", BAD, text, "the demo needs 2.5 GiB, mOSD 4.5 GiB")
    else:
        yield Finding("memory", OK, text)
    shm = Path("/dev/shm")
    if shm.is_dir() and (size := shutil.disk_usage(shm).total) < 2**28:
        yield Finding(
            "shared memory",
            BAD,
            f"{size / 2**20:.0f} MiB in /dev/shm",
            "workers that read data may die: num_worker=0, or docker run --shm-size 8g",
        )


def _disk(folder: Path) -> Iterator[Finding]:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    text = f"{free:.1f} GiB free in {folder.resolve()}"
    if not os.access(folder, os.W_OK):
        yield Finding("disk", BAD, text, "runs cannot be written here: set save_path")
    elif free < 2:
        yield Finding("disk", BAD, text, "checkpoints of paper-scale runs take 1-2 GiB")
    else:
        yield Finding("disk", OK, text)


def _threads() -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    asked = os.environ.get("OMP_NUM_THREADS")
    text = f"{cores} cores"
    if torch := _torch_module():
        text += f", torch uses {torch.get_num_threads()}"
    text += f" (OMP_NUM_THREADS={asked})" if asked else ""
    if asked and asked.isdigit() and int(asked) > cores:
        yield Finding(
            "threads", BAD, text, "more threads than cores wait for each other"
        )
    else:
        yield Finding("threads", OK, text)
