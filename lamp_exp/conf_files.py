"""Where the YAML files of `conf/` are."""

from __future__ import annotations

from pathlib import Path


def conf_folder() -> str:
    """The conf folder, absolute: in the checkout beside the package, else inside the wheel."""
    package = Path(__file__).parent
    inside = package / "conf"
    return str(inside if inside.is_dir() else package.parent / "conf")
