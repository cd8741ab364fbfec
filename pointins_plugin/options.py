"""What the options of all commands share: one line for a mistake, kinds of numbers."""

import argparse
import math
from typing import NoReturn

from pointins_plugin.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are a UserError, in place of the usage and an exit."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong as a UserError."""
        raise UserError(f"{' '.join(message.split())}; see {self.prog} --help")


def positive(text: str) -> int:
    """Return an option's integer above 0."""
    return _integer(text, 1, "above 0")


def non_negative(text: str) -> int:
    """Return an option's integer of 0 or more."""
    return _integer(text, 0, "of 0 or more")


def finite(text: str) -> float:
    """Return an option's number, neither infinite nor NaN."""
    return _number(text, -math.inf, "")


def length(text: str) -> float:
    """Return an option's finite number of 0 or more."""
    return _number(text, 0.0, " of 0 or more")


def _number(text: str, least: float, words: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= least):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number{words}")
    return value


def _integer(text: str, least: int, words: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer {words}")
    return value
