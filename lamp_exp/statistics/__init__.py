"""Statistics of runs, in one place to import from.

A `Sample` is one run under one metric. `interval` gives its number with a confidence interval,
`compare` tests whether another run on the same examples differs, `contrast` tests an effect over
several runs. Users, not examples, count as independent. The same input gives the same numbers,
whatever numpy's global state.
"""

from lamp_exp.statistics.contrasts import Contrast, contrast, share_of_gain
from lamp_exp.statistics.corrections import benjamini_hochberg, holm
from lamp_exp.statistics.intervals import Interval, caution_notes, interval
from lamp_exp.statistics.paired import Comparison, Test, compare
from lamp_exp.statistics.samples import (
    Sample,
    f1_sample,
    mean_over_seeds,
    mean_sample,
    metric_sample,
    rmse_sample,
)

__all__ = [
    "Comparison",
    "Contrast",
    "Interval",
    "Sample",
    "Test",
    "benjamini_hochberg",
    "caution_notes",
    "compare",
    "contrast",
    "f1_sample",
    "holm",
    "interval",
    "mean_over_seeds",
    "mean_sample",
    "metric_sample",
    "rmse_sample",
    "share_of_gain",
]
