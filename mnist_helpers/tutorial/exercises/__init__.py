"""Checkers for the exercises, one module a notebook.

Each takes the reader's answer and says whether it is right and why, or gives a hint for
that very mistake. None of them ever raises: an exercise left out must not stop a notebook.
"""

from mnist_helpers.tutorial.exercises.cnn import check_field, check_output_size, check_parameters
from mnist_helpers.tutorial.exercises.curves import check_epoch, check_recall, check_standard_error
from mnist_helpers.tutorial.exercises.digits import check_batches, check_file_size, check_grey
from mnist_helpers.tutorial.exercises.faster import check_peak, check_precision, check_speed
from mnist_helpers.tutorial.exercises.loop import check_half_sure, check_momentum, check_steps

__all__ = [
    "check_batches",
    "check_epoch",
    "check_field",
    "check_file_size",
    "check_grey",
    "check_half_sure",
    "check_momentum",
    "check_output_size",
    "check_parameters",
    "check_peak",
    "check_precision",
    "check_recall",
    "check_speed",
    "check_standard_error",
    "check_steps",
]
