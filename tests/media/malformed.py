"""Files that are wrong in every way that files are wrong, made from small valid ones of every format that is read.

Opening any of them gives an item or ``UnreadableMedia``, soon and in little memory: some damage (a flipped bit in a
picture's pixels) still leaves a file that opens. Nothing here imports the package.
"""

import io
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from PIL import Image

MODALITY = {
    **dict.fromkeys(("txt", "md", "utf16.txt"), "text"),
    **dict.fromkeys(("jpg", "png", "rgba.png", "palette.png", "webp", "still.gif", "bmp", "tiff"), "image"),
    **dict.fromkeys(("wav", "flac", "ogg", "mp3", "m4a"), "audio"),
    **dict.fromkeys(("mp4", "webm", "mov", "mkv", "gif"), "video"),
    **dict.fromkeys(("csv", "npz", "parquet"), "timeseries"),
}
"""Ending of each valid file -> what it is."""

_SOUND_CODECS = {"wav": "pcm_s16le", "flac": "flac", "ogg": "libopus", "mp3": "libmp3lame", "m4a": "aac"}
_MOTION_CODECS = {"mp4": "mpeg4", "mov": "mpeg4", "mkv": "mpeg4", "webm": "libvpx"}
_CONTAINERS = {"m4a": "ipod", "mkv": "matroska"}


@cache
def valid_files() -> dict[str, bytes]:
    """Returns a small valid file for each ending in ``MODALITY``."""
    text = "A small red circle moves left.\nEin grüner Kreis, ein roter Stern. 小さな赤い円\n"
    files = {"txt": text.encode(), "md": f"# A title\n\n{text}".encode(), "utf16.txt": text.encode("utf-16")}
    files |= _pictures() | _series()
    files |= {ending: _sound(ending) for ending in _SOUND_CODECS}
    files |= {ending: _motion(ending) for ending in _MOTION_CODECS}
    assert files.keys() == MODALITY.keys()
    return files


def _pixels(channels: int = 3) -> np.ndarray:
    """Returns a picture of 32 x 24 with smooth and with busy parts."""
    y, x = np.mgrid[:32, :24]
    noise = np.random.default_rng(0).integers(0, 60, (32, 24))
    return np.stack([x * 10, y * 7, noise, 255 - x * 5][:channels], axis=2).astype(np.uint8)


def _pictures() -> dict[str, bytes]:
    """Returns pictures in every format, and a GIF that moves."""
    colour = Image.fromarray(_pixels())

    def saved(picture: Image.Image, codec: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, codec, **options)
        return buffer.getvalue()

    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.fromarray(np.roll(_pixels(), k, axis=1)) for k in range(4)]
    return {
        "jpg": saved(colour, "JPEG", exif=exif),
        "png": saved(colour, "PNG"),
        "rgba.png": saved(Image.fromarray(_pixels(4)), "PNG"),
        "palette.png": saved(colour.quantize(16), "PNG", transparency=3),
        "webp": saved(colour, "WEBP"),
        "still.gif": saved(colour, "GIF"),
        "bmp": saved(colour, "BMP"),
        "tiff": saved(colour, "TIFF", compression="tiff_lzw"),
        "gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100),
    }


def _series() -> dict[str, bytes]:
    """Returns two channels of 40 samples at 20 Hz in every format."""
    values = np.random.default_rng(0).standard_normal((2, 40)).astype(np.float32)
    rows = "".join(f"{k / 20},{a},{b}\n" for k, (a, b) in enumerate(values.T))
    packed, columns = io.BytesIO(), io.BytesIO()
    np.savez_compressed(packed, values=values, channels=np.array(["left", "right"]), sample_rate_hz=np.array(20.0))
    schema = pa.schema([("left", pa.float32()), ("right", pa.float32())], metadata={"sample_rate_hz": "20.0"})
    pyarrow.parquet.write_table(pa.Table.from_arrays([pa.array(v) for v in values], schema=schema), columns)
    return {"csv": f"time,left,right\n{rows}".encode(), "npz": packed.getvalue(), "parquet": columns.getvalue()}


