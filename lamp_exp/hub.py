"""What models and encoders have in common that load from the Hugging Face hub or a folder.

Without a network loading ends after seconds, not minutes; a folder without a tokenizer is refused.
"""

from __future__ import annotations

import json
import pickle
import queue
import struct
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from safetensors import SafetensorError, safe_open

from lamp_exp.errors import InputError, WeightsError, first_line
from lamp_exp.wording import count_of

SECONDS = 3.0  # that a hub has to answer
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.gguf", "*.h5", "*.msgpack")
MODEL_FILES = ("*.json", "*.gguf")  # of which the folder of a model has one
LOAD_ERRORS = (  # that libraries raise for files that are missing, damaged, or of another kind
    OSError, ValueError, ImportError, RuntimeError, EOFError, KeyError, SafetensorError,
    pickle.UnpicklingError, struct.error,
)  # fmt: skip


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


def check_reachable(option: str, name: str, file: str) -> None:
    """Raises InputError for a hub id of which this machine has nothing, if no hub answers.

    Also for a name of several slashes, which no hub id has, that is no folder. `file` is one that
    the user named. To be called before heavy imports.
    """
    if name.count("/") > 1 and not Path(name).is_dir():
        raise InputError(f"{option}={name}: there is no such folder")
    try:
        on_this_machine = Path(name).is_dir() or _is_cached(name, file)
    except ValueError:  # no name that a hub could have: loading tells
        return
    if not on_this_machine and only_local_files(name):
        raise load_error(option, name, "files", OSError())


def _is_cached(name: str, file: str) -> bool:
    """Whether the cache of the hub's client has one of the files that name a model."""
    from huggingface_hub import try_to_load_from_cache

    files = ("config.json", "tokenizer_config.json", "tokenizer.json", "modules.json", file)
    names = [name, *([] if "/" in name else [f"sentence-transformers/{name}"])]
    return any(isinstance(try_to_load_from_cache(n, f), str) for n in names for f in files)


def load_error(option: str, name: str, what: str, error: BaseException) -> InputError:
    """Why `what` could not be loaded from the hub id or folder that `option` names."""
    if Path(name).is_dir():
        reason = f"{first_line(error)}: is the folder complete?"
        if not any(file for pattern in MODEL_FILES for file in Path(name).glob(pattern)):
            reason = f"the folder holds no model (no {' or '.join(MODEL_FILES)})"
    elif not only_local_files(name):
        reason = first_line(error)
    elif Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        reason = "there is no such folder"
    else:
        reason = (
            "it is not on this machine, and the hub does not answer: give a local folder, "
            f"{option}=FOLDER"
        )
    message = f"{option}={name}: no {what} could be loaded from it: {reason}"
    return WeightsError(option, message)


def check_weight_files(folder: Path) -> set[str]:
    """The names of the files of weights in a folder, those that an index lists among them.

    Raises one of LOAD_ERRORS, which names the file, for one that is missing or cut off.
    """
    names = {path.name for pattern in WEIGHT_FILES for path in folder.glob(pattern)}
    for index in folder.glob("*.safetensors.index.json"):
        names.update(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    for path in (folder / name for name in sorted(names)):
        if not path.is_file():
            raise FileNotFoundError(f"{path.name} is missing")
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="np"):  # compares its length with its header
                    pass
            except SafetensorError as error:
                raise EOFError(f"{path.name}: {first_line(error)}") from error
        elif _is_cut_archive(path):
            raise EOFError(f"{path.name} was cut off")
    return names


def _is_cut_archive(path: Path) -> bool:
    """Whether a file that torch saved lacks its end."""
    with path.open("rb") as file:
        return file.read(2) == b"PK" and not is_zipfile(file)


def check_vocabulary(tokenizer: Any, source: str, embeddings: int | None = None) -> None:
    """Raises InputError for an empty vocabulary, or one of more tokens than there are embeddings.

    Transformers makes an empty tokenizer, to which all words are unknown, out of a folder that
    holds weights only.
    """
    added = tokenizer.added_tokens_decoder
    special = {*tokenizer.all_special_ids, *(id for id in added if added[id].special)}
    words = set(tokenizer.get_vocab().values()) - special
    if len(words) <= 1:  # T5's has the mark of a space
        raise InputError(f"{source}: it has weights, but no tokenizer's files")
    # Other special tokens, such as those of images, are in no text and may have no embedding.
    used = words | (
        {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id} - {None}
    )
    if embeddings is not None and max(used) >= embeddings:
        raise InputError(
            f"{source}: its tokenizer has {max(used) + 1} tokens, but its weights only "
            f"{embeddings}: they belong to different models"
        )


def refuse_missing_weights(source: str, missing: Iterable[str]) -> None:
    """Raises InputError if parameters of a network are in none of the files that `source` names."""
    if names := sorted(missing):
        raise InputError(
            f"{source}: its weights lack {count_of(len(names), 'parameter')} of the model, such as "
            f"{names[0]}: they are incomplete, or belong to another kind of model"
        )


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
