import io
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.pictures import FORMATS, decode, encode, thumbnail
from intermodal.media.source import limited, sniff
from tests.media.malformed import bombs, valid_files

PIXELS = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
Y, X = np.mgrid[:128, :64].astype(np.uint8)
SMOOTH = np.stack([4 * X, 2 * Y, np.full_like(X, 90)], axis=2)


def saved(picture: Image.Image, codec: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, codec, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "webp", "bmp", "tiff", "tif"])
def test_exact_formats_keep_every_pixel(kind: str) -> None:
    data = encode(PIXELS, kind)
    found = decode(data, "a", sniff(data)[1])
    np.testing.assert_array_equal(found, PIXELS)
    assert not found.flags.writeable


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))), st.sampled_from(FORMATS))
def test_small_pictures_of_any_pixels_come_back(pixels: np.ndarray, kind: str) -> None:
    data = encode(pixels, kind)
    modality, found = sniff(data)
    assert modality == "image"
    again = decode(data, "a", found)
    assert again.shape == pixels.shape
    if kind not in ("jpg", "jpeg"):
        np.testing.assert_array_equal(again, pixels)


def test_jpg_is_near() -> None:
    error = np.abs(decode(encode(SMOOTH, "jpg"), "a", "jpg").astype(int) - SMOOTH)
    assert error.mean() < 1.5
    assert error.max() < 12


def test_gif_keeps_256_colours_and_comes_near_with_more() -> None:
    few = PIXELS[:, :, [0, 0, 1]] & 0xE0
    assert len(np.unique(few.reshape(-1, 3), axis=0)) <= 256
    np.testing.assert_array_equal(decode(encode(few, "gif"), "a", "gif"), few)
    many = decode(encode(SMOOTH, "gif"), "a", "gif")
    assert np.abs(many.astype(int) - SMOOTH).mean() < 8


LYING = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.transpose(1, 0, 2),
    6: np.rot90(PIXELS),
    7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PIXELS, -1),
}
"""How pixels are stored whose EXIF note says 1 to 8."""


@pytest.mark.parametrize("turn", LYING)
@pytest.mark.parametrize("codec", ["PNG", "TIFF", "WEBP"])
def test_pictures_stand_upright(turn: int, codec: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"lossless": True} if codec == "WEBP" else {}
    data = saved(Image.fromarray(np.ascontiguousarray(LYING[turn])), codec, exif=exif, **options)
    np.testing.assert_array_equal(decode(data, "a", codec.lower()), PIXELS)


def test_transparency_lies_on_white() -> None:
    alpha = np.linspace(0, 255, 31).astype(np.uint8)[None].repeat(23, axis=0)
    layered = np.concatenate([PIXELS, alpha[..., None]], axis=2)
    share = alpha[..., None] / 255
    expected = PIXELS * share + 255 * (1 - share)
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        found = decode(saved(Image.fromarray(layered), kind, **options), "a", kind.lower())
        assert np.abs(found - expected).max() <= 1