def _sound(ending: str) -> bytes:
    """Returns a tone of a fifth of a second in stereo."""
    rate = 48000 if ending == "ogg" else 16000
    tone = np.sin(np.arange(rate // 5) * 440 * 2 * np.pi / rate)
    samples = (np.stack([tone, tone / 2]) * 20000).astype(np.int16)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=_CONTAINERS.get(ending, ending)) as container:
        stream = container.add_stream(_SOUND_CODECS[ending], rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(samples.T.reshape(1, -1).copy(), format="s16", layout="stereo")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "stereo", rate, frame_size=stream.frame_size)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _motion(ending: str) -> bytes:
    """Returns five frames of 32 x 32 at 10 frames per second."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=_CONTAINERS.get(ending, ending)) as container:
        stream = container.add_stream(_MOTION_CODECS[ending], rate=10, width=32, height=32, pix_fmt="yuv420p")
        for k in range(5):
            pixels = np.roll(np.tile(_pixels()[:, :16], (1, 2, 1)), k, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def misnamed_files(folder: Path) -> dict[Path, str]:
    """Returns whole files under another format's name, and under none, with the modality that each of them is."""
    made = {}
    endings = [ending for ending in MODALITY if MODALITY[ending] not in ("text", "timeseries")] + ["npz", "parquet"]
    for ending, other in zip(endings, endings[7:] + endings[:7], strict=True):
        for name in (f"{ending}-as.{other}", f"{ending}-as-nothing"):
            path = folder / name
            path.write_bytes(valid_files()[ending])
            made[path] = MODALITY[ending]
    return made


def malformed_files(folder: Path, count: int = 500, seed: int = 0) -> list[Path]:
    """Returns ``count`` files made in ``folder``: every bomb first, then random damage to valid files.

    Args:
        folder: exists; files of the same names in it are replaced.
        count: how many.
        seed: of the damage; the same seed makes the same files.
    """
    rng = np.random.default_rng(seed)
    made = list(bombs().items())
    endings = list(MODALITY)
    while len(made) < count:
        ending = endings[len(made) % len(endings)]
        kind, data = _damaged(valid_files()[ending], rng)
        made.append((f"{kind}.{ending}", data))
    paths = [folder / f"{i:05d}-{name}" for i, (name, _) in enumerate(made[:count])]
    for path, (_, data) in zip(paths, made, strict=False):
        path.write_bytes(data)
    return paths


def _damaged(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Returns one kind of damage and the bytes after it."""
    size = len(data)
    changed = bytearray(data)
    kind = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
    if kind == "cut":
        return kind, data[: int(rng.integers(1, size))]
    if kind == "head":
        return kind, data[: int(rng.integers(1, min(size, 64)))]
    if kind in ("bits", "header"):
        reach = size if kind == "bits" else min(size, 128)
        for at in rng.integers(0, reach, int(rng.integers(1, 24))):
            changed[at] ^= 1 << int(rng.integers(8))
        return kind, bytes(changed)
    if kind in ("zeros", "noise"):
        start = int(rng.integers(0, size))
        length = int(rng.integers(1, size - start + 1))
        changed[start : start + length] = bytes(length) if kind == "zeros" else rng.bytes(length)
        return kind, bytes(changed)
    if kind == "glued":
        other = list(valid_files().values())[int(rng.integers(len(MODALITY)))]
        return kind, data[: size // 2] + other[len(other) // 2 :]
    if kind == "gap":
        start = int(rng.integers(0, size))
        return kind, data[:start] + data[start + int(rng.integers(1, 64)) :]
    return kind, b"" if kind == "empty" else data[: int(rng.integers(4, min(size, 64)))] + data


_SHARES = {
    "cut": 0.2,
    "head": 0.08,
    "bits": 0.2,
    "header": 0.16,
    "zeros": 0.06,
    "noise": 0.1,
    "glued": 0.08,
    "gap": 0.06,
    "twice": 0.04,
    "empty": 0.02,
}


@cache
def bombs() -> dict[str, bytes]:
    """Returns small files that declare or unpack to far more than anyone wants to hold, or that want to run code."""
    files = valid_files()
    wav, flac = files["wav"], files["flac"]
    channels = wav[:22] + struct.pack("<H", 65535) + wav[24:]
    return {
        **_picture_bombs(),
        **_series_bombs(),
        "sound of 4 GiB.wav": b"RIFF\xff\xff\xff\xffWAVE" + wav[12:].replace(b"data", b"data\xff\xff\xff\xff", 1)[:200],
        "65535 channels.wav": channels,
        "4 GHz.wav": wav[:24] + struct.pack("<I", 2**32 - 1) + wav[28:],
        "2^36 samples.flac": flac[:21] + bytes([flac[21] | 0x0F]) + b"\xff" * 4 + flac[26:],
        "long.mp4": _with_duration(files["mp4"]),
        "endless.mkv": files["mkv"][:4] + b"\x01" + b"\xff" * 7 + files["mkv"][12:],
        "id3 of 256 MiB.mp3": b"ID3\x03\x00\x00\x7f\x7f\x7f\x7f" + files["mp3"][10:],
        "playlist.m3u8": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
        "code.npy": b"\x80\x04cposix\nsystem\n\x85R.",
        "boxes.mp4": files["mp4"][:32] + struct.pack(">I4s", 8, b"free") * 20_000,
        "zeros.bin": bytes(100_000),
        "ones.bin": b"\xff" * 100_000,
    }


def _with_duration(data: bytes) -> bytes:
    """Returns an MP4 whose headers declare the longest duration there is."""
    at = data.index(b"mvhd")
    return data[: at + 20] + b"\xff\xff\xff\xfe" + data[at + 24 :]


def _chunk(kind: bytes, body: bytes) -> bytes:
    """Returns one chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _picture_bombs() -> dict[str, bytes]:
    """Returns pictures that declare thousands of millions of pixels, or carry notes of 100 MB."""
    files = valid_files()
    start = b"\x89PNG\r\n\x1a\n"
    profile = _chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(2**24)))
    large = _chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    small = _chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
    pixels, end = _chunk(b"IDAT", zlib.compress(bytes(4 * 13))), _chunk(b"IEND", b"")
    notes = _chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(2**20))) * 100
    jpg, tiff, still, moves = files["jpg"], files["tiff"], files["still.gif"], files["gif"]
    frame = jpg.index(b"\xff\xc0") + 5
    sides = struct.pack("<HH", 65535, 65535)
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + b"\xff\xff\xff" * 2
    body = b"WEBP" + canvas + files["webp"][12:]
    picture = still.index(b"\x2c", 13 + 3 * 256)
    return {
        "declares 10^10 pixels.png": start + large + pixels + end,
        "declares 0 pixels.png": start + _chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)) + pixels + end,
        "unpacks to notes.png": start + small + notes + pixels + end,
        "unpacks to colours.png": start + small + profile + pixels + end,
        "declares 4 * 10^9 pixels.jpg": jpg[:frame] + b"\xff\xff\xff\xff" + jpg[frame + 4 :],
        "giant canvas.gif": still[:6] + sides + still[10:],
        "giant moving canvas.gif": moves[:6] + sides + moves[10:],
        "giant picture.gif": still[: picture + 5] + sides + still[picture + 9 :],
        "giant canvas.webp": b"RIFF" + struct.pack("<I", len(body)) + body,
        "2^31 rows.bmp": files["bmp"][:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + files["bmp"][26:],
        "negative rows.bmp": files["bmp"][:18] + struct.pack("<ii", -5, -(2**31)) + files["bmp"][26:],
        "giant.tiff": tiff.replace(struct.pack("<HHII", 256, 3, 1, 24), struct.pack("<HHII", 256, 4, 1, 2**31)),
        "loop.tiff": b"II*\0" + struct.pack("<IH", 8, 0) + struct.pack("<I", 8) * 4,
    }


