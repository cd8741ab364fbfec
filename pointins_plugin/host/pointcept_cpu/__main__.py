"""Run a script of Pointcept on CPU: its path, then its own arguments."""

import os
import runpy
import sys

from . import script


def main() -> int:
    """Run the script named on the command line as ``__main__``."""
    name = __spec__.parent
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(f"usage: python -m {name} tools/train.py [its arguments]")
        print("\nRun a script of a Pointcept checkout on a machine without CUDA.")
        return 0 if len(sys.argv) > 1 else 2
    path = os.path.abspath(sys.argv[1])
    if not os.path.isfile(path):
        print(f"{name}: error: there is no script {sys.argv[1]}", file=sys.stderr)
        return 2
    del sys.argv[0]
    os.environ[script.VARIABLE] = path
    # As a module by name, so that spawned processes find it again (see script.py).
    runpy.run_module(f"{name}.script", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