def test_transparent_colours_and_entries_become_white() -> None:
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    found = decode(saved(Image.fromarray(grey), "PNG", transparency=32), "a", "png")
    assert found[0, 2].tolist() == [255] * 3
    assert found[0, 3].tolist() == [48] * 3
    indexed = Image.fromarray(grey // 16).convert("P")
    indexed.putpalette([v for k in range(16) for v in (k, 2 * k, 3 * k)])
    for options in ({"transparency": 5}, {"transparency": bytes([255] * 5 + [0] + [255] * 10)}):
        for codec in ("PNG", "GIF") if isinstance(options["transparency"], int) else ("PNG",):
            found = decode(saved(indexed, codec, **options), "a", codec.lower())
            assert found[1, 1].tolist() == [255] * 3
            assert found[1, 2].tolist() == [6, 12, 18]


def test_sixteen_bits_are_scaled() -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(deep / 257).astype(np.uint8)
    for codec in ("PNG", "TIFF"):
        found = decode(saved(Image.fromarray(deep), codec), "a", codec.lower())
        np.testing.assert_array_equal(found, np.repeat(expected[..., None], 3, axis=2))
    clear = decode(saved(Image.fromarray(deep), "PNG", transparency=1000), "a", "png")
    assert clear.reshape(-1, 3)[1000].tolist() == [255] * 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK"])
def test_other_colour_models_become_rgb(mode: str) -> None:
    picture = Image.fromarray(SMOOTH).convert(mode)
    codec = "TIFF" if mode == "CMYK" else "PNG"
    found = decode(saved(picture, codec), "a", codec.lower())
    np.testing.assert_array_equal(found, np.asarray(picture.convert("RGB")))


def test_ink_colours_in_jpg() -> None:
    found = decode(saved(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95), "a", "jpg")
    assert np.abs(found.astype(int) - SMOOTH).mean() < 3


def test_numbers_of_unknown_range_are_refused() -> None:
    with pytest.raises(UnreadableMedia, match="32-bit numbers"):
        decode(saved(Image.fromarray(np.ones((3, 3), np.float32)), "TIFF"), "a.tiff", "tiff")


def test_a_smaller_jpg_is_decoded_where_that_suffices() -> None:
    picture = Image.fromarray(SMOOTH).resize((400, 200))
    data = saved(picture, "JPEG")
    assert decode(data, "a", "jpg").shape == (200, 400, 3)
    assert decode(data, "a", "jpg", at_least=(50, 60)).shape == (50, 100, 3)
    assert decode(data, "a", "jpg", at_least=(51, 60)).shape == (100, 200, 3)
    assert decode(data, "a", "jpg", at_least=(300, 10)).shape == (200, 400, 3)
    assert decode(encode(SMOOTH, "png"), "a", "png", at_least=(2, 2)).shape == SMOOTH.shape
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(saved(picture, "JPEG", exif=exif), "a", "jpg", at_least=(60, 50)).shape == (100, 50, 3)


def test_the_first_of_moving_pictures_is_taken_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), level, np.uint8)) for level in (0, 200)]
    for codec in ("PNG", "GIF", "WEBP"):
        data = saved(frames[0], codec, save_all=True, append_images=frames[1:])
        with caplog.at_level(logging.WARNING):
            assert decode(data, f"a.{codec}", codec.lower()).max() < 10
        assert f"a.{codec} moves" in caplog.text
    caplog.clear()
    decode(encode(PIXELS, "webp"), "a", "webp")
    assert not caplog.records


def test_size_is_checked_before_decoding() -> None:
    data = encode(PIXELS, "png")
    cut = data[:60]
    with limited(pixels_max=23 * 31 - 1), pytest.raises(UnreadableMedia, match="31 x 23, more than the limit of 712"):
        decode(cut, "a", "png")
    with limited(pixels_max=23 * 31):
        assert decode(data, "a", "png").shape == PIXELS.shape


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "bmp", "tiff"])
def test_declared_bombs_are_refused(ending: str) -> None:
    found = {name: data for name, data in bombs().items() if name.endswith(ending)}
    assert found
    for name, data in found.items():
        with pytest.raises(UnreadableMedia, match=name.split(".")[0].replace("^", r"\^").replace("*", r"\*")):
            decode(data, name, ending)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tiff"])
def test_half_a_picture_is_refused(ending: str) -> None:
    data = valid_files()[ending]
    with pytest.raises(UnreadableMedia, match=f"half is no readable {ending} picture: "):
        decode(data[: len(data) // 2], "half", ending)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(UnreadableMedia, match="is wav, which is no picture"):
        decode(b"RIFF", "a", "wav")


def test_what_cannot_be_saved_is_refused() -> None:
    with pytest.raises(InvalidValue, match="'psd' is no format"):
        encode(PIXELS, "psd")
    with pytest.raises(InvalidValue, match="20000 x 1 cannot be saved as webp"):
        encode(np.zeros((1, 20000, 3), np.uint8), "webp")


def test_thumbnails() -> None:
    assert thumbnail(PIXELS, 31) is PIXELS
    assert thumbnail(PIXELS, 10).shape == (7, 10, 3)
    wide = np.zeros((1, 500, 3), np.uint8)
    assert thumbnail(wide, 50).shape == (1, 50, 3)


def test_threads_decode_alike() -> None:
    data = encode(PIXELS, "png")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: decode(data, "a", "png"), range(64)))
    assert all(np.array_equal(pixels, PIXELS) for pixels in found)
