"""Datasets of the plugin; importing the package registers them."""

from .folder import FolderDataset

__all__ = ["FolderDataset"]
