"""The console script `pointins`."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pointins_plugin.errors import UserError, report
from pointins_plugin.options import Parser


def main_worker(cfg) -> None:
    """Train in this process; children import the plugin with this module."""
    from pointins_plugin.host import TRAINERS

    cfg = _set_up(cfg)
    TRAINERS.build(dict(type=cfg.train.type, cfg=cfg)).train()


def test_worker(cfg) -> None:
    """Test in this process."""
    from pointins_plugin.host import TESTERS

    cfg = _set_up(cfg)
    TESTERS.build(dict(cfg=cfg, **cfg.test)).test()


def _set_up(cfg: Any) -> Any:
    from pointins_plugin.host import default_setup, import_modules

    # a spawned process has not read the config, which imports them
    import_modules(cfg.filename, **(cfg.get("custom_imports") or {}))
    return default_setup(cfg)


def train(words: Sequence[str]) -> None:
    """Train as a config says: the flags of Pointcept's tools/train.py."""
    _launch("train", words, main_worker)


def test(words: Sequence[str]) -> None:
    """Test a checkpoint: the flags of Pointcept's tools/test.py."""
    # a run that goes on does not write its config.py anew
    _launch("test", words, test_worker, resume=True)


def _launch(name: str, words: Sequence[str], worker: Callable, **options: Any) -> None:
    from pointins_plugin import host
    from pointins_plugin.paths import find_config

    parser = Parser(
        prog=f"pointins {name}",
        parents=[host.default_argument_parser()],
        conflict_handler="resolve",  # both have --help
    )
    args = parser.parse_args(words)
    # the parser of either host takes any integer
    for option in ("num_gpus", "num_machines"):
        if getattr(args, option) < 1:
            raise UserError(f"--{option.replace('_', '-')} must be 1 or more")
    if not args.config_file:
        raise UserError(f"pointins {name}: name a config with --config-file")
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if host.HOST == "pointcept" and torchrun and os.environ.get("WORLD_SIZE") != "1":
        raise UserError(
            "Pointcept starts its processes itself and would train once in each of "
            "torchrun's: use --num-gpus, --num-machines and --machine-rank, or "
            "POINTINS_HOST=standalone"
        )
    options = {**(args.options or {}), **options}
    cfg = host.default_config_parser(find_config(args.config_file), options)
    host.launch(
        worker,
        num_gpus_per_machine=args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        cfg=(cfg,),
    )


def fit_prior(words: Sequence[str]) -> None:
    """Fit a magnitude prior to a folder of scenes."""
    from pointins_plugin.commands.fit_prior import run

    run(words)


def check_data(words: Sequence[str]) -> None:
    """Check every scene of a folder."""
    from pointins_plugin.commands.check_data import run

    run(words)


def submit(words: Sequence[str]) -> None:
    """Write predictions for the SemanticKITTI and nuScenes servers."""
    from pointins_plugin.commands.submit import run

    run(words)


def predict(words: Sequence[str]) -> None:
    """Find the instances of point clouds without labels."""
    from pointins_plugin.commands.predict import run

    run(words)


def export(words: Sequence[str]) -> None:
    """Write a checkpoint's encoder for others to load."""
    from pointins_plugin.commands.export import run

    run(words)


def compare(words: Sequence[str]) -> None:
    """Train and probe several configs, and print their table."""
    from pointins_plugin.commands.compare import run

    run(words)


def study(words: Sequence[str]) -> None:
    """Run the study: every row of its table, and the page."""
    from pointins_plugin.commands.study import run

    run(words)


def doctor(words: Sequence[str]) -> None:
    """Say what is installed, what is missing and what that costs."""
    from pointins_plugin.commands.doctor import run

    run(words)


def demo(words: Sequence[str]) -> None:
    """Pre-train on procedural rooms and show the instances found."""
    from pointins_plugin.commands.demo import run

    run(words)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "demo": demo,
    "train": train,
    "test": test,
    "fit-prior": fit_prior,
    "check-data": check_data,
    "submit": submit,
    "predict": predict,
    "export": export,
    "compare": compare,
    "study": study,
    "doctor": doctor,
}


_GOES_ON = dict.fromkeys(
    ("demo", "compare", "study"), "the same command goes on from there"
)
_GOES_ON["train"] = "go on with -r true"


def main(words: Sequence[str] | None = None) -> int:
    """Run a subcommand; return the exit code (2 where the user can put it right)."""
    words = list(sys.argv[1:] if words is None else words)
    width = max(map(len, COMMANDS))
    listing = "\n".join(
        f"  {name:<{width}}  {function.__doc__}" for name, function in COMMANDS.items()
    )
    parser = Parser(
        prog="pointins",
        description="Instance-aware self-supervised pre-training for point clouds.",
        epilog=f"commands:\n{listing}\n\n`pointins COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("command", nargs="?", help="one of those below")
    try:
        args = parser.parse_args(words[:1])
        if args.version:
            from pointins_plugin import __version__

            print(f"pointins {__version__}")
            return 0
        if args.command is None:
            parser.print_help()
            return 0
        if args.command not in COMMANDS:
            from difflib import get_close_matches

            close = get_close_matches(args.command, COMMANDS, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UserError(
                f"there is no command {args.command!r}{hint}; see pointins --help"
            )
        COMMANDS[args.command](words[1:])
    except UserError as error:
        return report(error)
    except BrokenPipeError:  # the reader has seen enough: pointins doctor | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        _say_stopped(words, "interrupted")
        return 130
    except SystemExit as stop:
        if isinstance(stop.code, int) and stop.code > 128:  # 128 + a signal's number
            _say_stopped(words, "stopped")
        raise
    return 0


def _say_stopped(words: Sequence[str], how: str) -> None:
    hint = _GOES_ON.get(words[0]) if words else None
    print("pointins: " + "; ".join(filter(None, (how, hint))), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
