"""The tasks of LaMP, one file each."""

from __future__ import annotations

import importlib
import pkgutil

from lamp_exp.contracts import Task


def all_tasks() -> dict[str, Task]:
    """Every task by the name of its file, which is also its name as an option."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if module.name != "base"]
    return {name: _only_class(f"{__name__}.{name}")() for name in sorted(names)}


def _only_class(module: str) -> type[Task]:
    values = vars(importlib.import_module(module)).values()
    (task,) = [v for v in values if isinstance(v, type) and v.__module__ == module]
    return task
