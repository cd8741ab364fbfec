"""Datasets of the plugin; importing the package registers them."""

from .folder import FolderDataset
from .rooms import RoomsDataset

__all__ = ["FolderDataset", "RoomsDataset"]
