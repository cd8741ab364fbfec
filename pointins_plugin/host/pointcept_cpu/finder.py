"""Import substitutes for packages that are missing or that run on CUDA only."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from typing import Any

from .checkout import library

_HERE = f"{__package__}.substitutes"

# Used even where the real one is installed: it has no CPU code.
CUDA_ONLY = {
    "flash_attn": f"{_HERE}.flash_attn",
    "pointops._C": f"{_HERE}.pointops_kernels",
    "pointgroup_ops": f"{_HERE}.pointgroup_ops",
}
# Used where the real one is not installed.
OPTIONAL = {
    "torch_scatter": f"{_HERE}.torch_scatter",
    "torch_cluster": f"{_HERE}.torch_cluster",
    "torch_geometric": f"{_HERE}.torch_geometric",
    "torch_geometric.nn": f"{_HERE}.torch_geometric",
    "torch_geometric.nn.pool": f"{_HERE}.torch_geometric",
    "torch_geometric.utils": f"{_HERE}.torch_geometric",
    "timm": f"{_HERE}.timm",
    "timm.layers": f"{_HERE}.timm",
}
# What Pointcept imports and few of its configs use: an error on use, not on import.
UNNEEDED = {
    "h5py": "h5py",
    "open3d": "open3d",
    "peft": "peft",
    "torchvision": "torchvision",
    "transformers": "transformers",
    "wandb": "wandb (or set enable_wandb=False in the config)",
}


def install() -> None:
    """Register the substitutes with the import system."""
    sys.meta_path.insert(0, _Finder(CUDA_ONLY, {}))
    sys.meta_path.append(_Finder(OPTIONAL, UNNEEDED))


def remove() -> None:
    """Take them back, and what was imported of them."""
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, _Finder)]
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if isinstance(getattr(spec, "loader", None), _Finder):
            del sys.modules[name]


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, substitutes: dict[str, str], unneeded: dict[str, str]):
        self.substitutes, self.unneeded = substitutes, unneeded

    def find_spec(self, fullname, path=None, target=None):
        if fullname in self.substitutes:
            return self._spec(fullname)
        if fullname.partition(".")[0] in self.unneeded:
            return self._spec(fullname)
        if fullname == "pointops" and self.unneeded:
            return _pointops()
        return None

    def _spec(self, name: str) -> importlib.machinery.ModuleSpec:
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        package = spec.name.partition(".")[0]
        if package in self.unneeded:
            return _Absent(spec.name, self.unneeded[package])
        return types.ModuleType(spec.name)

    def exec_module(self, module) -> None:
        source = self.substitutes.get(module.__name__)
        if source is not None:
            real = importlib.import_module(source)
            for name in real.__all__:
                setattr(module, name, getattr(real, name))


def _pointops() -> importlib.machinery.ModuleSpec | None:
    """Find the Python part of pointops in a checkout that was not built."""
    folder = library("pointops")
    if folder is None:
        return None
    return importlib.util.spec_from_file_location(
        "pointops",
        folder / "__init__.py",
        submodule_search_locations=[str(folder)],
    )


class _Absent(types.ModuleType):
    """Stands for a package that is not installed: any use of it is an error."""

    def __init__(self, name: str, advice: str):
        super().__init__(name)
        self.__advice = advice

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Use(f"{self.__name__}.{name}", self.__advice)


class _Use:
    def __init__(self, name: str, advice: str):
        self._name, self._advice = name, advice

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Use(f"{self._name}.{name}", self._advice)

    def __call__(self, *args, **kwargs):
        raise ImportError(f"{self._name} is not installed: pip install {self._advice}")

    def __mro_entries__(self, bases):
        return (object,)
