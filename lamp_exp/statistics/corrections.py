"""p-values of many tests, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from statsmodels.stats.multitest import multipletests

from lamp_exp.statistics.samples import Floats


def holm(ps: Sequence[float]) -> Floats:
    """Holm's adjusted p-values: the chance of any false finding. NaN stays and is not counted."""
    return _adjusted(ps, "holm")


def benjamini_hochberg(ps: Sequence[float]) -> Floats:
    """Benjamini and Hochberg's: the share of false findings. NaN stays and is not counted."""
    return _adjusted(ps, "fdr_bh")


def _adjusted(ps: Sequence[float], method: str) -> Floats:
    adjusted = np.array(ps, dtype=np.float64)
    known = ~np.isnan(adjusted)
    if known.any():
        adjusted[known] = multipletests(adjusted[known], method=method)[1]
    return adjusted
