"""Series of numbers in files: CSV, NPZ and Parquet to float32 ``(C, S)``, channel names and a sample rate, and back.

CSV: one column per channel, a row of names first (``channel1``, ... where there is none), commas, tabs or semicolons.
NPZ: the keys ``values`` ``(C, S)``, ``channels`` and ``sample_rate_hz``; nothing pickled is ever loaded.
Parquet: one column per channel; the rate is the key ``sample_rate_hz`` of the schema's metadata.

The rate is the one written in the file, else that of a column ``time``, ``t`` or ``seconds`` (regular within 1 %), else
1 sample per second. A value that is missing, not finite or no number is an error that names its row and column.
"""

import csv
import io
import math
import re
import struct
import zipfile
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.source import decode_text, limits

FORMATS = ("csv", "npz", "parquet")
CHANNELS_MAX = 4096
RATE_HZ = 1.0
"""Rate of a series whose file says nothing of time."""
RATES_HZ = (1e-9, 1e9)
"""The lowest and the highest rate of a series."""

_TIME = ("time", "t", "seconds")
_FINITE = "every value must be a finite number"
_RATE_LINE = "# sample_rate_hz="
_DIRECTORY_MAX = 65_536
"""Bytes of a zip archive's directory: ours has 3 entries of about 60."""


@dataclass(frozen=True)
class Table:
    """A series as files hold it.

    Attributes:
        values: one row per channel, one column per sample; finite, not writeable.
        channels: the name of each channel.
        sample_rate_hz: samples per second.
    """

    values: Float32[np.ndarray, "C S"]
    channels: tuple[str, ...]
    sample_rate_hz: float


def decode(data: bytes, name: str, kind: str) -> Table:
    """Returns the series in ``data``.

    Args:
        data: the file's bytes.
        name: what messages call it.
        kind: one of ``FORMATS``.

    Raises:
        UnreadableMedia: damaged, not a table of finite numbers, irregular in time, or over the limits.
    """
    try:
        return {"csv": _decode_csv, "npz": _decode_npz, "parquet": _decode_parquet}[kind](data, name)
    except UnreadableMedia:
        raise
    except Exception as error:  # the parsers raise a dozen kinds on damaged bytes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnreadableMedia(f"{name} is no readable {kind} file: {reason}") from error


def encode(table: Table, kind: str) -> bytes:
    """Returns the bytes of a file of ``kind`` from which ``decode`` gives exactly ``table`` again.

    Raises:
        InvalidValue: ``kind`` is not one of ``FORMATS``.
    """
    if kind == "csv":
        return _encode_csv(table)
    if kind == "npz":
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            values=table.values,
            channels=np.array(table.channels),
            sample_rate_hz=np.array(table.sample_rate_hz),
        )
        return buffer.getvalue()
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet

        sink = pa.BufferOutputStream()
        schema = pa.schema(
            [(name, pa.float32()) for name in table.channels],
            metadata={"sample_rate_hz": repr(table.sample_rate_hz)},
        )
        columns = pa.Table.from_arrays([pa.array(row) for row in table.values], schema=schema)
        pyarrow.parquet.write_table(columns, sink, compression="zstd", use_dictionary=False, write_page_checksum=True)
        return bytes(sink.getvalue())
    raise InvalidValue(f"{kind!r} is no format of series; use one of: {', '.join(FORMATS)}")


def _check_size(channels: int, samples: int, name: str) -> None:
    """Raises where a file declares more numbers than are accepted, or none."""
    if channels > CHANNELS_MAX:
        raise UnreadableMedia(f"{name} has {channels:,} columns; a series has at most {CHANNELS_MAX:,} channels")
    if channels < 1 or samples < 1:
        raise UnreadableMedia(f"{name} holds no numbers: {samples} rows of {channels} columns")
    if channels * samples > limits().values_max:
        raise UnreadableMedia(
            f"{name} holds {channels * samples:,} numbers, more than the limit of {limits().values_max:,}; raise it "
            "with limited(values_max=...)"
        )


