"""The run-time check catches what mypy would, and lets pass what mypy does."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import pytest
from beartype.roar import BeartypeCallHintViolation

from typechecker import checkable, checked


class Opens(Protocol):
    def open(self) -> Self: ...


@runtime_checkable
class Closes(Protocol):
    def close(self) -> None: ...


@checked
def half(x: float) -> float:
    return x / 2


@checked
def every(items: Sequence[Opens], by: dict[str, list[Opens]] | None, count: int) -> "list[int]":
    return [count] * len(items)


def test_wrong_types_are_caught_and_whole_numbers_are_floats() -> None:
    assert half(3) == half(3.0) == 1.5
    with pytest.raises(BeartypeCallHintViolation):
        half("3")  # type: ignore[arg-type]


def test_the_rest_of_a_signature_is_checked_beside_what_cannot_be() -> None:
    assert every([], None, 1) == []
    for arguments in (({1}, None, 1), ([], {1: []}, 1), ([], None, "1")):
        with pytest.raises(BeartypeCallHintViolation):
            every(*arguments)


def test_self_passes_for_anything() -> None:
    class A:
        @checked
        def same(self, x: int) -> Self:
            return self

    a = A()
    assert a.same(1) is a
    with pytest.raises(BeartypeCallHintViolation):
        a.same("1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hint", "replaced"),
    [
        (int, int),
        (Opens, Any),
        (Closes, Closes),
        (Sequence[Opens], Sequence[Any]),
        (Mapping[str, list[Opens]], Mapping[str, list[Any]]),
        (Sequence[Opens] | None, Sequence[Any] | None),
        (tuple[Closes, ...], tuple[Closes, ...]),
        ("Opens", "Opens"),
    ],
)
def test_only_what_cannot_be_asked_is_replaced(hint: Any, replaced: Any) -> None:
    assert checkable(hint) == replaced
