"""Data for training on all ranks: data sets over distributed arrays and files, global batches, global shuffles."""

from . import matrixgallery, spherical
from .arrays import Dataset, create_train_val_split
from .loader import DataLoader
from .partial_h5 import PartialH5Dataset
from .sampler import DistributedSampler

#: Heat's name.
DistributedDataset = Dataset

__all__ = [
    "DataLoader",
    "Dataset",
    "DistributedDataset",
    "DistributedSampler",
    "PartialH5Dataset",
    "create_train_val_split",
    "matrixgallery",
    "spherical",
]
