"""Where the files that come with the package lie."""

from difflib import get_close_matches
from pathlib import Path

from pointins_plugin.errors import UserError

PACKAGE = Path(__file__).resolve().parent


def config_root(package: Path = PACKAGE) -> Path:
    """Return the folder of the shipped configs, e.g. ``root / "pointins"``.

    In a checkout (or an editable install) it is the repository's ``configs``, in an
    installed wheel the copy inside the package.

    Args:
        package: folder of the package.

    Raises:
        UserError: there is neither.
    """
    checkout = package.parent
    if (checkout / "setup.py").is_file() and (checkout / "configs/pointins").is_dir():
        return checkout / "configs"
    packaged = package / "_configs"
    if (packaged / "pointins").is_dir():
        return packaged
    raise UserError(
        f"no configs beside {package}: the installation is incomplete; install again"
    )


def find_config(name: str) -> str:
    """Return the file of a config given as a path or as ``pointins/NAME``.

    Raises:
        UserError: there is none of the name; the nearest is suggested.
    """
    if Path(name).is_file():
        return name
    root = config_root()
    stem = name.removesuffix(".py")
    for candidate in (root / f"{stem}.py", root / "pointins" / f"{stem}.py"):
        if candidate.is_file():
            return str(candidate)
    shipped = [f"pointins/{path.stem}" for path in (root / "pointins").glob("*.py")]
    close = get_close_matches(stem, shipped, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise UserError(f"there is no config {name!r}{hint}; shipped ones are in {root}")


def config_beside(path: Path) -> Path:
    """Return the ``config.py`` of the run that wrote a checkpoint.

    Raises:
        UserError: there is none.
    """
    for folder in (path.parent, path.parent.parent):
        if (folder / "config.py").is_file():
            return folder / "config.py"
    raise UserError(
        f"checkpoint {path} has no config.py beside it or in the folder above; name "
        "the config it was trained with"
    )
