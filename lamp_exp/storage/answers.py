"""A cache of API answers in one SQLite file, so that none is paid for twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, MutableMapping
from contextlib import closing
from pathlib import Path

from lamp_exp.storage.atomic import Unwritable, report_damage
from lamp_exp.storage.locks import exclusive

_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class DiskMap(MutableMapping[str, str]):
    """Texts by key in a file, made at the first access; a text is on disk once it is set.

    Several processes and threads may use the same file. A damaged file is set aside, and its
    texts are missing.
    """

    def __init__(self, path: Path) -> None:
        """`path` need not exist."""
        self.path = path

    def __getitem__(self, key: str) -> str:
        rows = self._query("SELECT value FROM map WHERE key = ?", key)
        if not rows:
            raise KeyError(key)
        return rows[0][0]

    def __setitem__(self, key: str, value: str) -> None:
        self._query("INSERT OR REPLACE INTO map VALUES (?, ?)", key, value)

    def __delitem__(self, key: str) -> None:
        self._query("DELETE FROM map WHERE key = ?", key)

    def __iter__(self) -> Iterator[str]:
        return (key for (key,) in self._query("SELECT key FROM map ORDER BY key"))

    def __len__(self) -> int:
        return int(self._query("SELECT COUNT(*) FROM map")[0][0])

    def _query(self, statement: str, *values: str) -> list[tuple[str, ...]]:
        try:
            return self._execute(statement, *values)
        except sqlite3.DatabaseError as error:
            _raise_unless_damage(error)
        with exclusive(self.path):  # another process may have set it aside meanwhile
            try:
                return self._execute(statement, *values)
            except sqlite3.DatabaseError as error:
                _raise_unless_damage(error)
                report_damage(self.path, error)
            return self._execute(statement, *values)

    def _execute(self, statement: str, *values: str) -> list[tuple[str, ...]]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
                create = "CREATE TABLE IF NOT EXISTS map (key TEXT PRIMARY KEY, value TEXT)"
                connection.execute(create)
                return connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:  # a full disk, no permission, locked for long
            raise Unwritable(self.path, OSError(str(error))) from error


def _raise_unless_damage(error: sqlite3.DatabaseError) -> None:
    if error.sqlite_errorcode & 0xFF not in _DAMAGE:  # the low byte: kinds of damage are above
        raise error
