import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.source import limited
from intermodal.media.tables import FORMATS, RATES_HZ, Table, decode, encode
from tests.media.malformed import bombs, valid_files

NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)


def table(data: bytes | str, kind: str = "csv") -> Table:
    return decode(data.encode() if isinstance(data, str) else data, f"a.{kind}", kind)


def packed(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(value) for name, value in arrays.items()})
    return buffer.getvalue()


def parquet(columns: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(columns, buffer)
    return buffer.getvalue()


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    st.floats(*RATES_HZ),
    st.sampled_from(FORMATS),
    st.data(),
)
def test_whatever_is_written_is_read_exactly(values: np.ndarray, rate: float, kind: str, data: st.DataObject) -> None:
    names = data.draw(st.lists(NAMES, min_size=len(values), max_size=len(values), unique=True))
    found = table(encode(Table(values, tuple(names), rate), kind), kind)
    assert found.values.tobytes() == values.tobytes()
    assert (found.channels, found.sample_rate_hz) == (tuple(names), rate)
    assert not found.values.flags.writeable


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("names", [("time", "t"), ("1", "2"), ("a,b", 'c"d'), ("#", "nan")])
def test_awkward_names_survive(kind: str, names: tuple[str, ...]) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = table(encode(Table(values, names, 44.1), kind), kind)
    assert (found.channels, found.sample_rate_hz) == (names, 44.1)
    np.testing.assert_array_equal(found.values, values)


def test_plain_csv_needs_no_line_for_its_rate() -> None:
    values = np.ones((1, 3), np.float32)
    assert encode(Table(values, ("x",), 32.0), "csv") == b"time,x\n0,1\n0.03125,1\n0.0625,1\n"
    assert encode(Table(values[:, :1], ("x",), 32.0), "csv") == b"# sample_rate_hz=32.0\ntime,x\n0,1\n"


@pytest.mark.parametrize(
    ("text", "channels", "rate", "first"),
    [
        ("1,2\n3,4\n", ("channel1", "channel2"), 1.0, [1, 3]),
        ("5\n6\n", ("channel1",), 1.0, [5, 6]),
        ("a,b\r\n1,2\r\n3,4\r\n", ("a", "b"), 1.0, [1, 3]),
        ("a,b\r1,2\r3,4", ("a", "b"), 1.0, [1, 3]),
        ("\n\na, b \n\n1,2\n\n3,4\n\n", ("a", "b"), 1.0, [1, 3]),
        ("a;b\n1;2\n3;4", ("a", "b"), 1.0, [1, 3]),
        ("a\tTime\n1\t0\n3\t0.5", ("a",), 2.0, [1, 3]),
        ("# t,a\n5,1\n5.1,3\n5.2,2", ("a",), 10.0, [1, 3, 2]),
        ("seconds,a\n0,1\n0.0334,2\n0.0667,3", ("a",), 2 / 0.0667, [1, 2, 3]),
        ("# sample_rate_hz=7\na\n1\n2\n", ("a",), 7.0, [1, 2]),
        ("a,\n1,2", ("a", "channel2"), 1.0, [1]),
        ('"a,b",c\n"1",2', ("a,b", "c"), 1.0, [1]),
        ("time\n3\n4\n", ("time",), 1.0, [3, 4]),
    ],
)
def test_csv_of_many_writers(text: str, channels: tuple[str, ...], rate: float, first: list[float]) -> None:
    for data in (text.encode(), text.encode("utf-8-sig"), text.encode("utf-16")):
        found = table(data)
        assert found.channels == channels
        assert found.sample_rate_hz == pytest.approx(rate, rel=1e-12)
        assert found.values[0].tolist() == first


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n3\n", r"ragged: row 3 has 1 columns, but the first has 2"),
        ("a,b\n1,2\n3,4,5\n", r"ragged: row 3 has 3 columns"),
        ("a,b\n1,2\n3,x\n", r"has 'x' in row 3, column 'b'"),
        ("a,b\n1,2\n,4\n", r"has '' in row 3, column 'a'"),
        ("a,b\n1,nan\n", r"has nan in row 2, column 'b'"),
        ("1,2\n-inf,2\n", r"has -inf in row 2, column 'channel1'"),
        ("a,b\n1,1e39\n", r"has inf in row 2, column 'b'"),
        ("a,a\n1,2\n", r"more than one column named 'a'"),
        ("a,b\n", r"holds no numbers"),
        ("a\u00adb,c\n1,2\n", r"column named 'a\\xadb'"),
        ("t,a\n0,1\n1,2\n3,3\n", r"irregular in time: after row 2 it steps 1 s, but 1.5 s"),
        ("t,a\n1,1\n0,2\n", r"does not rise"),
        ("t,a\n0,1\nnan,2\n2,3\n", r"does not rise"),
        ("# sample_rate_hz=-1\na\n1\n", r"sample rate of -1"),
        ("# sample_rate_hz=x\na\n1\n", r"is no readable csv file: could not convert"),
        ("caf\u00e9,b\n1,2\n", r"a.csv is no UTF-8 text"),
    ],
)
def test_csv_that_is_wrong_says_where(text: str, reason: str) -> None:
    data = text.encode("latin-1") if "\u00e9" in text else text.encode()
    with pytest.raises(UnreadableMedia, match=reason):
        table(data)


