"""What ``where=`` means: typed comparisons of metadata and of what a library knows about each item.

    field("year") >= 1990                       metadata
    (field("place") == "Oslo") & ~field("draft").is_in([True])
    column("start_s") < 60                      what the library knows: COLUMNS
    {"place": "Oslo", "year": 1990}             all equal, for callers that have no expressions (HTTP, command line)

A filter is data (operation, name, value); it becomes an Arrow expression for the store, so that no value is ever
pasted into a query. An item without the key matches no comparison, and so it does match the negation of one.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from intermodal.errors import InvalidValue, UnknownName

Value = str | bool | int | float

COLUMNS: dict[str, str] = {
    "id": "str",
    "modality": "str",
    "source": "str",
    "start_s": "num",
    "stop_s": "num",
}
"""What can be asked of every item besides its metadata: name -> kind."""

KINDS: dict[str, pa.DataType] = {"str": pa.string(), "num": pa.float64(), "bool": pa.bool_()}
"""The kinds of metadata values that can be filtered by, and how the store holds them."""

_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True)
class Filter:
    """A condition on items; combine with ``&``, ``|`` and ``~``.

    Attributes:
        op: a comparison, ``in``, ``contains``, ``present``, ``and``, ``or`` or ``not``.
        name: the key or column compared; empty for and, or, not.
        known: True where ``name`` is one of ``COLUMNS``, False where it is a metadata key.
        value: what is compared with.
        parts: the conditions that and, or, not combine.
    """

    op: str
    name: str = ""
    known: bool = False
    value: Value | tuple[Value, ...] | None = None
    parts: tuple["Filter", ...] = ()

    def __and__(self, other: "Filter") -> "Filter":
        """Returns the condition that both hold."""
        return Filter("and", parts=(self, other))

    def __or__(self, other: "Filter") -> "Filter":
        """Returns the condition that one of them holds."""
        return Filter("or", parts=(self, other))

    def __invert__(self) -> "Filter":
        """Returns the condition that it does not hold; an item without the key satisfies it."""
        return Filter("not", parts=(self,))

    def __bool__(self) -> bool:
        """Refuses ``and``, ``or`` and chained comparisons, which would lose a part of the condition without a word."""
        raise InvalidValue("a filter has no truth value; combine filters with & | ~, each comparison in brackets")


class Field:
    """A name to compare; made by ``field`` and ``column``."""

    __hash__ = None  # type: ignore[assignment]  # == gives a Filter

    def __init__(self, name: str, known: bool) -> None:
        """Keeps the name."""
        self._name, self._known = name, known

    def _compare(self, op: str, value: Any) -> Filter:
        return Filter(op, self._name, self._known, _checked(value))

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]
        """Returns the condition that the value is this one."""
        return self._compare("==", value)

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]
        """Returns the condition that there is a value and it is another one."""
        return self._compare("!=", value)

    def __lt__(self, value: Value) -> Filter:
        """Returns the condition that the value is below."""
        return self._compare("<", value)

    def __le__(self, value: Value) -> Filter:
        """Returns the condition that the value is at most this."""
        return self._compare("<=", value)

    def __gt__(self, value: Value) -> Filter:
        """Returns the condition that the value is above."""
        return self._compare(">", value)

    def __ge__(self, value: Value) -> Filter:
        """Returns the condition that the value is at least this."""
        return self._compare(">=", value)

    def is_in(self, values: Iterable[Value]) -> Filter:
        """Returns the condition that the value is one of ``values``, which are of one kind."""
        if isinstance(values, str):
            raise InvalidValue(f"is_in was given the string {values!r}; give a list of values")
        chosen = tuple(_checked(value) for value in values)
        if len({kind_of(value) for value in chosen}) > 1:
            raise InvalidValue("is_in was given values of several kinds; give strings, numbers or booleans alone")
        return Filter("in", self._name, self._known, chosen)

    def contains(self, text: object) -> Filter:
        """Returns the condition that ``text`` stands somewhere in the value."""
        if not isinstance(text, str):
            raise InvalidValue(f"contains was given {text!r}; give a string")
        return Filter("contains", self._name, self._known, text)

    def present(self) -> Filter:
        """Returns the condition that the item has a value of whatever kind."""
        return Filter("present", self._name, self._known)


def field(key: str) -> Field:
    """Returns the metadata key to compare, as in ``field("year") >= 1990``."""
    return Field(key, known=False)


def column(name: str) -> Field:
    """Returns what the library itself knows of an item, one of ``COLUMNS``, as in ``column("start_s") < 60``.

    Raises:
        UnknownName: there is no such column.
    """
    if name not in COLUMNS:
        raise UnknownName("column", name, COLUMNS)
    return Field(name, known=True)


def as_filter(where: object) -> Filter | None:
    """Returns a filter for what a caller gave: itself, or that every key has its value (or one of a list).

    Raises:
        InvalidValue: it is neither a filter nor a mapping.
    """
    if where is None or isinstance(where, Filter):
        return where
    if not isinstance(where, Mapping):
        raise InvalidValue(f"where is {where!r}; give a filter such as field('year') >= 1990, or a mapping")
    conditions = [
        field(key).is_in(value) if isinstance(value, list | tuple | set | frozenset) else field(key) == value
        for key, value in where.items()
    ]
    return reduce(Filter.__and__, conditions) if conditions else None


def kind_of(value: object) -> str | None:
    """Returns ``str``, ``num`` or ``bool`` for a value that can be filtered by, else None."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "num"
    return "str" if isinstance(value, str) else None


