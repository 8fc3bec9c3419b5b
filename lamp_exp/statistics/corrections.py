"""p-values of many tests, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lamp_exp.statistics.samples import Floats


def holm(ps: Sequence[float]) -> Floats:
    """Holm's adjusted p-values: the chance of any false finding. NaN stays and is not counted."""
    found, known, order = _sorted(ps)
    steps = known[order] * np.arange(len(known), 0, -1)
    known[order] = np.maximum.accumulate(steps).clip(max=1)
    found[~np.isnan(found)] = known
    return found


def benjamini_hochberg(ps: Sequence[float]) -> Floats:
    """Benjamini and Hochberg's: the share of false findings. NaN stays and is not counted."""
    found, known, order = _sorted(ps)
    steps = known[order] * len(known) / np.arange(1, len(known) + 1)
    known[order] = np.minimum.accumulate(steps[::-1])[::-1].clip(max=1)
    found[~np.isnan(found)] = known
    return found


def _sorted(ps: Sequence[float]) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """All of them, those that are known, and the order of the latter."""
    found = np.array(ps, dtype=np.float64)
    known = found[~np.isnan(found)]
    return found, known, np.argsort(known)
