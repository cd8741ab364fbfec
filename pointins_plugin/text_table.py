"""Tables of numbers written as text."""

import warnings
from collections.abc import Iterable
from itertools import islice

import numpy as np


def parse_table(
    lines: Iterable[str | bytes],
    columns: int | None = None,
    rows: int | None = None,
    delimiter: str | None = None,
) -> np.ndarray:
    """Return the numbers of lines of text.

    Args:
        lines: an open file, or lines.
        columns, rows: that must be there, no more and no fewer are read; None takes
            what is there.
        delimiter: between numbers; white space if None.

    Returns:
        (rows, columns) float64.

    Raises:
        ValueError: something is no number, or there is less than asked for.
    """
    if rows == 0:
        return np.empty((0, columns or 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # nothing at all: told below
        values = np.loadtxt(islice(lines, rows), ndmin=2, delimiter=delimiter)
    if (rows is not None and len(values) != rows) or not len(values):
        raise ValueError(f"{len(values)} rows where {rows or 'some'} are expected")
    if columns is not None and values.shape[1] != columns:
        raise ValueError(f"{values.shape[1]} numbers a row, {columns} are expected")
    return values
