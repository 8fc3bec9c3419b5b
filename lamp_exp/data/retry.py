"""The retry policy of network requests: how many attempts, how long to wait."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from tqdm import tqdm

LONGEST_WAIT = 60.0  # seconds between two tries of our own accord
LONGEST_ASKED = 600.0  # seconds that a server's Retry-After may ask for before we give up

T = TypeVar("T")


class Interrupted(Exception):
    """Worth another try; `after` is how many seconds the server asks to wait."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Refused(Exception):
    """No further try would help; `missing` if the server says that there is no such file."""

    def __init__(self, reason: str, missing: bool = False) -> None:
        super().__init__(reason)
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try again without any progress, and how many seconds to wait first."""

    retries: int
    first_wait: float

    def wait(self, failures: int) -> float:
        """Doubled each time, and never the same for two clients that failed together."""
        longest = min(LONGEST_WAIT, self.first_wait * 2.0 ** min(failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)

    def until_done(
        self, what: str, attempt: Callable[[], T], progress: Callable[[], int] = lambda: 0
    ) -> T:
        """Tries until it works, or until `retries` tries in a row got no farther than before."""
        failures, farthest = 0, progress()
        while True:
            try:
                return attempt()
            except Interrupted as error:
                failures = 1 if progress() > farthest else failures + 1
                farthest = max(farthest, progress())
                if failures > self.retries:
                    raise Refused(
                        f"{error} (given up; tries without progress: {failures})"
                    ) from error
                if error.after > LONGEST_ASKED:
                    raise Refused(f"{error}, and asks to wait {error.after:.0f} s") from error
                wait = max(self.wait(failures), error.after)
                tqdm.write(f"{what}: {error}; next try in {wait:.1f} s", file=sys.stderr)
                time.sleep(wait)


def seconds_asked(retry_after: str) -> float:
    """From now on; the header holds seconds or a date, and nonsense asks for nothing."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return 0.0
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
