"""The host's names, from a real Pointcept (commit d74c646)."""

from pointcept.datasets import build_dataset, collate_fn, point_collate_fn
from pointcept.datasets.builder import DATASETS
from pointcept.datasets.defaults import ConcatDataset, DefaultDataset
from pointcept.datasets.transform import TRANSFORMS, Compose, index_operator
from pointcept.engines.defaults import default_argument_parser, default_setup
from pointcept.engines.hooks import HookBase
from pointcept.engines.hooks.builder import HOOKS
from pointcept.engines.test import TESTERS
from pointcept.engines.train import TRAINERS, Trainer
from pointcept.models.builder import MODELS, MODULES, build_model
from pointcept.models.losses import build_criteria
from pointcept.models.losses.builder import LOSSES
from pointcept.models.modules import PointModel, PointModule, PointSequential
from pointcept.models.point_transformer_v3.point_transformer_v3m2_sonata import (
    PointTransformerV3,
)
from pointcept.models.sparse_unet.spconv_unet_v1m1_base import SpUNetBase
from pointcept.models.utils import batch2offset, offset2batch, offset2bincount
from pointcept.models.utils.structure import Point
from pointcept.utils import comm
from pointcept.utils.config import Config, ConfigDict, DictAction
from pointcept.utils.logger import get_root_logger
from pointcept.utils.registry import Registry
from pointcept.utils.scheduler import CosineScheduler

import pointins_plugin.host.pointcept_fixes as fixes
from pointins_plugin.host.pointcept_extras import write_scalars
from pointins_plugin.host.pointcept_fixes import default_config_parser
from pointins_plugin.host.pointcept_fixes import launch_in_one_line as launch

fixes.install()

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
