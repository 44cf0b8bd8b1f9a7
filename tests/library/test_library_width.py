"""Libraries of shorter vectors."""

from pathlib import Path

import numpy as np
import pytest

from intermodal.errors import InvalidValue
from intermodal.library.library import Library
from tests.library.fake import MAKERS, FakeModel, text

WIDTH = 24
MODEL = FakeModel(width=96)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    made = Library.create(tmp_path_factory.mktemp("short") / "library", MODEL, width=WIDTH)
    made.add([make(kind, number) for make in MAKERS.values() for kind in (10, 20, 30) for number in range(8)])
    return made


def cut(rows: np.ndarray) -> np.ndarray:
    short: np.ndarray = rows[:, :WIDTH] / np.linalg.norm(rows[:, :WIDTH], axis=1, keepdims=True)
    return short


@pytest.mark.parametrize("among", list(MAKERS))
def test_it_finds_what_cut_vectors_find(library: Library, among: str) -> None:
    items = {
        make(kind, n).content_hash(): make(kind, n)
        for make in [MAKERS[among]]
        for kind in (10, 20, 30)
        for n in range(8)
    }
    rows = cut(MODEL.embed(list(items.values())).numpy())
    for query in (text(20, 50), MAKERS["image"](30, 9)):
        cosines = rows @ cut(MODEL.embed([query]).numpy())[0]
        for approximate in (False, True):
            hits = library.search(query, among=among, top=5, approximate=approximate)
            best = np.sort(cosines)[::-1][:5]
            np.testing.assert_allclose([hit.cosine for hit in hits], best, atol=1e-6)
            first = list(items.values())[int(cosines.argmax())]
            assert hits[0].item.content_hash() == first.content_hash()


def test_whole_and_cut_vectors_ask_the_same(library: Library) -> None:
    whole = MODEL.embed([text(20)])[0].numpy()
    asked = [library.search(query) for query in (text(20), whole, cut(whole[None])[0])]
    assert [[hit.id for hit in hits] for hits in asked] == [[hit.id for hit in asked[0]]] * 3
    with pytest.raises(InvalidValue, match="width is 24, and the vectors have 5 numbers"):
        library.search(np.ones(5))


def test_the_width_is_kept_and_so_is_room(library: Library, tmp_path: Path) -> None:
    again = Library.open(library.path, MODEL)
    assert again.width == again.stats().dimension == WIDTH
    assert again.add(text(40)).added == 1
    (hit,) = again.search(text(40), among="text", top=1)
    assert hit.cosine == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(again.vector(hit.id), cut(MODEL.embed([text(40)]).numpy())[0], atol=1e-6)
    assert again.remove(hit.id) == 1
    sizes = {}
    for width in (None, WIDTH):
        made = Library.create(tmp_path / str(width), MODEL, width=width)
        before = made.stats().bytes
        made.add([text(n % 7, n) for n in range(400)], keep_media=False)
        made.search(text(1))
        sizes[width] = made.stats().bytes - before
    assert sizes[None] - sizes[WIDTH] > 400 * 4 * (96 - WIDTH) * 0.9  # float32 in the store alone


def test_a_model_whose_vectors_are_too_short_adds_nothing(tmp_path: Path) -> None:
    made = Library.create(tmp_path / "library", FakeModel(width=16), width=WIDTH)
    done = made.add(text(1))
    assert done.added == 0
    assert "width is 24, and the vectors have 16 numbers" in done.failed[0][1]
    with pytest.raises(InvalidValue, match="width is 0"):
        Library.create(tmp_path / "other", MODEL, width=0)
