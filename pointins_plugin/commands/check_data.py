"""The command ``pointins check-data``: what is wrong with a folder of scenes."""

from collections.abc import Sequence

from pointins_plugin.errors import UserError
from pointins_plugin.options import Parser
from pointins_plugin.scenes import check_folder


def run(words: Sequence[str]) -> None:
    """Check every scene below a folder and print a line for each that is unusable.

    Raises:
        UserError: no such folder, or some scene cannot be used.
    """
    parser = Parser(
        prog="pointins check-data", description="Check every scene below a folder."
    )
    parser.add_argument("root", help="a data set, a split or one scene")
    args = parser.parse_args(words)
    results = check_folder(args.root)
    bad = [(path, problem) for path, problem in results if problem]
    for path, problem in bad:
        print(f"{path} {problem}")
    print(f"{len(results) - len(bad)} of {len(results)} scenes can be used")
    if bad:
        raise UserError(
            f"{len(bad)} of {len(results)} scenes below {args.root} cannot be used; "
            "they are named above"
        )
