"""Datasets of the plugin; importing the package registers them."""

from .folder import FolderDataset
from .rooms import RoomsDataset
from .streets import StreetsDataset

__all__ = ["FolderDataset", "RoomsDataset", "StreetsDataset"]
