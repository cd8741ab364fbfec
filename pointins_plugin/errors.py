"""The one exception whose message a user reads."""

import sys


class UserError(Exception):
    """Something the user can put right: one line saying what, where and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """


class BatchError(UserError):
    """Something is wrong with what is in a batch; a trainer adds its scenes' names."""


def report(error: UserError) -> int:
    """Print an error as the command line does and return its exit code."""
    print(f"pointins: error: {error}", file=sys.stderr)
    return 2


def report_uncaught(kind, error, traceback) -> None:
    """Be a ``sys.excepthook`` under which user errors end as they do in a command."""
    if isinstance(error, UserError):
        raise SystemExit(report(error))
    sys.__excepthook__(kind, error, traceback)
