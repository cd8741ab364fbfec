"""The host's names, from the standalone runtime."""

from .standalone import comm
from .standalone.builders import build_criteria, build_dataset, build_model
from .standalone.collate import collate_fn, point_collate_fn
from .standalone.config import Config, ConfigDict, DictAction
from .standalone.datasets import ConcatDataset, DefaultDataset
from .standalone.defaults import (
    default_argument_parser,
    default_config_parser,
    default_setup,
)
from .standalone.events import write_scalars
from .standalone.hooks import HookBase
from .standalone.launch import launch
from .standalone.logger import get_root_logger
from .standalone.modules import PointModel, PointModule, PointSequential
from .standalone.point import (
    Point,
    batch2offset,
    offset2batch,
    offset2bincount,
)
from .standalone.pt_v3m2 import PointTransformerV3
from .standalone.registry import (
    DATASETS,
    HOOKS,
    LOSSES,
    MODELS,
    MODULES,
    TESTERS,
    TRAINERS,
    TRANSFORMS,
    Registry,
)
from .standalone.scheduler import CosineScheduler
from .standalone.spunet import SpUNetBase
from .standalone.trainer import Trainer
from .standalone.transforms import Compose, index_operator

__all__ = [
    "DATASETS",
    "HOOKS",
    "LOSSES",
    "MODELS",
    "MODULES",
    "TESTERS",
    "TRAINERS",
    "TRANSFORMS",
    "Compose",
    "ConcatDataset",
    "Config",
    "ConfigDict",
    "CosineScheduler",
    "DefaultDataset",
    "DictAction",
    "HookBase",
    "Point",
    "PointModel",
    "PointModule",
    "PointSequential",
    "PointTransformerV3",
    "Registry",
    "SpUNetBase",
    "Trainer",
    "batch2offset",
    "build_criteria",
    "build_dataset",
    "build_model",
    "collate_fn",
    "comm",
    "default_argument_parser",
    "default_config_parser",
    "default_setup",
    "get_root_logger",
    "index_operator",
    "launch",
    "offset2batch",
    "offset2bincount",
    "point_collate_fn",
    "write_scalars",
]
