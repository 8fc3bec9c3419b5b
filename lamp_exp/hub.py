"""Whether the Hugging Face hub answers, so that loading without a network does not take minutes."""

from __future__ import annotations

import queue
import threading
from functools import lru_cache
from pathlib import Path

SECONDS = 4.0


@lru_cache  # a sweep asks for the same name again and again
def only_local_files(name: str) -> bool:
    """Whether a model can only be loaded from this machine: as a folder, or without a network.

    The hub's client itself asks again and again before it gives up.
    """
    if Path(name).is_dir():
        return True
    answer: queue.SimpleQueue[bool] = queue.SimpleQueue()
    threading.Thread(target=lambda: answer.put(_hub_answers(name)), daemon=True).start()
    try:
        return not answer.get(timeout=SECONDS)
    except queue.Empty:  # names that are resolved slowly, a server that says nothing
        return True


def why_missing(name: str) -> str:
    """Why a name could not be loaded from this machine, and what to give instead."""
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        return "there is no such folder"
    return "it is not on this machine, and the hub does not answer: give a local folder"


def _hub_answers(name: str) -> bool:
    import httpx2  # the hub's client speaks HTTP with it
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(name, timeout=SECONDS)
    except HfHubHTTPError as error:  # of an unknown name, say: loading tells
        return error.response.status_code < 500
    except (httpx2.HTTPError, OSError):
        return False
    except ValueError:  # no name that a hub could have
        return True
    return True
