"""The signs by which formats are told apart: how bytes begin, and as much of what follows as decides.

Only the formats that this package reads are looked for; nothing is decoded here.
"""

import csv
import re


def beginning(data: bytes) -> str:
    """Returns the first bytes in words: what they look like where that is known, and in hex."""
    for mark, what in _STRANGERS:
        if data.startswith(mark):
            return f"{data[:8].hex(' ')}, which looks like {what}"
    if data[4:8] == b"ftyp":
        return f"the mark of an {data[8:12].decode('latin-1').strip()} picture; convert it to png, jpg or webp"
    return data[:8].hex(" ")


_STRANGERS = (
    (b"%PDF", "a PDF document"),
    (b"PK", "a zip archive that holds no .npy arrays"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\x93NUMPY", "a single .npy array; save it as .npz with the key 'values'"),
    (b"\x80", "a Python pickle, which is never opened"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"RIFF", "a RIFF file that is neither wav nor webp"),
    (b"FORM", "an AIFF file; convert it to wav or flac"),
    (b"\x00\x00\x00\x00", "zeros"),
)


def is_table(text: str) -> bool:
    """Returns whether the first lines are rows of at least two numbers, all as long; a header may stand before them."""
    lines = [line for line in text[:20_000].splitlines() if line and not line.startswith("#")]
    if len(text) > 20_000:
        lines = lines[:-1]  # the last one may be cut
    delimiter = next((d for d in ",\t;" if lines and d in lines[0]), None)
    if delimiter is None or len(lines) < 2:
        return False
    try:
        rows = list(csv.reader(lines[:50], delimiter=delimiter))
        numbers = [[float(cell) for cell in row] for row in rows[1:]]
    except (csv.Error, ValueError):
        return False
    return bool(numbers) and all(len(row) == len(rows[0]) for row in numbers)


def binary_format(data: bytes) -> tuple[str, str] | None:
    """Returns what bytes that are no text are, by the marks at their beginning."""
    for mark, found in _MARKS:
        if data.startswith(mark):
            return found
    if data.startswith((b"GIF87a", b"GIF89a")):
        return ("video" if _gif_moves(data) else "image"), "gif"
    if data[:2] == b"BM" and data[14:18] in _BMP_HEADERS:
        return "image", "bmp"
    if data[:4] in (b"RIFF", b"RF64"):
        return {b"WEBP": ("image", "webp"), b"WAVE": ("audio", "wav")}.get(data[8:12])
    if data.startswith(b"ID3"):
        return "audio", "flac" if data[_id3_length(data) :].startswith(b"fLaC") else "mp3"
    if len(data) > 3 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2 and data[2] >> 4 != 15 and data[2] & 12 != 12:
        return "audio", "mp3"  # a frame of layer III with a bit rate and a sample rate that exist
    if data.startswith(b"OggS"):
        return _sniff_ogg(data)
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return _sniff_matroska(data)
    if data[4:8] in _MP4_BOXES:
        return _sniff_mp4(data)
    if data.startswith(b"PK\x03\x04") and data[30 : 30 + int.from_bytes(data[26:28], "little")].endswith(b".npy"):
        return "timeseries", "npz"
    return None


_MARKS = (
    (b"\xff\xd8\xff", ("image", "jpg")),
    (b"\x89PNG\r\n\x1a\n", ("image", "png")),
    (b"II*\x00", ("image", "tiff")),
    (b"MM\x00*", ("image", "tiff")),
    (b"II+\x00", ("image", "tiff")),
    (b"MM\x00+", ("image", "tiff")),
    (b"fLaC", ("audio", "flac")),
    (b"PAR1", ("timeseries", "parquet")),
)
_BMP_HEADERS = tuple(n.to_bytes(4, "little") for n in (12, 16, 40, 52, 56, 64, 108, 124))
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


_STEPS_MAX = 100_000
"""Blocks that are walked at most, so that a file made of nothing else does not hold up its reader."""


def _gif_moves(data: bytes) -> bool:
    """Returns whether a GIF has a second picture: walks its blocks up to there."""
    at = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0)
    pictures = 0
    for _ in range(_STEPS_MAX):
        if at >= len(data) or data[at] not in (0x21, 0x2C):
            break
        if data[at] == 0x2C:
            pictures += 1
            if pictures == 2:
                return True
            packed = data[at + 9] if at + 9 < len(data) else 0
            at += 11 + (3 << (packed & 7) + 1 if packed & 0x80 else 0)
        else:
            at += 2
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    return False


def _id3_length(data: bytes) -> int:
    """Returns the length of the ID3 tag before sound."""
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _sniff_ogg(data: bytes) -> tuple[str, str]:
    """Returns audio or video: the pages that begin the streams say which codecs they hold."""
    at = 0
    while data[at : at + 4] == b"OggS" and len(data) > at + 27 and data[at + 5] & 2:
        segments = data[at + 26]
        body = at + 27 + segments
        if data[body : body + 7] == b"\x80theora" or data[body : body + 4] == b"BBCD":
            return "video", "ogg"
        at = body + sum(data[at + 27 : body])
    return "audio", "ogg"


def _sniff_matroska(data: bytes) -> tuple[str, str]:
    """Returns audio or video: by the codec names (``V_VP9``, ``A_OPUS``) in the first MiB."""
    head = data[: 2**20]
    kind = "webm" if b"webm" in head[:64] else "mkv"
    only_sound = re.search(rb"\x86[\x81-\xff]A_", head) and not re.search(rb"\x86[\x81-\xff]V_", head)
    return "audio" if only_sound else "video", kind


def _sniff_mp4(data: bytes) -> tuple[str, str] | None:
    """Returns audio or video: by the brand, else by the kinds of tracks in the box that lists them."""
    brand = data[8:12] if data[4:8] == b"ftyp" else b"qt  "
    if brand in (b"avif", b"avis", b"heic", b"heix", b"heif", b"mif1", b"msf1"):
        return None
    if brand in (b"M4A ", b"M4B ", b"M4P "):
        return "audio", "m4a"
    at = 0
    for _ in range(_STEPS_MAX):
        if at + 8 > len(data):
            break
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        end = at + size if size >= 8 else len(data)
        if data[at + 4 : at + 8] == b"moov":
            kinds = set(re.findall(rb"hdlr.{8}(vide|soun)", data[at:end], re.DOTALL))
            if kinds == {b"soun"}:
                return "audio", "m4a"
            break
        at = end
    return "video", "mov" if brand == b"qt  " else "mp4"
