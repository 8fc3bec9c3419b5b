"""The rows of a sweep: each is a grid of its own, and may have a name by which it is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lamp_exp.errors import InputError, did_you_mean
from lamp_exp.override_words import override

Row = Mapping[str, Any]


def sweep_rows(
    rows: Sequence[Row] | Mapping[str, Row | None] | None,
    changes: Mapping[str, Row | str | None] | None = None,
) -> list[Row] | dict[str, Row]:
    """The rows, as a list or by names, with `changes` of those that have names.

    A row, or a change, that is None or a text leaves the row out. Raises InputError for changes of
    no row.
    """
    if not isinstance(rows, Mapping):
        if changes:
            raise InputError(
                "hydra.sweeper.changed_rows needs rows with names, such as those of +sweep=methods"
            )
        return list(rows or [{}])
    changes = changes or {}
    for name in changes:
        if name not in rows:
            hint = did_you_mean(name, rows) or f": choose of {', '.join(rows)}"
            raise InputError(f"hydra.sweeper.changed_rows.{name} is no row of this sweep{hint}")
    found: dict[str, Row] = {}
    for name, row in rows.items():
        change = changes.get(name, {})
        if isinstance(row, Mapping) and isinstance(change, Mapping):
            found[name] = {**_dotted(row), **_dotted(change)}
        elif not (change is None or isinstance(change, str | Mapping)):
            raise InputError(
                f"hydra.sweeper.changed_rows.{name}={change} must be options, null, or the reason "
                "why the row is not run"
            )
    return found


def _dotted(row: Row) -> Row:
    """The row with `adapter: {epochs: 1}`, as the command line makes it, as `adapter.epochs: 1`."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        inner = value if isinstance(value, Mapping) and "." not in key else {}
        found |= {f"{key}.{name}": one for name, one in inner.items()} or {key: value}
    return found


def rows_not_run(changes: Mapping[str, Row | str | None] | None) -> list[str]:
    """A line for each row that is left out for a reason that is given."""
    given = (changes or {}).items()
    return [f"not run: row={name}: {reason}" for name, reason in given if isinstance(reason, str)]


def words_of(row: Row) -> list[str]:
    """The overrides of a row. A text is written as on the command line, with several values."""
    return [
        f"{key}={value}" if isinstance(value, str) else override(key, value)
        for key, value in row.items()
    ]
