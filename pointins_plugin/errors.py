"""The one exception whose message a user reads."""


class UserError(Exception):
    """Something the user can put right: one line saying what, where and what to do.

    The command line prints the message without a traceback and exits with code 2.
    """
