"""Personalising language models on the LaMP benchmark: one experiment, or the paper's grids.

From Python: `run`, `sweep`, `load_results`, `compare`, and `figures`. Their modules, and the
libraries that these need, are imported when a name is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lamp_exp.figures as figures
    from lamp_exp.errors import InputError
    from lamp_exp.python_interface import Run, compare, load_results, run, sweep
    from lamp_exp.sweeps.sweeper import JobsFailed

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "JobsFailed",
    "Run",
    "compare",
    "figures",
    "load_results",
    "run",
    "sweep",
]
_MODULES = {
    **dict.fromkeys(("Run", "compare", "load_results", "run", "sweep"), "python_interface"),
    "InputError": "errors",
    "JobsFailed": "sweeps.sweeper",
}


def __getattr__(name: str) -> Any:
    if name == "figures":
        return importlib.import_module("lamp_exp.figures")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"lamp_exp.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
