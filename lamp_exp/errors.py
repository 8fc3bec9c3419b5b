"""Errors of the user and of components, and how errors are quoted in one line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Q = TypeVar("Q", bound=Any)


class InputError(ValueError):
    """A mistake in what the user gave.

    The message says in one line what is wrong, where, and what to do about it. The commands print
    it and exit with code 2; a notebook shows it without a traceback.
    """

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        return [f"{type(self).__name__}: {self}"]


class WeightsError(InputError):
    """Weights could not be loaded from the hub id or folder that `option` names."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


class ComponentError(RuntimeError):
    """An exception inside a component; the message names the component and the question."""


@contextmanager
def naming(component: object, method: str, question: str | None = None) -> Iterator[None]:
    """Turns exceptions of the block into ComponentErrors, which say where they come from.

    `method` is the component's method that the block calls, `question` the id of the question
    that it is called for. InputErrors are left as they are.
    """
    try:
        yield
    except (InputError, ComponentError):
        raise
    except Exception as error:
        place = f"{type(component).__qualname__}.{method}"
        if question is not None:
            place = f"{place}, question {question!r}"
        raise ComponentError(f"{place}: {type(error).__name__}: {first_line(error)}") from error


@contextmanager
def naming_one(
    component: object, method: str, questions: Iterable[Q], alone: Callable[[Q], object]
) -> Iterator[None]:
    """As `naming`, for a block that is about several questions, each of which has an `id`.

    After an exception, `alone` is called for one after the other: the first that fails is named.
    """
    try:
        yield
    except (InputError, ComponentError):
        raise
    except Exception:
        for question in questions:
            with naming(component, method, question.id):
                alone(question)
        raise


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`: did you mean X?` for the known name that is most like `name`; empty if none is."""
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else ""


def first_line(error: BaseException | str) -> str:
    """The first line of an error's message, which may be empty."""
    return str(error).strip().split("\n", 1)[0]
