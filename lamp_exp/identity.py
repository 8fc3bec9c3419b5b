"""placeholder"""

import hashlib
from pathlib import Path


def code_fingerprint(*objects: object) -> str:
    """Placeholder."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16]
