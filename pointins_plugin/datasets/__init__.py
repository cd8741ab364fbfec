"""Datasets of the plugin; importing the package registers them."""

from .folder import FolderDataset
from .label_efficient import LabelEfficientDataset
from .panoptic_kitti import SemanticKITTIPanopticDataset
from .panoptic_nuscenes import NuScenesPanopticDataset
from .rooms import RoomsDataset
from .scannet_pair import ScanNetPairDataset
from .streets import StreetsDataset

__all__ = [
    "FolderDataset",
    "LabelEfficientDataset",
    "NuScenesPanopticDataset",
    "RoomsDataset",
    "ScanNetPairDataset",
    "SemanticKITTIPanopticDataset",
    "StreetsDataset",
]
