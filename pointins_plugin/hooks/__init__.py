"""Hooks of the plugin; importing the package registers them."""

from .ema_teacher import EMATeacherHook
from .evaluators import LabelFreeInstanceEvaluator
from .monitors import CollapseMonitor
from .progress import ProgressBar

__all__ = [
    "CollapseMonitor",
    "EMATeacherHook",
    "LabelFreeInstanceEvaluator",
    "ProgressBar",
]
