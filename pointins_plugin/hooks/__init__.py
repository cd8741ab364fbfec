"""Hooks of the plugin; importing the package registers them."""

from .ema_teacher import EMATeacherHook
from .instance_ap import InstanceAPEvaluator
from .label_free import LabelFreeInstanceEvaluator
from .monitors import CollapseMonitor
from .norms import NormMomentum
from .panoptic import PanopticEvaluator
from .pretrained import PretrainedLoader
from .progress import ProgressBar
from .sem_seg import SemSegEvaluator

__all__ = [
    "CollapseMonitor",
    "EMATeacherHook",
    "InstanceAPEvaluator",
    "LabelFreeInstanceEvaluator",
    "NormMomentum",
    "PanopticEvaluator",
    "PretrainedLoader",
    "ProgressBar",
    "SemSegEvaluator",
]
