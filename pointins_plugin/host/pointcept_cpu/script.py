"""The script that is run, in this module's namespace.

A process that Pointcept spawns imports the main module of its parent first. Were that
the script itself, it would import Pointcept before anything is replaced; being this
module, it prepares the process and then runs the script like its parent did.
"""

import os
import sys

VARIABLE = "POINTCEPT_CPU_SCRIPT"

if __name__ in ("__main__", "__mp_main__"):
    from . import install

    install()
    __file__ = sys.argv[0] = os.environ[VARIABLE]
    with open(__file__, encoding="utf-8") as _file:
        _code = compile(_file.read(), __file__, "exec")
    exec(_code, globals())