def column_of(kind: str, key: str) -> str:
    """Returns the store's column for a metadata key: ``num:year``; odd characters are escaped."""
    return f"{kind}:" + re.sub(r"[^\w \-]", lambda found: f"%{ord(found[0]):X};", key)


def keys_of(columns: Iterable[str]) -> dict[str, str]:
    """Returns the metadata keys that a store's columns stand for, and the kinds of each: ``{"year": "num"}``."""
    found: dict[str, list[str]] = {}
    for name in sorted(columns):
        kind, colon, escaped = name.partition(":")
        if colon:
            key = re.sub(r"%([0-9A-F]+);", lambda code: chr(int(code[1], 16)), escaped)
            found.setdefault(key, []).append(kind)
    return {key: ", ".join(kinds) for key, kinds in found.items()}


def expression(condition: Filter, columns: Iterable[str]) -> pc.Expression:
    """Returns the Arrow expression of a filter over a table that has ``columns``.

    Raises:
        UnknownName: no item has that metadata key.
        InvalidValue: it is compared with a value of another kind than it has.
    """
    present = frozenset(columns)
    if condition.op == "not":
        return ~expression(condition.parts[0], present)
    if condition.op in ("and", "or"):
        left, right = (expression(part, present) for part in condition.parts)
        return left & right if condition.op == "and" else left | right
    if condition.op == "present":
        found = [pc.field(name).is_valid() for name in _names(condition, present)]
        return reduce(lambda a, b: a | b, found)
    if condition.op == "in" and not condition.value:
        return pc.scalar(False)
    return pc.coalesce(_comparison(condition, present), pc.scalar(False))


def _comparison(condition: Filter, columns: frozenset[str]) -> pc.Expression:
    """Returns one comparison; it is null where the item has no value."""
    values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    kind = kind_of(values[0])
    name = condition.name if condition.known else column_of(str(kind), condition.name)
    has = COLUMNS[condition.name] if condition.known else None
    known = [n.partition(":")[0] for n in _names(condition, columns)] if has is None else [has]
    if kind not in known:
        held = " and ".join(known)
        raise InvalidValue(f"{condition.name!r} is compared with {values[0]!r}, but its values are of kind {held}")
    left = pc.field(name)
    if condition.op == "in":
        return left.isin(pa.array(values, KINDS[str(kind)]))
    right = pa.scalar(values[0], KINDS[str(kind)])
    if condition.op == "contains":
        return pc.match_substring(left, pattern=str(values[0]))
    operation = dict(
        zip(
            _COMPARISONS,
            (left.__eq__, left.__ne__, left.__lt__, left.__le__, left.__gt__, left.__ge__),
            strict=True,
        )
    )
    result: pc.Expression = operation[condition.op](right)
    return result


def _names(condition: Filter, columns: frozenset[str]) -> list[str]:
    """Returns the columns that hold the name of a condition, one for each kind that it has."""
    if condition.known:
        return [condition.name]
    found = [name for kind in KINDS if (name := column_of(kind, condition.name)) in columns]
    if not found:
        raise UnknownName("metadata key", condition.name, keys_of(columns))
    return found


def _checked(value: Any) -> Value:
    """Returns a value that can be compared.

    Raises:
        InvalidValue: it is of another type, or not a number.
    """
    if kind_of(value) is None:
        raise InvalidValue(f"a filter compares with a string, a number or a boolean, not with {value!r}")
    if isinstance(value, float) and math.isnan(value):
        raise InvalidValue("a filter compares with NaN, which equals nothing; use present() to ask for a missing value")
    checked: Value = value
    return checked
