"""The command ``pointins doctor``: what is installed, what is missing, what to do."""

import json
import textwrap
from collections.abc import Sequence

from pointins_plugin.diagnosis import BAD, NONE, OK, Finding, examine
from pointins_plugin.options import Parser

_MARK = {OK: "ok", BAD: "!!", NONE: "--"}
_WIDTH = 100


def run(words: Sequence[str] | None = None) -> None:
    """Print the findings; whatever they are, the exit code is 0.

    Args:
        words: the options; those of the command line when None.
    """
    parser = Parser(
        "pointins doctor",
        description="Say what of Pointcept, CUDA, packages, data, memory and disk is "
        "there, what is missing, what that costs and how to get it.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", default="exp", help="folder of runs (default: exp)")
    args = parser.parse_args(words)
    findings = examine(args.out)
    if args.json:
        print(json.dumps([vars(finding) for finding in findings], indent=1))
    else:
        print(report(findings))


def report(findings: Sequence[Finding]) -> str:
    """Return the findings as lines of text, advice below what it is for."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        head = f"{_MARK[finding.state]}  {finding.name:<{width}}  "
        lines += textwrap.wrap(
            finding.found,
            _WIDTH,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += textwrap.wrap(
            finding.advice,
            _WIDTH,
            initial_indent=" " * len(head) + "> ",
            subsequent_indent=" " * len(head) + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    bad = sum(finding.state == BAD for finding in findings)
    lines.append("")
    lines.append(
        "ok: there   --: not there, what that costs is below it   !!: will trouble"
        if bad
        else "nothing is wrong; what is not there (--) costs what is below it"
    )
    return "\n".join(lines)
