"""What an API once answered."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, MutableMapping
from pathlib import Path


class DiskMap(MutableMapping[str, str]):
    """Texts by key in one SQLite file, made at the first write; each write is safe at once.

    Several processes and threads may use the same file.
    """

    def __init__(self, path: Path) -> None:
        """`path` need not exist."""
        self.path = path

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=60)
        connection.execute("CREATE TABLE IF NOT EXISTS map (key TEXT PRIMARY KEY, value TEXT)")
        return connection

    def _query(self, statement: str, *values: str) -> list[tuple[str, ...]]:
        connection = self._connect()
        try:
            with connection:  # commits
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

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
