"""Arrow arrays from Python and numpy values, without `pa.array`, which imports pandas (0.3 s)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray


def number_array(values: NDArray[Any]) -> pa.Array:
    """Numbers, in the memory of `values`."""
    arrow_type = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(arrow_type, len(values), [None, pa.py_buffer(values)])


def string_array(texts: Sequence[str]) -> pa.StringArray:
    """Texts, none of them null."""
    content = [text.encode("utf-8") for text in texts]
    buffers = [None, pa.py_buffer(_offsets(content)), pa.py_buffer(b"".join(content))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def list_array(lists: Sequence[Sequence[float]], dtype: DTypeLike) -> pa.ListArray:
    """Lists of numbers."""
    offsets = _offsets(lists)
    values = np.fromiter(chain.from_iterable(lists), dtype, int(offsets[-1]))
    return pa.ListArray.from_arrays(number_array(offsets), number_array(values))


def _offsets(values: Sequence[Sequence[Any]]) -> NDArray[np.int32]:
    return np.cumsum([0, *map(len, values)], dtype=np.int32)