def _series_bombs() -> dict[str, bytes]:
    """Returns archives that declare or unpack to more than they may, and tables that are too wide."""
    packed = {}
    for name, body in (("unpacks to 64 MB", bytes(2**26)), ("declares 10^12", _npy("(1000, 1000000000)"))):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("values.npy", body)
        packed[f"{name}.npz"] = buffer.getvalue()
    lying = bytearray(packed["unpacks to 64 MB.npz"])
    for mark, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = lying.rindex(mark) + offset
        lying[at : at + 4] = struct.pack("<I", 100)
    greedy = bytearray(lying)
    at = greedy.rindex(b"PK\x01\x02") + 24
    greedy[at : at + 4] = struct.pack("<I", 2**32 - 16)
    objects, rows = io.BytesIO(), io.BytesIO()
    np.savez(objects, values=np.array([{"a": 1}], dtype=object))
    zeros = pa.array(np.zeros(10_000_000, np.int8))
    pyarrow.parquet.write_table(pa.table({"a": pa.chunked_array([zeros] * 7)}), rows)
    return {
        **packed,
        "declares 100 bytes.npz": bytes(lying),
        "declares 4 GiB.npz": bytes(greedy),
        "pickled.npz": objects.getvalue(),
        "70 million rows.parquet": rows.getvalue(),
        "300,000 columns.csv": b",".join([b"1"] * 300_000) + b"\n",
        "300,000 names.csv": ",".join(f"c{i}" for i in range(300_000)).encode() + b"\n1,2\n",
        "one long cell.csv": b"a,b\n1," + b"9" * 2_000_000 + b"\n",
        "quote without end.csv": b'a,b\n1,"2\n' + b"3,4\n" * 1000,
    }


def _npy(shape: str) -> bytes:
    """Returns the beginning of an array of this shape and 80 of its numbers."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (63 - (len(head) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(320)
