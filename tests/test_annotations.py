"""Which values of a YAML an annotation allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

import pytest

from lamp_exp.annotations import check_types
from lamp_exp.errors import InputError

if TYPE_CHECKING:
    from decimal import Decimal


class Component:
    def __init__(
        self,
        whole: int = 1,
        number: float = 1.0,
        flag: bool = False,
        text: str = "a",
        maybe: int | None = 1,
        old: Optional[float] = 1.0,  # noqa: UP045
        implicit: float = None,  # noqa: RUF013
        named: Literal["a", "b"] = "a",
        either: Union[Literal[16, 32], Literal["bf16"], None] = None,  # noqa: UP007
        path: Path | str = "a",
        words: Sequence[str] = (),
        more: Mapping[str, Any] = {},
        strange: [str] = (),
        **others: Any,
    ) -> None: ...


ALLOWED = [
    ("whole", 2), ("number", 2), ("number", 2.5), ("flag", True), ("text", "b"), ("maybe", None),
    ("old", None), ("old", 3), ("implicit", None), ("named", "b"), ("either", 16),
    ("either", "bf16"), ("either", None), ("path", 3), ("words", ["a"]), ("words", 3),
    ("more", {"a": 1}), ("strange", 3), ("unknown", 3), ("text", {"_target_": "my.Text"}),
]  # fmt: skip
REFUSED = {
    ("whole", 2.5): "retriever.whole=2.5 must be a whole number",
    ("whole", True): "retriever.whole=true must be a whole number",
    ("whole", "high"): "retriever.whole=high must be a whole number",
    ("whole", None): "retriever.whole=null must be a whole number",
    ("number", "high"): "retriever.number=high must be a number",
    ("number", True): "retriever.number=true must be a number",
    ("flag", "maybe"): "retriever.flag=maybe must be true or false",
    ("flag", 1): "retriever.flag=1 must be true or false",
    ("text", 2025): "retriever.text=2025 must be text: with quotes inside quotes, "
                    "'retriever.text=\"2025\"'",
    ("maybe", "x"): "retriever.maybe=x must be a whole number, or null",
    ("named", "c"): "retriever.named=c must be one of a, b",
    ("either", 8): "retriever.either=8 must be one of 16, 32, bf16, or null",
    ("implicit", "x"): "retriever.implicit=x must be a number",
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), ALLOWED)
def test_a_value_that_fits_or_is_not_judged_is_allowed(name: str, value: Any):
    check_types(Component, {name: value}, "retriever")


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_another_value_is_refused_in_one_line(name: str, value: Any):
    with pytest.raises(InputError) as error:
        check_types(Component, {name: value}, "retriever")
    assert str(error.value) == REFUSED[name, value]


def test_annotations_that_cannot_be_read_are_not_judged():
    def made(first: Decimal, second: int) -> None: ...

    check_types(made, {"first": "x", "second": "x"}, "retriever")