@pytest.mark.parametrize("shift", [0.0, 1.6e9])
@pytest.mark.parametrize("rate", [0.25, 25.0, 32.0, 44.1, 1000.0])
def test_times_give_the_rate(rate: float, shift: float) -> None:
    rows = "".join(f"{shift + k / rate!r},{k}\n" for k in range(50))
    assert table("time,a\n" + rows).sample_rate_hz == pytest.approx(rate, rel=1e-15 if shift == 0 else 1e-5)


def test_npz_may_leave_out_names_and_rate() -> None:
    found = table(packed(values=np.arange(3)), "npz")
    assert (found.channels, found.sample_rate_hz, found.values.shape) == (("channel1",), 1.0, (1, 3))
    fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(table(packed(values=fortran), "npz").values, fortran)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": [1.0], "y": [2.0]}, "no key 'values'; it has: x, y"),
        ({"values": np.zeros((1, 2, 3))}, r"shape \(1, 2, 3\); expected \(channels, samples\)"),
        ({"values": np.zeros((2, 0))}, "holds no numbers"),
        ({"values": [[1j]]}, "holds 'values' as complex128"),
        ({"values": [["1"]]}, "holds 'values' as <U1"),
        ({"values": [[1.0, np.nan]]}, "has nan in row 2, column 'channel1'"),
        ({"values": [[1e300]]}, r"has 1e\+300 in row 1"),
        ({"values": [[1.0]], "channels": ["a", "b"]}, "names 2 channels but 'values' has 1 rows"),
        ({"values": [[1.0]], "channels": [1]}, "holds 'channels' as int64"),
        ({"values": [[1.0]], "sample_rate_hz": [1.0, 2.0]}, "is no readable npz file"),
        ({"values": [[1.0]], "sample_rate_hz": np.nan}, "sample rate of nan"),
    ],
)
def test_npz_that_is_wrong_says_what(arrays: dict[str, object], reason: str) -> None:
    with pytest.raises(UnreadableMedia, match=reason):
        table(packed(**arrays), "npz")


def test_npz_with_other_packing_or_too_many_entries_is_refused() -> None:
    squeezed, crowded = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(squeezed, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("values.npy", bytes(1000))
    with zipfile.ZipFile(crowded, "w") as archive:
        for k in range(1500):
            archive.writestr(f"{k}.npy", b"")
    with pytest.raises(UnreadableMedia, match="method 12"):
        table(squeezed.getvalue(), "npz")
    with pytest.raises(UnreadableMedia, match="too many entries"):
        table(crowded.getvalue(), "npz")
    with pytest.raises(UnreadableMedia, match="directory is missing"):
        table(packed(values=[1.0])[:-30], "npz")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("declares 10^12.npz", r"shape \(1000, 1000000000\), but holds 320 bytes"),
        ("declares 100 bytes.npz", "is no readable npz file"),
        ("declares 4 GiB.npz", "declares 4,294,967,280 bytes"),
        ("pickled.npz", "holds 'values' as object"),
        ("70 million rows.parquet", "holds 70,000,000 numbers, more than the limit of 64,000,000"),
        ("300,000 columns.csv", "300,000 columns; a series has at most 4,096"),
    ],
)
def test_bombs_are_refused_by_what_they_declare(name: str, reason: str) -> None:
    with pytest.raises(UnreadableMedia, match=reason):
        table(bombs()[name], name.rsplit(".", 1)[-1])


@pytest.mark.parametrize("kind", FORMATS)
def test_the_limit_on_numbers(kind: str) -> None:
    data = encode(Table(np.ones((2, 50), np.float32), ("a", "b"), 1.0), kind)
    with limited(values_max=99), pytest.raises(UnreadableMedia, match="more than the limit of 99"):
        table(data, kind)
    with limited(values_max=200):
        assert table(data, kind).values.shape == (2, 50)


def test_parquet_of_other_writers() -> None:
    columns = pa.table({"time": [0.0, 0.5, 1.0], "a": [1, 2, 3], "b": pa.array([1, 2, 3], pa.uint8())})
    found = table(parquet(columns), "parquet")
    assert (found.channels, found.sample_rate_hz) == (("a", "b"), 2.0)
    np.testing.assert_array_equal(found.values, [[1, 2, 3]] * 2)
    assert table(parquet(columns.select(["a"])), "parquet").sample_rate_hz == 1.0


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"a": ["x"]}, "column 'a' of type string"),
        ({"a": [[1.0]]}, "column 'a' of type list"),
        ({"a": [1.0, None]}, "no value in row 2, column 'a'"),
        ({"a": [1.0], "b": [float("inf")]}, "has inf in row 1, column 'b'"),
        ({"a": pa.array([], pa.float32())}, "holds no numbers"),
    ],
)
def test_parquet_that_is_wrong_says_what(columns: dict[str, object], reason: str) -> None:
    with pytest.raises(UnreadableMedia, match=reason):
        table(parquet(pa.table(columns)), "parquet")


def test_a_flipped_bit_in_our_parquet_is_found() -> None:
    data = bytearray(encode(Table(np.random.default_rng(0).random((1, 500), np.float32), ("a",), 1.0), "parquet"))
    data[len(data) // 2] ^= 1
    with pytest.raises(UnreadableMedia, match="is no readable parquet file"):
        table(bytes(data), "parquet")


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_half_a_file_is_refused(kind: str) -> None:
    data = valid_files()[kind]
    with pytest.raises(UnreadableMedia, match=f"a.{kind} is"):
        table(data[: len(data) // 2], kind)


def test_other_formats_are_not_written() -> None:
    with pytest.raises(InvalidValue, match="'xls' is no format"):
        encode(Table(np.ones((1, 1), np.float32), ("a",), 1.0), "xls")
