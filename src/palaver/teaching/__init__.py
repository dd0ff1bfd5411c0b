"""A teacher that chooses the training examples, for any training loop (thesis ch. 3).

Difficulty measures, selection rules and targets are functions of arrays from NumPy, JAX or PyTorch; ``TeacherStack``
wraps a loop's batches.
"""

from palaver.teaching import difficulty, selection, targets
from palaver.teaching.stack import Counts, TeacherStack, committee
from palaver.teaching.table import Indexed, Table, precompute, read_table

__all__ = [
    "Counts",
    "Indexed",
    "Table",
    "TeacherStack",
    "committee",
    "difficulty",
    "precompute",
    "read_table",
    "selection",
    "targets",
]
