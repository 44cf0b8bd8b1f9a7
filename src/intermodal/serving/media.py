"""Media on their way in and out: parts of requests to items, and items to files that say they were made by a machine.

Bytes come with the request, as base64, as a data URL or as an uploaded file; an address to fetch them from is refused,
since a server that fetches what it is told to reaches where its clients cannot. What is made is marked: pictures carry
the IPTC term for media made by a trained model in XMP, sounds and videos a comment in the tags of their container. Raw
samples (pcm), ADTS (aac), bmp, gif and tables have no place for it: their answers say it in a header alone.
"""

import base64
import binascii
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from intermodal import catalog
from intermodal.errors import UnreadableMedia
from intermodal.items import open_item
from intermodal.media import frames, pictures, sound
from intermodal.media.containers import created
from intermodal.media.source import limited
from intermodal.serving.faults import Refused
from intermodal.serving.settings import Settings
from intermodal.types import Item

TYPES = {
    "text": {"txt": "text/plain; charset=utf-8"},
    "image": {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "webp": "image/webp"},
    "audio": {
        "wav": "audio/wav",
        "float.wav": "audio/wav",
        "mp3": "audio/mpeg",
        "flac": "audio/flac",
        "ogg": "audio/ogg",
        "opus": "audio/ogg",
        "m4a": "audio/mp4",
        "aac": "audio/aac",
        "pcm": "audio/pcm",
    },
    "video": {"mp4": "video/mp4", "webm": "video/webm", "mkv": "video/x-matroska", "gif": "image/gif"},
    "timeseries": {"csv": "text/csv; charset=utf-8", "npz": "application/octet-stream"},
}
"""Modality -> formats that it is sent in, the usual one first, with their media types."""

PCM_HZ = 24_000  # of raw samples, as the API whose clients ask for them has it
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
MARK = {"X-Intermodal-Generated": "true"}
"""Header of every answer that is something made."""

LOSSLESS = "lossless"
"""The name of whichever format keeps all of an item."""

_KEEPING = {"image": "png", "audio": "float.wav", "video": "mkv", "timeseries": "npz"}
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'xmp:CreatorTool="{tool}" Iptc4xmpExt:DigitalSourceType="{kind}"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
_MORE = {
    "aac": sound.SoundFormat("adts", "aac", "fltp", sound.FORMATS["m4a"].rates, 2, 128_000),
    "float.wav": sound.SoundFormat("wav", "pcm_f32le", "flt"),
}


@dataclass(frozen=True, eq=False)
class File:
    """Bytes to send.

    Attributes:
        data: of the file.
        media_type: what they are.
        kind: the format, as a suffix.
    """

    data: bytes
    media_type: str
    kind: str

    @property
    def url(self) -> str:
        """The file as a data URL."""
        return f"data:{self.media_type.replace(' ', '')};base64,{base64.b64encode(self.data).decode()}"


def text_item(words: str) -> Item:
    """Returns a text."""
    made: Item = catalog.module("modalities", "text").ITEM(words)
    return made


def opened(data: bytes, settings: Settings, only: str = "") -> Item:
    """Returns the item in bytes, within the limits of the server.

    Args:
        data: a file.
        settings: the limits.
        only: the modality that it has to be of; empty for any.

    Raises:
        UnreadableMedia: it is none, over a limit, or of another modality.
    """
    with limited(**settings.media()):
        if only in ("audio", "text") and data:  # the sound of a video is a sound too, and a table a text
            item: Item = catalog.module("modalities", only).ITEM.open(data)
            return item
        item = open_item(data)
    if only and item.modality != only:
        raise UnreadableMedia(f"{len(data)} bytes hold {item.modality}, and {only} was expected; send that")
    return item


