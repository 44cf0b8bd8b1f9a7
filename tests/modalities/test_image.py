import base64
import copy
import logging
import pickle
import re
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pillow

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.source import limited
from intermodal.modalities.image import ITEM, PREPROCESSOR, Image, ImagePreprocessor
from intermodal.types import Grid, Preprocessor
from tests.media.malformed import valid_files

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)
Y, X = np.mgrid[:100, :160].astype(np.float64)
SMOOTH = np.stack([127 + 120 * np.sin(X / 9), 127 + 120 * np.cos(Y / 7), X + Y / 2], axis=2).astype(np.uint8)


@pytest.fixture
def _without_shape_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets wrong types reach the package, as they do outside of tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("ending", ["png", "webp", "bmp", "tiff", "tif"])
def test_pictures_survive_saving(tmp_path: Path, ending: str) -> None:
    path = Image(PIXELS).save(tmp_path / f"a.{ending.upper()}")
    assert Image.open(path) == Image.open(path.read_bytes()) == Image(PIXELS)


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "gif"])
def test_other_formats_keep_the_size(tmp_path: Path, ending: str) -> None:
    assert Image.open(Image(SMOOTH).save(tmp_path / f"a.{ending}")).pixels.shape == SMOOTH.shape


def test_a_smaller_jpg_is_opened_where_that_suffices(tmp_path: Path) -> None:
    path = Image(SMOOTH).save(tmp_path / "a.jpg")
    assert Image.open(path, at_least=(50, 64)).pixels.shape == (50, 80, 3)


def test_a_moving_picture_gives_its_first(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert Image.open(valid_files()["gif"]).pixels.shape == (32, 24, 3)
    assert "moves; the first" in caplog.text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", r"5 bytes is text \(txt\), no picture"),
        (valid_files()["wav"], r"is audio \(wav\), no picture"),
        (valid_files()["mp4"], r"is video \(mp4\), no picture"),
        (valid_files()["png"][:70], "is no readable png picture"),
        (b"\x00\x01", "is of no known format"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableMedia, match=reason):
        Image.open(data)


def test_limits_hold() -> None:
    with limited(pixels_max=767), pytest.raises(UnreadableMedia, match="24 x 32, more than the limit of 767 pixels"):
        Image.open(valid_files()["png"])


@pytest.mark.usefixtures("_without_shape_checks")
@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3), (4, 0, 3)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidValue, match=re.escape(str(shape))):
        Image(np.zeros(shape, np.uint8))


@pytest.mark.usefixtures("_without_shape_checks")
@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 3)), [[[1, 2, 3]]], None])
def test_wrong_types_are_refused(pixels: object) -> None:
    with pytest.raises(InvalidValue, match="NumPy array of uint8, not"):
        Image(pixels)  # type: ignore[arg-type]


def test_pictures_are_values_that_nobody_can_change() -> None:
    mine = PIXELS.copy()
    image = Image(mine)
    mine[0, 0] = 0
    assert image == Image(PIXELS)
    assert image != Image(PIXELS[::-1])
    assert image != "image"
    assert len({image, Image(PIXELS), Image(PIXELS[:, ::-1])}) == 2
    assert image.content_hash() == Image(PIXELS).content_hash() != Image(PIXELS.reshape(40, 24, 3)).content_hash()
    for other in (image, pickle.loads(pickle.dumps(image)), copy.deepcopy(image), Image(PIXELS[:, ::2])):
        with pytest.raises(ValueError, match="read-only"):
            other.pixels[0, 0, 0] = 1


def test_it_is_shown_as_png() -> None:
    assert repr(Image(PIXELS)) == "Image(24 x 40 pixels)"
    shown = Image(PIXELS)._repr_html_()
    data = re.fullmatch(
        r'<img src="data:image/png;base64,([^"]+)" alt="[^"]+" width="120" height="72" style=[^>]+>', shown
    )
    assert data
    assert Image.open(base64.b64decode(data[1])) == Image(PIXELS)
    large = Image(np.zeros((1000, 2000, 3), np.uint8))._repr_html_()
    assert 'width="768" height="384"' in large
    assert 'alt="image, 1000 x 2000 pixels"' in large


