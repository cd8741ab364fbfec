"""How long `import pointins_plugin` and the command line take to start.

    python benchmarks/startup.py [--rounds 5] [--json FILE]

Fresh interpreters in alternation, on the package's own runtime; of the import, the
time beyond `import torch` is what counts.
"""

import argparse
import os
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

from alternation import absent, alternate, report

ROOT = Path(__file__).parents[1]


def start(*words: str) -> None:
    """Run the interpreter and wait for its end."""
    own = {"PYTHONPATH": str(ROOT), "POINTINS_HOST": "standalone"}
    environment = {**os.environ, **own}
    environment.pop("POINTCEPT_ROOT", None)
    subprocess.run(
        [sys.executable, *words], check=True, env=environment, stdout=subprocess.DEVNULL
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    args = parser.parse_args()
    command = ("-m", "pointins_plugin.cli")
    times = alternate(
        {
            "torch": partial(start, "-c", "import torch"),
            "package": partial(start, "-c", "import pointins_plugin"),
            "--version": partial(start, *command, "--version"),
            "--help": partial(start, *command, "--help"),
        },
        args.rounds,
    )
    beyond = [a - b for a, b in zip(times["package"], times["torch"], strict=True)]
    rows = []
    for what, seconds, limit in (
        ("import beyond torch's own", beyond, 2000),
        ("pointins --version", times["--version"], 1000),
        ("pointins --help", times["--help"], 1000),
    ):
        rows.append(
            {
                **absent(what, "a limit", "", ""),
                "ours_ms": 1e3 * statistics.median(seconds),
                "limit_ms": limit,
            }
        )
    report(rows, args.json)


if __name__ == "__main__":
    main()
