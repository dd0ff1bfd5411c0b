"""Data sets and how nodes share them: ``load`` a set, ``split`` it among the nodes, ``pad`` the shards."""

from palaver.data.dataset import Dataset, from_arrays, subset
from palaver.data.load import NAMES, load
from palaver.data.splits import SPLITS, pad, split

__all__ = ["NAMES", "SPLITS", "Dataset", "from_arrays", "load", "pad", "split", "subset"]