@given(
    hnp.arrays(np.uint8, (2, 8, 4, 3)),
    st.tuples(*[st.floats(-1, 2)] * 3),
    st.tuples(*[st.floats(0.01, 10)] * 3),
)
def test_pixels_come_back_exactly(
    pixels: np.ndarray, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    preprocess = ImagePreprocessor(8, 4, 4, mean, std)
    items = [Image(p) for p in pixels]
    values = preprocess(items).values
    expected = (pixels / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(values.permute(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-4)
    assert preprocess.invert(values) == items


def test_absent_pictures_are_rows_of_zeros() -> None:
    preprocess = ImagePreprocessor(24, 40, 8)
    batch = preprocess([None, Image(PIXELS), None])
    assert batch.values.shape == (3, 3, 24, 40)
    assert batch.mask.shape == (3, 15)
    assert batch.present.tolist() == batch.mask.all(1).tolist() == [False, True, False]
    assert torch.equal(batch.values[1], preprocess([Image(PIXELS)]).values[0])
    assert not batch.values[[0, 2]].any()
    nothing = preprocess([None])
    assert not nothing.values.any()
    assert not nothing.mask.any()


def test_a_picture_is_the_same_alone_and_beside_others() -> None:
    preprocess = ImagePreprocessor(16, 16, 8)
    items = [Image(SMOOTH), Image(PIXELS), Image(SMOOTH[:16, :16])]
    together = preprocess(items).values
    for row, item in zip(together, items, strict=True):
        assert torch.equal(row, preprocess([item]).values[0])


@pytest.mark.parametrize("resize", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(50, 80), (32, 48), (200, 240)])
def test_squeezing_agrees_with_pillow(resize: str, size: tuple[int, int]) -> None:
    preprocess = ImagePreprocessor(*size, 2, crop=False, resize=resize)
    found = preprocess.invert(preprocess([Image(SMOOTH)]).values)[0].pixels.astype(int)
    method = {"bicubic": Pillow.Resampling.BICUBIC, "bilinear": Pillow.Resampling.BILINEAR}[resize]
    expected = np.asarray(Pillow.fromarray(SMOOTH).resize(size[::-1], method))
    assert np.abs(found - expected).max() <= 1


def test_cropping_keeps_the_middle() -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 200
    wide = ImagePreprocessor(16, 16, 8, crop=True)
    assert wide.invert(wide([Image(pixels)]).values)[0] == Image(np.full((16, 16, 3), 200, np.uint8))
    assert wide.invert(wide([Image(pixels.transpose(1, 0, 2))]).values)[0] == Image(np.full((16, 16, 3), 200, np.uint8))
    whole = ImagePreprocessor(16, 16, 8, crop=False)
    assert whole.invert(whole([Image(pixels)]).values)[0].pixels[0, 0, 0] == 0


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (500, 1, 3), (3, 2, 3)])
@pytest.mark.parametrize("crop", [True, False])
def test_extreme_shapes_are_fitted(shape: tuple[int, int, int], crop: bool) -> None:
    preprocess = ImagePreprocessor(16, 24, 8, crop=crop)
    values = preprocess([Image(np.full(shape, 77, np.uint8))]).values
    assert preprocess.invert(values)[0] == Image(np.full((16, 24, 3), 77, np.uint8))


def test_values_out_of_range_become_colours() -> None:
    values = torch.tensor([float("nan"), float("inf"), -float("inf"), 9.0]).repeat(1, 3, 2, 1)[..., :2, :]
    found = ImagePreprocessor(2, 4, 2).invert(values)[0].pixels
    assert found[0, :, 0].tolist() == [0, 255, 0, 255]


def test_it_keeps_the_contract() -> None:
    assert isinstance(ImagePreprocessor(), Preprocessor)
    assert ImagePreprocessor(patch=16).layout == Grid(2, 3, (16, 16))
    assert (ITEM, PREPROCESSOR, ITEM.modality, PREPROCESSOR.modality) == (Image, ImagePreprocessor, "image", "image")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"height": 60}, "60 x 64 does not divide into patches of 8"),
        ({"patch": 0}, "patches of 0"),
        ({"std": (1.0, 0.0, 1.0)}, "std is"),
        ({"mean": (1.0, float("nan"), 1.0)}, "mean is"),
        ({"resize": "nearest"}, "resize is 'nearest'"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason):
        ImagePreprocessor(**options)  # type: ignore[arg-type]


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(InvalidValue, match="at least one"):
        ImagePreprocessor()([])
