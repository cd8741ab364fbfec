"""Names that are the plugin's own on either host."""

from .standalone.batches import batch_to, to_numpy
from .standalone.checkpoint import load_checkpoint, teacher_of_student
from .standalone.comm import unwrapped
from .standalone.config import import_modules
from .standalone.config_text import plain_values
from .standalone.env import derive_seed, in_evaluation, seeded
from .standalone.nuscenes import CLASSES as NUSCENES_CLASSES
from .standalone.nuscenes import NuScenesDataset
from .standalone.point_group import bias_losses
from .standalone.semantic_kitti import CLASSES as SEMANTIC_KITTI_CLASSES
from .standalone.semantic_kitti import SEQUENCES as SEMANTIC_KITTI_SEQUENCES
from .standalone.semantic_kitti import SemanticKITTIDataset
from .standalone.signals import STOP_CODES, StopSignals
from .standalone.testers import load_all

__all__ = [
    "NUSCENES_CLASSES",
    "SEMANTIC_KITTI_CLASSES",
    "SEMANTIC_KITTI_SEQUENCES",
    "STOP_CODES",
    "NuScenesDataset",
    "SemanticKITTIDataset",
    "StopSignals",
    "batch_to",
    "bias_losses",
    "derive_seed",
    "import_modules",
    "in_evaluation",
    "load_all",
    "load_checkpoint",
    "plain_values",
    "seeded",
    "teacher_of_student",
    "to_numpy",
    "unwrapped",
]
