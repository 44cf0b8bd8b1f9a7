import math

import pyarrow as pa
import pytest

from intermodal.errors import InvalidValue, UnknownName
from intermodal.library.filters import KINDS, Filter, as_filter, column, column_of, expression, field, keys_of

ROWS = [
    {"year": 1980, "place": "Oslo", "draft": True},
    {"year": 1990.5, "place": "O'slo; drop table", "draft": False},
    {"year": 2000, "place": 'a "b" \\ `c`'},
    {"place": "Rom", "year": None},
    {},
]
IDS = [f"{number:032x}" for number in range(len(ROWS))]


@pytest.fixture(scope="module")
def table() -> pa.Table:
    columns = {"id": pa.array(IDS), "start_s": pa.array([0.0, 1.0, None, 3.0, 4.0])}
    for key, kind in (("year", "num"), ("place", "str"), ("draft", "bool")):
        columns[column_of(kind, key)] = pa.array([row.get(key) for row in ROWS], KINDS[kind])
    return pa.table(columns)


def found(table: pa.Table, condition: Filter) -> list[int]:
    kept = table.filter(expression(condition, table.schema.names)).column("id").to_pylist()
    return [IDS.index(name) for name in kept]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (field("year") == 1980, [0]),
        (field("year") != 1980, [1, 2]),
        (field("year") < 1990.5, [0]),
        (field("year") <= 1990.5, [0, 1]),
        (field("year") > 1990, [1, 2]),
        (field("year") >= 2000, [2]),
        (field("draft") == True, [0]),  # noqa: E712
        (field("place") == "O'slo; drop table", [1]),
        (field("place") == 'a "b" \\ `c`', [2]),
        (field("place").is_in(["Rom", "Oslo", "Paris"]), [0, 3]),
        (field("place").is_in([]), []),
        (field("place").contains("slo"), [0, 1]),
        (field("year").present(), [0, 1, 2]),
        (~field("year").present(), [3, 4]),
        (~(field("year") == 1980), [1, 2, 3, 4]),
        ((field("year") == 1980) | (field("place") == "Rom"), [0, 3]),
        ((field("year") > 1000) & ~(field("draft") == True), [1, 2]),  # noqa: E712
        (column("start_s") >= 3, [3, 4]),
        (column("id") == IDS[2], [2]),
        (as_filter({"year": 1980, "place": "Oslo"}), [0]),
        (as_filter({"place": ["Rom", "Oslo"]}), [0, 3]),
    ],
)
def test_what_a_filter_lets_through(table: pa.Table, condition: Filter, expected: list[int]) -> None:
    assert found(table, condition) == expected


def test_no_filter() -> None:
    assert as_filter(None) is None
    assert as_filter({}) is None
    condition = field("a") == 1
    assert as_filter(condition) is condition


def test_a_key_that_no_item_has_is_named_with_those_there_are(table: pa.Table) -> None:
    with pytest.raises(UnknownName, match="no metadata key named 'yaer'; use one of: draft, place, year"):
        found(table, field("yaer") == 1980)


def test_a_value_of_another_kind_is_refused(table: pa.Table) -> None:
    with pytest.raises(InvalidValue, match="'year' is compared with 'old', but its values are of kind num"):
        found(table, field("year") == "old")
    with pytest.raises(InvalidValue, match="'draft' is compared with 1, but its values are of kind bool"):
        found(table, field("draft") == 1)
    with pytest.raises(InvalidValue, match="'start_s' is compared with 'a'"):
        found(table, column("start_s") == "a")


@pytest.mark.parametrize("value", [None, [1], b"x", object(), math.nan])
def test_what_cannot_be_compared_with(value: object) -> None:
    with pytest.raises(InvalidValue):
        field("year") == value  # noqa: B015


def test_misuse_is_refused() -> None:
    with pytest.raises(InvalidValue, match="no truth value"):
        (field("year") > 1) and (field("year") < 3)
    with pytest.raises(InvalidValue, match="no truth value"):
        1 < field("year") < 3  # noqa: B015
    with pytest.raises(InvalidValue, match="several kinds"):
        field("year").is_in([1, "a"])
    with pytest.raises(InvalidValue, match="the string 'Rom'"):
        field("place").is_in("Rom")
    with pytest.raises(InvalidValue, match="give a string"):
        field("place").contains(3)
    with pytest.raises(UnknownName, match="column"):
        column("year")
    with pytest.raises(InvalidValue, match="or a mapping"):
        as_filter("year = 3")


@pytest.mark.parametrize("key", ["year", "a.b", "ü:%", "", "Year", "a b-c", "%41;"])
def test_any_key_has_a_column_of_its_own_and_comes_back(key: str) -> None:
    name = column_of("num", key)
    assert "." not in name
    assert keys_of([name, "id", column_of("str", key)]) == {key: "num, str"}
    assert name not in {
        column_of("num", other) for other in ("year", "a.b", "ü:%", "Year", "a b-c", "%41;") if other != key
    }
