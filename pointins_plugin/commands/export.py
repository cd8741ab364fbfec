"""The command ``pointins export``: a checkpoint's encoder for others to load."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pointins_plugin.errors import UserError
from pointins_plugin.exported import write_export
from pointins_plugin.hooks.pretrained import BRANCHES
from pointins_plugin.options import Parser
from pointins_plugin.pretrained import Pretrained, read_pretrained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to a parser."""
    add = parser.add_argument
    add("-w", "--weight", required=True, help="checkpoint, its config.py beside it")
    add(
        "out",
        metavar="OUT",
        help="file that ends in .safetensors, or a folder for model.safetensors and "
        "config.json",
    )
    add(
        "--branch", choices=BRANCHES, help="of a teacher-student run (default: student)"
    )
    add("--no-offset-head", action="store_true", help="leave out the offset head")
    add("--config-file", help="name or file, of a checkpoint without its config.py")


def run(words: Sequence[str] | None = None) -> None:
    """Write the encoder, and read it back equal.

    Args:
        words: the options; those of the command line when None.

    Raises:
        UserError: a checkpoint or config that cannot be used, weights that do not fit,
            safetensors missing, a path that cannot be written.
    """
    parser = Parser(
        "pointins export",
        description="Write the encoder of a checkpoint: weights, config and the "
        "transform of scenes. pointins_plugin.load(PATH) reads it.",
    )
    add_arguments(parser)
    args = parser.parse_args(words)
    if Path(args.weight).is_dir() or args.weight.endswith(".safetensors"):
        raise UserError(f"{args.weight} is an export already; name a checkpoint")
    pretrained = read_pretrained(args.weight, args.branch, args.config_file)
    if args.branch is not None and pretrained.spec["source"]["branch"] is None:
        raise UserError(f"{args.weight} has no branches; leave --branch out")
    if args.no_offset_head:
        pretrained = without_offset_head(pretrained)
    encoder = pretrained.build()  # refuses weights that do not fit
    files = write_export(args.out, pretrained.spec, pretrained.weights)
    back = read_pretrained(args.out)
    if back.spec != pretrained.spec or any(
        not back.weights[key].equal(value) for key, value in pretrained.weights.items()
    ):
        raise UserError(f"{files[0]} does not read back equal; write it elsewhere")
    count = sum(parameter.numel() for parameter in encoder.parameters())
    head = "with its offset head" if encoder.offset_head is not None else "no offsets"
    branch = pretrained.spec["source"]["branch"] or "backbone"
    print(f"{branch} of {args.weight}, {head}, {count:,} parameters")
    for file in files:
        print(f"wrote {file} ({file.stat().st_size / 1e3:,.0f} kB)")


def without_offset_head(pretrained: Pretrained) -> Pretrained:
    """Return an encoder that only gives features."""
    return Pretrained(
        {**pretrained.spec, "offset_head": None, "grouping": None},
        {k: v for k, v in pretrained.weights.items() if k.startswith("backbone.")},
    )
