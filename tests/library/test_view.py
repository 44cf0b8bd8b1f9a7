from pathlib import Path

import numpy as np
import pytest

from intermodal.library import view as module
from intermodal.library.filters import Filter, column, field
from intermodal.library.segments import Segments
from intermodal.library.store import Store
from intermodal.library.table import LanceStore
from intermodal.library.view import Asked, ExactView, IndexView, modalities
from tests.library.rows import row

COUNT = 900


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LanceStore:
    made = LanceStore(tmp_path_factory.mktemp("view"))
    for start in range(0, COUNT, 300):
        made.insert(
            [
                row(n, 16, ("text", "image")[n % 2], metadata={"n": n, "odd": bool(n % 2)})
                for n in range(start, start + 300)
            ]
        )
    made.index()
    return made


def views(store: Store, tmp_path: Path) -> list[ExactView | IndexView]:
    now = store.snapshot()
    return [ExactView(now, Segments(tmp_path).blocks(now)), IndexView(now)]


def asked(
    number: int, among: tuple[str, ...] = ("text", "image"), top: int = 7, condition: Filter | None = None
) -> Asked:
    return Asked(row(number, 16).vector, "text", among, top, condition)


def numbers(view: ExactView | IndexView, question: Asked) -> list[int]:
    return [int(answer.row["source"].split()[1]) for answer in view.search(question)]


def by_cosine(question: Asked, allowed: set[int]) -> list[int]:
    return sorted(allowed, key=lambda n: -float(row(n, 16).vector @ question.query))[: question.top]


def test_both_views_rank_a_modality_by_cosine(store: LanceStore, tmp_path: Path) -> None:
    for view in views(store, tmp_path):
        for number in (3, 400):
            question = asked(number, ("image",))
            assert numbers(view, question) == by_cosine(question, set(range(1, COUNT, 2)))


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [
        (field("n") < 40, set(range(40))),
        (field("odd") == True, set(range(1, COUNT, 2))),  # noqa: E712
        (column("modality") == "text", set(range(0, COUNT, 2))),
        (field("n") > COUNT, set()),
    ],
)
def test_both_views_keep_to_filters(store: LanceStore, tmp_path: Path, condition: Filter, allowed: set[int]) -> None:
    for view in views(store, tmp_path):
        found = numbers(view, asked(5, condition=condition, top=20))
        assert set(found) <= allowed
        assert len(found) == min(20, len(allowed))
        for modality, rest in (("text", 0), ("image", 1)):
            question = asked(5, (modality,), condition=condition)
            assert numbers(view, question) == by_cosine(question, {n for n in allowed if n % 2 == rest})


def test_scores_are_affine_in_cosines_and_sorted(store: LanceStore, tmp_path: Path) -> None:
    for view in views(store, tmp_path):
        answers = view.search(asked(3, top=50))
        scores = [answer.score for answer in answers]
        assert scores == sorted(scores, reverse=True)
        for modality in ("text", "image"):
            mine = [answer for answer in answers if answer.row["modality"] == modality]
            slope = np.diff([a.score for a in mine]) / np.diff([a.cosine for a in mine])
            np.testing.assert_allclose(slope, slope[0], rtol=1e-6)


def test_a_filter_is_asked_of_the_store_once(
    store: LanceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = store.snapshot()
    view = ExactView(now, Segments(tmp_path).blocks(now))
    count = 0
    real = now.matching

    def counted(condition: Filter) -> np.ndarray:
        nonlocal count
        count += 1
        return real(condition)

    monkeypatch.setattr(now, "matching", counted)
    for _ in range(3):
        view.search(asked(3, condition=field("n") < 40))
    assert count == 1
    for bound in range(module._FILTERS_MAX + 1):
        view.search(asked(3, condition=field("n") < 50 + bound))
    view.search(asked(3, condition=field("n") < 40))
    assert count == module._FILTERS_MAX + 3


def test_a_modality_that_is_not_there(store: LanceStore, tmp_path: Path) -> None:
    for view in views(store, tmp_path):
        assert view.search(asked(3, ("audio",))) == []


def test_modalities(store: LanceStore) -> None:
    assert modalities(store.snapshot()) == {"image": COUNT // 2, "text": COUNT // 2}


def test_the_samples_of_both_views_are_of_the_store(store: LanceStore, tmp_path: Path) -> None:
    every = {row(n, 16).vector.tobytes(): n for n in range(COUNT)}
    for view in views(store, tmp_path):
        for modality, rest in (("text", 0), ("image", 1)):
            drawn = [every[vector.tobytes()] for vector in view._background.vectors[modality]]
            assert len(set(drawn)) == len(drawn) == 256
            assert {n % 2 for n in drawn} == {rest}
