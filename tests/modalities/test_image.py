import base64
import copy
import logging
import pickle
import re
import zipfile
from pathlib import Path
from types import ModuleType

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pillow

from intermodal.errors import InvalidValue, UnreadableMedia
from intermodal.media.source import limited
from intermodal.modalities.image import FITS, ITEM, PREPROCESSOR, RESIZERS, RESIZES, Image, ImagePreprocessor
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
    preprocess = ImagePreprocessor(*size, 2, fit="squeeze", resize=resize)
    found = preprocess.invert(preprocess([Image(SMOOTH)]).values)[0].pixels.astype(int)
    method = {"bicubic": Pillow.Resampling.BICUBIC, "bilinear": Pillow.Resampling.BILINEAR}[resize]
    expected = np.asarray(Pillow.fromarray(SMOOTH).resize(size[::-1], method))
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("resize_by", RESIZERS)
@pytest.mark.parametrize("resize", RESIZES)
@given(shape=st.tuples(st.integers(1, 90), st.integers(1, 90)), side=st.integers(1, 12), seed=st.integers(0, 9))
@example(shape=(24, 24), side=6, seed=0)
@example(shape=(24, 37), side=6, seed=0)
@example(shape=(37, 24), side=6, seed=0)
@example(shape=(1, 90), side=12, seed=0)
def test_resizing_first_is_resizing_the_whole_and_taking_the_middle(
    resize: str, resize_by: str, shape: tuple[int, int], side: int, seed: int
) -> None:
    side *= 4
    pixels = np.random.default_rng(seed).choice([0, 40, 128, 255], (*shape, 3)).astype(np.uint8)
    preprocess = ImagePreprocessor(side, side, 4, fit="resize_first", resize=resize, resize_by=resize_by)
    found = preprocess.invert(preprocess([Image(pixels)]).values)[0].pixels.astype(int)
    high, wide = (int(side * n / min(shape)) for n in shape)
    top, left = (high - side) // 2, (wide - side) // 2
    whole = np.asarray(Pillow.fromarray(pixels).resize((wide, high), RESIZES[resize]))
    gap = np.abs(found - whole[top : top + side, left : left + side]).max()
    assert gap <= (2 if resize_by == "torch" or max(shape) > 8 * min(shape) else 0)


@pytest.mark.parametrize("fit", FITS)
def test_torch_and_pillow_take_the_same_samples(fit: str) -> None:
    found = []
    for name in RESIZERS:
        preprocess = ImagePreprocessor(48, 48, 4, fit=fit, resize_by=name)
        found.append(preprocess.invert(preprocess([Image(SMOOTH)]).values)[0].pixels.astype(int))
    assert np.abs(found[0] - found[1]).max() <= 1
    assert np.abs(found[0] - found[1]).mean() < 0.02


def check_published(pictures: list[np.ndarray], transformers: ModuleType) -> None:
    """Checks that pictures are prepared as the published processor does it, byte for byte."""
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    preprocess = ImagePreprocessor(224, 224, 16, mean, std, "resize_first", resize_by="pillow")
    theirs = transformers.models.clip.image_processing_pil_clip.CLIPImageProcessorPil()  # its defaults: no download
    for pixels in pictures:
        expected = theirs([Pillow.fromarray(pixels)], return_tensors="pt")["pixel_values"][0]
        gap = (preprocess([Image(pixels)]).values[0] - expected).abs() * 255 * torch.tensor(std)[:, None, None]
        rows, columns = pixels.shape[:2]
        assert float(gap.max()) < (1.01 if max(rows, columns) > 8 * min(rows, columns) else 0.01), pixels.shape


@pytest.mark.peer
def test_pictures_of_any_size_are_prepared_as_published() -> None:
    transformers = pytest.importorskip("transformers")
    shapes = [
        (224, 224),
        (375, 500),
        (501, 333),
        (17, 900),
        (901, 13),
        (1, 1),
        (2, 3),
        (223, 225),
        (640, 480),
        (97, 224),
    ]
    shapes += [tuple(RNG.integers(20, 700, 2)) for _ in range(8)]
    few = [np.asarray(Pillow.fromarray(SMOOTH).resize(shape[::-1])) for shape in shapes]
    hard = [RNG.choice([0, 255], (*shape, 3)).astype(np.uint8) for shape in shapes]
    check_published([*few, *hard], transformers)


@pytest.mark.peer
@pytest.mark.data("flickr8k")
def test_photos_are_prepared_as_published(shared_data: Path) -> None:
    transformers = pytest.importorskip("transformers")
    with zipfile.ZipFile(shared_data / "flickr8k" / "images.zip") as photos:
        names = [name for name in photos.namelist() if name.endswith(".jpg")]
        opened = [Image.open(photos.read(name)).pixels for name in names[:: len(names) // 40]]
    other = [np.asarray(Pillow.fromarray(p).resize((500 - i, 333 + 2 * i))) for i, p in enumerate(opened)]
    check_published([*opened, *other], transformers)


def test_cropping_keeps_the_middle() -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 200
    wide = ImagePreprocessor(16, 16, 8)
    assert wide.invert(wide([Image(pixels)]).values)[0] == Image(np.full((16, 16, 3), 200, np.uint8))
    assert wide.invert(wide([Image(pixels.transpose(1, 0, 2))]).values)[0] == Image(np.full((16, 16, 3), 200, np.uint8))
    whole = ImagePreprocessor(16, 16, 8, fit="squeeze")
    assert whole.invert(whole([Image(pixels)]).values)[0].pixels[0, 0, 0] == 0


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (500, 1, 3), (3, 2, 3)])
@pytest.mark.parametrize("fit", FITS)
def test_extreme_shapes_are_fitted(shape: tuple[int, int, int], fit: str) -> None:
    width = 16 if fit == "resize_first" else 24
    preprocess = ImagePreprocessor(16, width, 8, fit=fit)
    values = preprocess([Image(np.full(shape, 77, np.uint8))]).values
    assert preprocess.invert(values)[0] == Image(np.full((16, width, 3), 77, np.uint8))


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
        ({"resize_by": "opencv"}, "resize_by is 'opencv'; use torch or pillow"),
        ({"fit": "pad"}, "fit is 'pad'; use crop_first or resize_first or squeeze"),
        ({"fit": "resize_first", "width": 32}, "64 x 32; that has no shorter side"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason):
        ImagePreprocessor(**options)  # type: ignore[arg-type]


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(InvalidValue, match="at least one"):
        ImagePreprocessor()([])
