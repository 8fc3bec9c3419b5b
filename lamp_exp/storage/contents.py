"""Fingerprints the content of a folder, for identities and cache keys."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def folder_fingerprint(name: str) -> str:
    """`folder:` and 16 hexadecimal digits of the content of a local folder; other names unchanged.

    All files are read: an adapter's weights, for one, differ only far from the file's beginning.
    """
    folder = Path(name)
    if not folder.is_dir():
        return name
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(file, file.stat()) for file in files]
    return _fingerprint(folder, tuple((file, one.st_size, one.st_mtime_ns) for file, one in stats))


@lru_cache  # a sweep asks for the same folder again and again, and may make it anew meanwhile
def _fingerprint(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, *_ in files:
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{file.relative_to(folder)}:{content}:".encode())
    return f"folder:{digest.hexdigest()[:16]}"
