"""Pictures in files: JPEG, PNG, WebP, GIF, BMP and TIFF to uint8 ``(H, W, 3)`` in RGB, and back.

The size is checked from the header before anything is decoded. The picture stands upright (EXIF), transparency lies on
white, 16 bits become 8 by scaling, grey and CMYK become RGB. Of several pictures in one file the first is taken; where
they move, a line in the log says so. Left out: colour profiles (sRGB is assumed) and 32-bit numbers, whose range no
file tells.
"""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.source import frozen, limits

READS = ("jpg", "png", "webp", "gif", "bmp", "tiff")
"""What ``decode`` reads."""
FORMATS = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tiff", "tif")
"""What ``encode`` writes; ``jpeg`` and ``tif`` are other names of ``jpg`` and ``tiff``."""

_CODECS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF"}
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SAVING: dict[str, dict[str, object]] = {
    "jpg": {"quality": 95, "subsampling": 0},
    "png": {"compress_level": 6},
    "webp": {"lossless": True, "quality": 50},
    "gif": {},
    "bmp": {},
    "tiff": {"compression": "tiff_lzw"},
}
_LOG = logging.getLogger(__name__)


def decode(data: bytes, name: str, kind: str, at_least: tuple[int, int] | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the picture in ``data``, not writeable.

    Args:
        data: the file's bytes.
        name: what messages call it.
        kind: its format as ``sniff`` tells it.
        at_least: a height and width that suffice: a larger JPEG is decoded at a half, a quarter or an eighth of its
            size, several times faster, but never smaller than this in either direction.

    Raises:
        UnreadableMedia: damaged, of no known format, or over the limits.
    """
    if kind not in _CODECS:
        raise UnreadableMedia(f"{name} is {kind}, which is no picture; pictures are: {', '.join(_CODECS)}")
    with _refusing(name, kind):
        _check_size(*_declared_size(data, kind), name)
        with Image.open(io.BytesIO(data), formats=(_CODECS[kind],)) as picture:
            _check_size(*picture.size, name)
            turn = _orientation(picture)
            if at_least is not None:
                height, width = at_least if turn < 5 else at_least[::-1]
                picture.draft(None, (width, height))
            if kind in ("gif", "webp", "png") and getattr(picture, "is_animated", False):
                _LOG.warning("%s moves; the first of its pictures is taken", name)
            picture.load()
            flat = _on_white(picture)
    if turn in _TURNS:
        flat = flat.transpose(_TURNS[turn])
    pixels: np.ndarray = np.asarray(flat)
    return frozen(pixels)


@contextmanager
def _refusing(name: str, kind: str) -> Iterator[None]:
    """Returns a context that turns whatever a decoder raises into ``UnreadableMedia``."""
    try:
        yield
    except UnreadableMedia:
        raise
    except Exception as error:  # SyntaxError, struct.error, ValueError, OSError, MemoryError, warnings made errors, ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, UnidentifiedImageError):
            reason = "its header is damaged"
        if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
            reason = f"it declares more than {limits().pixels_max:,} pixels, or than PIL.Image.MAX_IMAGE_PIXELS allows"
        raise UnreadableMedia(f"{name} is no readable {kind} picture: {reason}") from error


def _declared_size(data: bytes, kind: str) -> tuple[int, int]:
    """Returns the width and height of a WebP's canvas, which Pillow allocates before it tells them; else (1, 1)."""
    if kind == "webp" and data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    return 1, 1


def _check_size(width: int, height: int, name: str) -> None:
    """Raises where a picture has no pixels, or more than are accepted."""
    if width < 1 or height < 1:
        raise UnreadableMedia(f"{name} is a picture of {width} x {height}: it has no pixels")
    if width * height > limits().pixels_max:
        raise UnreadableMedia(
            f"{name} is a picture of {width} x {height}, more than the limit of {limits().pixels_max:,} pixels; raise "
            "it with limited(pixels_max=...)"
        )


def _orientation(picture: Image.Image) -> int:
    """Returns how the picture is turned, 1 to 8 as EXIF counts; 1 where that cannot be told, or is done by Pillow."""
    if picture.format == "TIFF":
        return 1
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged notes about a picture do not make the picture unreadable
        return 1


def _on_white(picture: Image.Image) -> Image.Image:
    """Returns the loaded picture in RGB, what is transparent in it white."""
    if picture.mode.startswith("I;16"):
        wide = np.asarray(picture).astype(np.uint32)
        grey = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
        clear = picture.info.get("transparency")
        if isinstance(clear, int):
            grey.paste(255, mask=Image.fromarray(((wide == clear) * 255).astype(np.uint8)))
        return grey.convert("RGB")
    if picture.mode in ("I", "F"):
        raise ValueError("it holds 32-bit numbers, whose range no file tells; save it with 8 or 16 bits")
    if picture.has_transparency_data:
        over = picture.convert("RGBA")
        white = Image.new("RGB", over.size, "white")
        white.paste(over, mask=over.getchannel("A"))
        return white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def encode(pixels: UInt8[np.ndarray, "H W 3"], kind: str) -> bytes:
    """Returns the bytes of a file of ``kind``.

    png, webp, bmp and tiff keep every pixel; gif keeps pictures of at most 256 colours; jpg (quality 95) none exactly.

    Raises:
        InvalidValue: ``kind`` is not one of ``FORMATS``, or cannot hold a picture of this size.
    """
    if kind not in FORMATS:
        raise InvalidValue(f"{kind!r} is no format of pictures; use one of: {', '.join(FORMATS)}")
    kind = {"jpeg": "jpg", "tif": "tiff"}.get(kind, kind)
    picture = Image.fromarray(pixels)
    if kind == "gif":
        picture = _few_colours(pixels)
    buffer = io.BytesIO()
    try:
        picture.save(buffer, _CODECS[kind], **_SAVING[kind])
    except Exception as error:
        raise InvalidValue(
            f"a picture of {pixels.shape[1]} x {pixels.shape[0]} cannot be saved as {kind}: {error}"
        ) from error
    return buffer.getvalue()


def _few_colours(pixels: UInt8[np.ndarray, "H W 3"]) -> Image.Image:
    """Returns the picture with a palette: exact where 256 colours suffice, else the nearest of 256 by median cut."""
    wide = pixels.astype(np.uint32)
    codes, index = np.unique(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], return_inverse=True)
    if len(codes) > 256:
        return Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE)
    picture = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8), "P")
    picture.putpalette([int(part) for code in codes for part in (code >> 16, code >> 8 & 255, code & 255)])
    return picture


def thumbnail(pixels: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the picture made smaller so that no side is longer than ``side``; itself where none is."""
    if max(pixels.shape[:2]) <= side:
        return pixels
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side))
    return frozen(np.asarray(picture))