def from_base64(words: str, param: str) -> bytes:
    """Returns the bytes of base64 or of a data URL.

    Raises:
        Refused: it is neither; an address of another kind is never fetched.
    """
    if words[:5].lower() == "data:":
        head, comma, words = words.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise Refused(400, "a data URL is written data:TYPE;base64,DATA; send it so", "invalid_data_url", param)
    elif "://" in words[:32]:
        raise Refused(
            400,
            "addresses are not fetched; send the media themselves as data:TYPE;base64,DATA",
            "url_not_allowed",
            param,
        )
    try:
        return base64.b64decode(words, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(400, f"this is no base64: {error}", "invalid_base64", param) from error


def part_bytes(part: Mapping[str, Any], param: str) -> tuple[bytes | str, str]:
    """Returns what a part of a request holds, and its modality; that is empty where the content tells it.

    Parts are those of chat messages: ``text``, ``image_url``, ``input_audio``; besides ``video_url`` and ``media``,
    whose ``data`` is of any modality.

    Raises:
        Refused: it is none of these.
    """
    kind = str(part.get("type", ""))
    inside = part.get({"input_text": "text", "media": "data"}.get(kind, kind))
    if kind in ("text", "input_text") and isinstance(inside, str):
        return inside, "text"
    if kind == "media" and isinstance(inside, str):
        return from_base64(inside, param), ""
    if kind in ("image_url", "video_url"):
        url = inside.get("url") if isinstance(inside, Mapping) else inside
        if isinstance(url, str):
            return from_base64(url, param), kind.removesuffix("_url")
    if kind == "input_audio" and isinstance(inside, Mapping) and isinstance(inside.get("data"), str):
        return from_base64(inside["data"], param), "audio"
    raise Refused(
        400,
        f"a part of type {kind[:40]!r} is not understood; send text, image_url, input_audio, video_url or media",
        "invalid_part",
        param,
    )


def part_item(part: str | Mapping[str, Any], settings: Settings, param: str = "input") -> Item:
    """Returns the item that a part of a request is; words are a text.

    Raises:
        Refused: it is no part.
        UnreadableMedia: what it holds is no item.
    """
    if isinstance(part, str):
        return text_item(part)
    found, modality = part_bytes(part, param)
    return text_item(found) if isinstance(found, str) else opened(found, settings, modality)


def encoded(item: Any, model: str = "", kind: str = "") -> File:
    """Returns an item as a file.

    Args:
        item: of any modality.
        model: that made it: the file is marked as made; empty where nobody made it.
        kind: format, or ``LOSSLESS``; default: the usual one of its modality.

    Raises:
        Refused: there is no such format of it.
    """
    known = TYPES[item.modality]
    if kind == LOSSLESS:
        kind = _KEEPING.get(item.modality, "")
    chosen = kind or next(iter(known))
    if chosen not in known:
        raise Refused(
            400,
            f"{item.modality} is not sent as {chosen!r}; use one of: {', '.join(known)}",
            "invalid_format",
            "format",
        )
    tags = {"comment": f"Made by a machine: {tool(model)}. {SOURCE_TYPE}"} if model else {}
    return File(_bytes(item, chosen, tags, model), known[chosen], chosen)


def tool(model: str) -> str:
    """Returns what is told of the maker."""
    return f"intermodal, model {''.join(c for c in model if c.isprintable())}"


def _bytes(item: Any, kind: str, tags: Mapping[str, str], model: str) -> bytes:
    """Returns the file."""
    if item.modality == "text":
        return str(item.text).encode()
    if item.modality == "image":
        return _picture(item.pixels, kind, model)
    if item.modality == "audio":
        return _sound(item, kind, tags)
    if item.modality == "video":
        track = None if item.sound is None or kind == "gif" else (item.sound.samples, item.sound.sample_rate_hz)
        return frames.encode_video(item.frames, item.frames_per_s, kind, track, tags)
    from intermodal.media import tables

    return tables.encode(tables.Table(item.values, item.channels, item.sample_rate_hz), kind)


def _picture(pixels: np.ndarray, kind: str, model: str) -> bytes:
    """Returns a picture, with XMP that says a machine made it where one did."""
    if not model:
        return pictures.encode(pixels, kind)
    from xml.sax.saxutils import escape

    from PIL import Image, PngImagePlugin

    xmp = _XMP.format(tool=escape(tool(model), {'"': "&quot;"}), kind=SOURCE_TYPE)
    options: dict[str, Any] = {"xmp": xmp.encode()}
    if kind == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp)
        info.add_text("Software", tool(model))
        options = {"pnginfo": info}
    elif kind == "webp":
        options |= {"lossless": True}
    else:
        options |= {"quality": 95}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, {"jpg": "JPEG"}.get(kind, kind.upper()), **options)
    return buffer.getvalue()


def _sound(item: Any, kind: str, tags: Mapping[str, str]) -> bytes:
    """Returns a sound; wav in 16 bits, which everything plays."""
    if kind == "pcm":
        samples = item.mixed(1).resampled(PCM_HZ).samples[0]
        return np.asarray(np.round(samples * 32767), "<i2").tobytes()
    form = _MORE[kind] if kind in _MORE else sound.FORMATS[kind]
    samples = item.mixed(2).samples if len(item.samples) > min(2, form.channels_max) else item.samples
    with created(kind, form.container) as (container, file):
        container.metadata.update(tags)
        sound.SoundWriter(container, form, samples, item.sample_rate_hz).finish()
    return file.getvalue()
