"""A fingerprint of the source code that decides a run's numbers.

It changes with a formula or a template, and not with a comment, a docstring, a type annotation, a
log line, a progress bar or the message of an error. Python 3.11 to 3.13 give the same one.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

PACKAGE = "lamp_exp"
PACKAGE_FOLDER = Path(__file__).resolve().parent.parent
INSTALLED = {"site-packages", "dist-packages"}
# The parts of this package that decide no number; a name stands for all below it, too.
WITHOUT_NUMBERS = tuple(f"{PACKAGE}.{name}" for name in (
    "__main__", "artefacts", "cache", "config", "environment", "errors",
    "experiment.code_fingerprint", "experiment.ddp", "experiment.ddp_worker",
    "experiment.identity", "experiment.learning", "hub", "laws", "loggers",
    "models.progress_bars", "options", "overrides", "progress", "report", "reproduction", "results",
    "statistics", "storage", "sweeps", "wandb", "wording",
))  # fmt: skip
PROGRESS = {"progress", "tqdm"}  # functions that return their first argument and show a bar
LEVELS = {"critical", "debug", "error", "exception", "info", "log", "warning"}
SHOWING = {  # calls without a result that only show or log something: name and methods
    "print": {""},
    "log": LEVELS,
    "logger": LEVELS,
    "logging": LEVELS,
    "warnings": {"warn"},
    "tqdm": {"write"},
    "bar": {"close", "refresh", "set_description", "set_postfix", "update"},
}
IGNORED_FIELDS = {  # positions are no fields; `msg` is an assertion's message
    "annotation", "cause", "ctx", "kind", "msg", "returns", "simple", "type_comment",
    "type_ignores", "type_params",
}  # fmt: skip


def code_fingerprint(*objects: object) -> str:
    """Sixteen hexadecimal digits that change with the code that decides what `objects` compute.

    `objects` are instances or classes. Counted are the modules of their classes and of the bases
    of these, and all modules that those import, as far as they belong to this package or are a
    user's own files. Of installed packages only the `version` of each class counts (see
    `lamp_exp.contracts`); a run's record names the versions of libraries.
    """
    classes = [one if isinstance(one, type) else type(one) for one in _with_inner(objects)]
    bases = {base for cls in classes for base in cls.__mro__}
    versions = {
        f"{base.__qualname__}={base.version}"  # type: ignore[attr-defined]
        for base in bases
        if isinstance(getattr(base, "version", None), int)
    }
    return _fingerprint(frozenset(base.__module__ for base in bases), frozenset(versions))


def _with_inner(objects: Iterable[object]) -> Iterator[object]:
    """The objects and all components that they are built of."""
    for one in objects:
        yield one
        if not isinstance(one, type):
            yield from _with_inner(getattr(one, "components", ()))


@lru_cache  # imported code does not change while a process runs
def _fingerprint(modules: frozenset[str], versions: frozenset[str]) -> str:
    digest = hashlib.sha256("\n".join(sorted(versions)).encode())
    for name, code in sorted(sources(modules).items()):
        digest.update(f"\n{name}: {code.text}".encode())
    return digest.hexdigest()[:16]


def sources(modules: Iterable[str]) -> dict[str, NormalForm]:
    """The code of modules and of all that they import, by name, as far as it counts."""
    found: dict[str, NormalForm] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = None if name in found or _without_numbers(name) else _source(name)
        if path is not None:
            found[name] = _normal_form(name, path)
            waiting += found[name].modules
    return found


@lru_cache
def _normal_form(name: str, path: Path) -> NormalForm:
    is_package = path.name == "__init__.py"
    return NormalForm(ast.parse(path.read_bytes()), name if is_package else name.rpartition(".")[0])


class NormalForm:
    """A module's code without what decides no number.

    `text` is that code in a form that is the same on all Pythons, as that of `ast.dump` is not.
    `modules` are the modules that it imports at run time, wherever in the file.
    """

    def __init__(self, tree: ast.Module, package: str) -> None:
        """`package` is the one that the module's relative imports start from."""
        self.package = package
        self.modules: list[str] = []
        self._names: set[str] = set()  # all that the code reads or calls
        self._imports: list[tuple[str, str, bool]] = []
        body = self._any(tree.body)
        used = {
            f"{name}={target}"
            for name, target, own in self._imports
            if own or name in self._names  # other modules may import our names from here
        }
        self.text = f"{body} {sorted(used)}"

    def _any(self, value: Any) -> str:
        """A node, a list of nodes, or a plain value of a field."""
        if isinstance(value, list):
            return ", ".join(self._any(one) for one in value if not self._is_dropped(one))
        return self._node(value) if isinstance(value, ast.AST) else ascii(value)

    def _node(self, node: ast.AST) -> str:
        match node:
            case ast.Constant():
                return ascii(node.value)  # which characters repr escapes depends on the Python
            case ast.Name():
                self._names.add(node.id)
                return node.id
            case ast.JoinedStr():
                return f"f({self._template(node)})"
            case ast.Call(args=[first, *_]) if _called(node)[0] in PROGRESS:
                return self._any(first)
            case ast.Raise(exc=ast.Call() as call):
                return f"raise {self._node(call.func)}"
        fields = (
            (name, getattr(node, name)) for name in node._fields if name not in IGNORED_FIELDS
        )
        inner = " ".join(f"{name}={self._any(value)}" for name, value in fields if _is_set(value))
        return f"{type(node).__name__}({inner})"

    def _template(self, template: ast.JoinedStr) -> str:
        """The parts of an f-string; Pythons differ in how they divide its plain text."""
        parts = []
        for plain, group in groupby(template.values, lambda part: isinstance(part, ast.Constant)):
            if plain:
                parts.append(ascii("".join(part.value for part in group)))  # type: ignore[attr-defined]
            else:
                parts += [self._placeholder(part) for part in group]
        return " ".join(part for part in parts if part != "''")

    def _placeholder(self, part: ast.expr) -> str:
        assert isinstance(part, ast.FormattedValue)
        style = part.format_spec
        shown = self._template(style) if isinstance(style, ast.JoinedStr) else ""
        return f"{{{self._any(part.value)} {part.conversion} {shown}}}"

    def _is_dropped(self, node: Any) -> bool:
        """Whether a statement decides nothing; notes what it imports."""
        match node:
            case ast.Import() | ast.ImportFrom():
                self._note_imports(node)
                return True
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                return True
            case ast.Expr(value=ast.Call() as call):
                name, method = _called(call)
                return method in SHOWING.get(name.strip("_").lower(), ())
            case ast.Assign(value=ast.Call() as call):
                return _called(call)[1] == "getLogger"
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return True
            case ast.FunctionDef():  # what has to be written, not what is computed
                names = {one.id for one in node.decorator_list if isinstance(one, ast.Name)}
                return "abstractmethod" in names and all(map(self._is_dropped, node.body))
        return False

    def _note_imports(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            names = [(alias.asname or alias.name, alias.name, alias.name) for alias in node.names]
        else:
            start = self.package.split(".")[: len(self.package.split(".")) + 1 - node.level]
            base = ".".join([*(start if node.level else []), *filter(None, [node.module])])
            names = [(a.asname or a.name, f"{base}.{a.name}", base) for a in node.names]
        for name, target, base in names:
            if not _without_numbers(target):
                module = target if _source(target) else base
                self.modules.append(module)
                self._imports.append((name.split(".")[0], target, _source(module) is not None))


def _is_set(value: Any) -> bool:
    return value is not None and value != []


def _called(call: ast.Call) -> tuple[str, str]:
    """The last names of what is called: (`log`, `info`) of `self.log.info()`, (`print`, ``)."""
    match call.func:
        case ast.Name(id=name):
            return name, ""
        case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr=method):
            return name, method
    return "", ""


def _without_numbers(module: str) -> bool:
    return any(f"{module}.".startswith(f"{name}.") for name in WITHOUT_NUMBERS)


@lru_cache
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
                return _own(str(path))
    return None


def _own(file: str | None) -> Path | None:
    """A file of this package, wherever it is installed, or a user's own; not one of a library."""
    if file is None or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    if PACKAGE_FOLDER in path.parents:
        return path
    library = Path(sysconfig.get_path("stdlib")).resolve()
    return None if INSTALLED & set(path.parts) or library in path.parents else path
