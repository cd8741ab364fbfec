"""The run's logger: console and file, the main process only."""

import logging
import sys
import traceback

from pointins_plugin.errors import UserError

from . import comm

_NAME = "pointins"


def get_root_logger(log_file: str | None = None, file_mode: str = "a"):
    """Return the logger, adding a file to it when one is named.

    Ranks other than the first log errors only.
    """
    logger = logging.getLogger(_NAME)
    logger.propagate = False
    if not any(isinstance(handler, _Console) for handler in logger.handlers):
        logger.addHandler(_formatted(_Console()))
    if log_file is not None and comm.is_main_process():
        for handler in list(logger.handlers):
            if isinstance(handler, logging.FileHandler):
                logger.removeHandler(handler)
                handler.close()
        logger.addHandler(_formatted(logging.FileHandler(log_file, file_mode)))
    logger.setLevel(logging.INFO if comm.is_main_process() else logging.ERROR)
    return logger


class _Console(logging.StreamHandler):
    """Writes to whatever standard output is at the moment."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        return sys.stdout


def log_to_file(logger: logging.Logger, error: Exception) -> None:
    """Write why a run ended to its log; the console is told by whoever catches it."""
    if isinstance(error, UserError):
        text = str(error)
    else:
        text = "".join(traceback.format_exception(error)).rstrip()
    record = logger.makeRecord(
        logger.name, logging.ERROR, __file__, 0, text, (), exc_info=None
    )
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _formatted(handler: logging.Handler) -> logging.Handler:
    form = "[%(asctime)s %(levelname)s] %(message)s"
    handler.setFormatter(logging.Formatter(form, datefmt="%Y-%m-%d %H:%M:%S"))
    return handler