def _finish(columns: list[np.ndarray], names: list[str], rate: float | None, name: str, first_row: int) -> Table:
    """Returns the series of named columns, all of whose numbers are finite.

    Args:
        columns: one array of numbers per column, of one length.
        names: their names; ``channelN`` is put for an empty one.
        rate: samples per second, where the file says it.
        name: what messages call the file.
        first_row: the number that people give the first row of numbers.
    """
    names = [n or f"channel{i}" for i, n in enumerate(names, 1)]
    _check_size(len(columns), min(map(len, columns), default=0), name)  # what came, whatever was declared
    rate = RATE_HZ if rate is None else float(rate)
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise UnreadableMedia(f"{name} has a sample rate of {rate} Hz; expected {RATES_HZ[0]} to {RATES_HZ[1]}")
    twice = next((n for n in names if names.count(n) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise UnreadableMedia(f"{name} has more than one column named {twice!r}; give each channel its own name")
    odd = next((n for n in names if not n.isprintable() or n != n.strip()), None)
    if odd is not None:
        raise UnreadableMedia(f"{name} has a column named {odd!r}; a name is printable text without blanks around it")
    values = np.empty((len(columns), len(columns[0])), np.float32)
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite and is reported below
        for row, column in zip(values, columns, strict=True):
            row[:] = column
    if not np.isfinite(values).all():
        channel, sample = map(int, np.argwhere(~np.isfinite(values))[0])
        raise UnreadableMedia(
            f"{name} has {columns[channel][sample]!s} in row {first_row + sample}, column {names[channel]!r}; {_FINITE}"
        )
    values.setflags(write=False)
    return Table(values, tuple(names), rate)


def _take_time(columns: list[np.ndarray], names: list[str], name: str, first_row: int) -> float | None:
    """Returns the rate that a time column gives, and takes the first such column out of ``columns`` and ``names``."""
    time = next((i for i, n in enumerate(names) if n.lower() in _TIME), None)
    if time is None or len(names) < 2:
        return None
    del names[time]
    times = columns.pop(time).astype(np.float64)
    return _regular_rate(times, name, first_row) if len(times) > 1 else None


def _regular_rate(times: Float64[np.ndarray, " S"], name: str, first_row: int) -> float:
    """Returns the rate of at least two times in seconds.

    Raises:
        UnreadableMedia: they do not rise, or a step differs from the mean by more than 1 %.
    """
    step = float(times[-1] - times[0]) / (len(times) - 1)
    if not (np.isfinite(times).all() and step > 0):
        raise UnreadableMedia(f"{name} has a time column that does not rise from finite number to finite number")
    wrong = np.flatnonzero(np.abs(np.diff(times) - step) > 0.01 * step)
    if wrong.size:
        at = int(wrong[0])
        raise UnreadableMedia(
            f"{name} is irregular in time: after row {first_row + at} it steps {times[at + 1] - times[at]:.6g} s, but "
            f"{step:.6g} s on average; resample it to one rate"
        )
    return _rate_of(times)


def _rate_of(times: Float64[np.ndarray, " S"]) -> float:
    """Returns the shortest number that gives these regular times, else their mean rate."""
    count = np.arange(len(times))
    mean = float((len(times) - 1) / (times[-1] - times[0]))
    for digits in range(16):
        rate = float(f"{mean:.{digits}e}")
        if rate > 0 and np.abs(times[0] + count / rate - times).max() <= 1e-13 * np.abs(times).max():
            return rate
    return mean


def _decode_csv(data: bytes, name: str) -> Table:
    """Returns the series in a CSV file."""
    try:
        text = decode_text(data)
    except UnreadableMedia as error:
        raise UnreadableMedia(f"{name} {error}") from error
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = text.encode()
    lines = io.StringIO(text[: 2**20], newline="")
    skipped, rate, head = 0, None, ""
    for line in lines:
        head = line.rstrip("\r\n")
        if head.startswith(_RATE_LINE) and rate is None:
            rate = float(head.removeprefix(_RATE_LINE))
        elif head.strip():
            break
        skipped += 1
    delimiter = next((d for d in ",\t;" if d in head), ",")
    _check_size(head.count(delimiter) + 1, text.count("\n") or text.count("\r") or 1, name)
    names = [cell.strip() for cell in next(csv.reader([head.removeprefix("#")], delimiter=delimiter), [])]
    header = not all(map(_is_number, names))
    if header:
        skipped += 1
    else:
        names = [f"channel{i}" for i in range(1, len(names) + 1)]
    columns = _csv_columns(data, names, delimiter, skipped, name)
    measured = _take_time(columns, names, name, skipped + 1)
    return _finish(columns, names, measured if rate is None else rate, name, skipped + 1)


def _is_number(text: str) -> bool:
    """Returns whether ``text`` is a number, ``nan`` and ``inf`` among them."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _csv_columns(data: bytes, names: list[str], delimiter: str, skipped: int, name: str) -> list[np.ndarray]:
    """Returns the columns of numbers below the first ``skipped`` rows.

    Raises:
        UnreadableMedia: a row of another length, or a cell that is no number; says where.
    """
    import pyarrow as pa
    import pyarrow.csv

    labels = [str(i) for i in range(len(names))]
    kinds = {
        label: pa.float64() if n.lower() in _TIME else pa.float32() for label, n in zip(labels, names, strict=True)
    }
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, column_names=labels, skip_rows=skipped),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
            convert_options=pyarrow.csv.ConvertOptions(column_types=kinds, null_values=[], strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        message = str(error)
        row = re.search(r"Row #(\d+)", message)
        column, cell = re.search(r"column #(\d+)", message), re.search(r"invalid value '(.{0,40})", message)
        length = re.search(r"Expected (\d+) columns, got (\d+)", message)
        if row and length:
            raise UnreadableMedia(
                f"{name} is ragged: row {row[1]} has {length[2]} columns, but the first has {length[1]}"
            ) from error
        if row and column and cell:
            raise UnreadableMedia(
                f"{name} has {cell[1].rstrip(chr(39))!r} in row {row[1]}, column {names[int(column[1])]!r}; {_FINITE}"
            ) from error
        raise
    return [column.to_numpy() for column in table.columns]


def _encode_csv(table: Table) -> bytes:
    """Returns a time column in seconds and one column per channel.

    A first line tells the rate where the times do not: for a single sample, or for a rate of 17 digits.
    """
    import pyarrow as pa
    import pyarrow.csv

    times = np.arange(table.values.shape[1]) / table.sample_rate_hz
    buffer = io.BytesIO()
    if len(times) < 2 or _rate_of(times) != table.sample_rate_hz:
        buffer.write(f"{_RATE_LINE}{table.sample_rate_hz!r}\n".encode())
    head = io.StringIO()
    csv.writer(head, lineterminator="\n").writerow(["time", *table.channels])
    buffer.write(head.getvalue().encode())
    labels = [str(i) for i in range(len(table.channels) + 1)]
    columns = pa.Table.from_arrays([pa.array(times), *(pa.array(row) for row in table.values)], names=labels)
    pyarrow.csv.write_csv(columns, buffer, pyarrow.csv.WriteOptions(include_header=False))
    return buffer.getvalue()


def _decode_npz(data: bytes, name: str) -> Table:
    """Returns the series in an NPZ file; every size is checked before anything is unpacked."""
    end = data.rfind(b"PK\x05\x06")
    if end < 0 or len(data) < end + 22:
        raise UnreadableMedia(f"{name} is a cut zip archive: its directory is missing")
    large = data[max(0, end - 20) : end].startswith(b"PK\x06\x07")  # a second, 64-bit directory
    if large or struct.unpack_from("<I", data, end + 12)[0] > _DIRECTORY_MAX:
        raise UnreadableMedia(f"{name} is a zip archive of too many entries; expected values, channels, sample_rate_hz")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        keys = {entry.filename.removesuffix(".npy") for entry in archive.infolist()}
        if "values" not in keys:
            listed = ", ".join(sorted(keys)[:8]) or "(none)"
            raise UnreadableMedia(f"{name} has no key 'values'; it has: {listed}")
        values = _read_array(archive, "values", "iuf", name)
        if values.ndim == 1:
            values = values[None]
        if values.ndim != 2:
            raise UnreadableMedia(f"{name} has 'values' of shape {values.shape}; expected (channels, samples)")
        _check_size(values.shape[0], values.shape[1], name)
        names = [f"channel{i}" for i in range(1, len(values) + 1)]
        if "channels" in keys:
            names = [str(n) for n in _read_array(archive, "channels", "U", name).reshape(-1)]
        rate = None
        if "sample_rate_hz" in keys:
            rate = float(_read_array(archive, "sample_rate_hz", "iuf", name).reshape(()))
    if len(names) != len(values):
        raise UnreadableMedia(f"{name} names {len(names)} channels but 'values' has {len(values)} rows")
    return _finish(list(values), names, rate, name, 1)


def _read_array(archive: zipfile.ZipFile, key: str, kinds: str, name: str) -> np.ndarray:
    """Returns the array of one entry.

    Args:
        archive: the open file.
        key: the entry's name without ``.npy``.
        kinds: the dtype kinds that are accepted, as in ``numpy.dtype.kind``.
        name: what messages call the file.

    Raises:
        UnreadableMedia: too large, of another kind, or of another size than its header says.
    """
    entry = archive.getinfo(f"{key}.npy")
    if entry.file_size > 8 * limits().values_max + 65_536:
        raise UnreadableMedia(f"{name} declares {entry.file_size:,} bytes for {key!r}, over the limit of numbers")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableMedia(
            f"{name} packs {key!r} by method {entry.compress_type}; save it with numpy.savez_compressed"
        )
    with archive.open(entry) as file:
        data = file.read(entry.file_size)  # with a length, no more than that is unpacked
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.kind not in kinds:
        raise UnreadableMedia(f"{name} holds {key!r} as {dtype}; expected numbers, or text for channels, never pickles")
    held = len(data) - stream.tell()
    if math.prod(shape) * dtype.itemsize != held:
        raise UnreadableMedia(f"{name} declares {key!r} of shape {shape}, but holds {held:,} bytes of it")
    stream.seek(0)
    array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _decode_parquet(data: bytes, name: str) -> Table:
    """Returns the series in a Parquet file; what it declares is checked before its pages are unpacked."""
    import pyarrow as pa
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    schema, declared = file.schema_arrow, file.metadata
    groups = [declared.row_group(i) for i in range(declared.num_row_groups)]
    rows = sum(max(0, group.num_rows) for group in groups)
    _check_size(len(schema), max(rows, declared.num_rows), name)
    wrong = next((f for f in schema if not (pa.types.is_integer(f.type) or pa.types.is_floating(f.type))), None)
    if wrong is not None:
        raise UnreadableMedia(f"{name} has the column {wrong.name!r} of type {wrong.type}; expected numbers alone")
    unpacked = sum(group.total_byte_size for group in groups)
    if unpacked > 8 * limits().values_max + 65_536:
        raise UnreadableMedia(f"{name} declares {unpacked:,} bytes, too many for {limits().values_max:,} numbers")
    table = file.read(use_threads=False)
    for field, column in zip(schema, table.columns, strict=True):
        if column.null_count:
            at = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise UnreadableMedia(f"{name} has no value in row {at + 1}, column {field.name!r}; {_FINITE}")
    columns, names = [column.to_numpy() for column in table.columns], list(schema.names)
    text = (schema.metadata or {}).get(b"sample_rate_hz")
    rate = float(text) if text is not None else _take_time(columns, names, name, 1)
    return _finish(columns, names, rate, name, 1)
