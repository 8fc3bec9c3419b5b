"""A fingerprint of the source code that decides a result."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

PACKAGE = "lamp_exp"
INSTALLED = {"site-packages", "dist-packages"}


def code_fingerprint(*objects: object) -> str:
    """Sixteen hexadecimal digits that change with any source file that decides what these do.

    `objects` are instances or classes. Counted are the modules of their classes and of the
    classes that those inherit from, and whatever these modules import: of this package, and of a
    user's own files. Installed libraries are not; the record names their versions.
    """
    return _fingerprint(frozenset(_modules(objects)))


@lru_cache  # files are read once: what has been imported does not change while we run
def _fingerprint(modules: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for name, path in sorted(sources(modules).items()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{name}:{content}:".encode())
    return digest.hexdigest()[:16]


def _modules(objects: Iterable[object]) -> set[str]:
    classes = [one if isinstance(one, type) else type(one) for one in objects]
    return {parent.__module__ for made in classes for parent in made.__mro__}


def sources(modules: Iterable[str]) -> dict[str, Path]:
    """The files of modules and of all that they import, by name, as far as they are ours."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = None if name in found else _source(name)
        if path is not None:
            found[name] = path
            waiting += _imported(name, path)
    return found


def _source(name: str) -> Path | None:
    """Where a module of this package, or of a user's own, is written; None for all others.

    Only the outermost package is looked up, which imports nothing.
    """
    top, *rest = name.split(".")
    if top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return None
    if name == "__main__":
        return _own(getattr(sys.modules[name], "__file__", None))
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module without a spec: made by hand, in no file
        return None
    if spec is None:
        return None
    if not rest:
        return _own(spec.origin)
    for folder in spec.submodule_search_locations or ():
        place = Path(folder, *rest)
        for path in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if path.is_file():
                return path if top == PACKAGE else _own(str(path))
    return None


def _own(file: str | None) -> Path | None:
    """A file that is neither Python's own nor an installed library's; this package's always is."""
    if file is None or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    if Path(__file__).resolve().parent.parent in path.parents:
        return path
    library = Path(sysconfig.get_path("stdlib")).resolve()
    return None if INSTALLED & set(path.parts) or library in path.parents else path


def _imported(name: str, path: Path) -> Iterator[str]:
    """The modules that a file names in its imports, wherever in the file they stand."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(start if node.level else []), *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if _source(inner) else base
