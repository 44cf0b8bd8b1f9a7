"""Media in and out: parts of requests, limits, formats, and marks of what was made."""

import base64
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image as Pillow

import intermodal as im
from intermodal.errors import UnreadableMedia
from intermodal.serving import media
from intermodal.serving.faults import Refused
from intermodal.serving.settings import Settings
from tests.serving.places import picture, tone

HERE = Settings()


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def items() -> list[object]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (6, 16, 16, 3), np.uint8)
    sound = im.Audio(rng.uniform(-0.5, 0.5, (1, 16_000)).astype(np.float32), 16_000)
    series = im.TimeSeries(rng.normal(size=(2, 9)).astype(np.float32), ("a", "b"), 4.0)
    return [im.Image(pixels[0]), sound, im.Video(pixels, 4.0, sound), series]


def test_parts_of_every_kind_become_items() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(tone()).decode(), "format": "wav"}}
    parts = ["words", {"type": "text", "text": "more"}, {"type": "image_url", "image_url": {"url": url(picture())}}]
    parts += [sound, {"type": "media", "data": url(tone(), "audio/wav")}]
    kinds = [media.part_item(part, HERE).modality for part in parts]
    assert kinds == ["text", "text", "image", "audio", "audio"]


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ({"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}, "url_not_allowed"),
        ({"type": "media", "data": "file:///etc/passwd"}, "url_not_allowed"),
        ({"type": "image_url", "image_url": {"url": "data:image/png,abc"}}, "invalid_data_url"),
        ({"type": "media", "data": "$$$"}, "invalid_base64"),
        ({"type": "image_url", "image_url": 3}, "invalid_part"),
        ({"type": "input_audio", "input_audio": {}}, "invalid_part"),
        ({"type": "else"}, "invalid_part"),
        ({}, "invalid_part"),
    ],
)
def test_what_is_no_part_is_refused_and_nothing_is_fetched(part: dict[str, object], code: str) -> None:
    with pytest.raises(Refused) as refused:
        media.part_item(part, HERE, "messages")
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, code, "messages")


def test_media_over_a_limit_or_of_another_kind_are_refused() -> None:
    with pytest.raises(UnreadableMedia, match="pixels"):
        media.opened(picture(64), Settings(pixels=64 * 64 - 1))
    with pytest.raises(UnreadableMedia, match="limit"):
        media.opened(tone(2.0), Settings(seconds=1.0))
    with pytest.raises(UnreadableMedia, match="audio, and image"):
        media.opened(tone(), HERE, "image")
    with pytest.raises(UnreadableMedia):
        media.opened(picture()[:60], HERE)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_picture_that_was_made_says_so_where_others_look_for_it(kind: str) -> None:
    pixels = im.Image.open(picture())
    made, given = media.encoded(pixels, 'a "model" <1>', kind), media.encoded(pixels, "", kind)
    assert media.SOURCE_TYPE.encode() in made.data
    assert media.SOURCE_TYPE.encode() not in given.data
    with Pillow.open(io.BytesIO(made.data)) as opened:
        xmp = opened.info.get("xmp") or opened.info["XML:com.adobe.xmp"]
    told = {k.partition("}")[2]: v for k, v in ElementTree.fromstring(xmp)[0][0].attrib.items()}
    assert told["DigitalSourceType"] == media.SOURCE_TYPE
    assert told["CreatorTool"] == 'intermodal, model a "model" <1>'
    if kind == "png":
        assert im.Image.open(made.data) == pixels


@pytest.mark.parametrize("kind", ["wav", "mp3", "flac", "ogg", "m4a"])
def test_a_sound_that_was_made_says_so(kind: str) -> None:
    _, sound, _, _ = items()
    file = media.encoded(sound, "tiny", kind)
    assert b"Made by a machine: intermodal, model tiny" in file.data
    assert im.Audio.open(file.data).seconds == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("kind", ["mp4", "webm", "mkv"])
def test_a_video_that_was_made_says_so(kind: str) -> None:
    video = items()[2]
    assert b"Made by a machine" in media.encoded(video, "tiny", kind).data


def test_lossless_keeps_everything_and_raw_samples_are_what_clients_expect() -> None:
    for item in items():
        file = media.encoded(item, "tiny", media.LOSSLESS)
        assert type(item).open(file.data) == item
    silence = im.Audio(np.zeros((1, 8_000), np.float32), 8_000)
    assert len(media.encoded(silence, "", "pcm").data) == 2 * media.PCM_HZ
    assert media.encoded(silence, "", "aac").data[:2] == b"\xff\xf1"
    assert media.encoded(im.Text("ö"), "m").data == "ö".encode()
    with pytest.raises(Refused, match="use one of: png"):
        media.encoded(items()[0], "", "exe")
