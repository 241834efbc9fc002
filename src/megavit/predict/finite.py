"""Answers that are no numbers are errors, whichever part of the package computed them."""

from typing import Any

import numpy as np

NOT_FINITE = "the model's answer is not a finite number (NaN or infinity); its weights or settings are damaged"


def finite_rows(*values: Any) -> np.ndarray:
    """Return which rows are finite in all of several arrays, or tensors on the CPU, each (B, ...): (B,) bools."""
    arrays = [np.asarray(one) for one in values]
    return np.logical_and.reduce([np.isfinite(one).all(axis=tuple(range(1, one.ndim))) for one in arrays])
