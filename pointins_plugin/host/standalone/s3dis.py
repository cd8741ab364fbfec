"""S3DIS as Pointcept preprocesses it."""

from .datasets import DefaultDataset
from .registry import DATASETS


@DATASETS.register_module()
class S3DISDataset(DefaultDataset):
    """S3DIS: ``data_root/Area_1/office_1/{coord,...}.npy``; areas are the splits."""

    def hint(self) -> str:
        """Return what a user without the data can do."""
        return (
            "get S3DIS, preprocess it with Pointcept's "
            "pointcept/datasets/preprocessing/s3dis and link it there, or try "
            "-c pointins/demo-pretrain, which needs no data"
        )

    def get_data_name(self, idx: int) -> str:
        """Return the name of a room with its area, e.g. ``Area_1-office_1``."""
        return f"{self.get_split_name(idx)}-{self.folder_name(idx)}"
