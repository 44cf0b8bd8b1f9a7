import numpy as np
import pytest

from intermodal.library.calibrate import Background


def cone(rng: np.random.Generator, count: int, axis: int, pull: float, width: int = 48) -> np.ndarray:
    rows = rng.standard_normal((count, width)) / np.sqrt(width)
    rows[:, axis] += pull
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def vectors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"text": cone(rng, 256, 0, 2.0), "image": cone(rng, 256, 1, 1.0), "audio": cone(rng, 20, 2, 0.0)}


@pytest.mark.parametrize("asker", ["text", "image", "audio", ""])
@pytest.mark.parametrize("modality", ["text", "image"])
def test_usual_cosines_are_about_nought_and_spread_by_one(
    vectors: dict[str, np.ndarray], asker: str, modality: str
) -> None:
    background = Background(vectors)
    queries = vectors[asker or "text"][:20]
    scores = []
    for number, query in enumerate(queries):
        centre, spread = background.usual(query, asker, modality)
        mine = vectors[modality] @ query
        scores.append((np.delete(mine, number) - centre) / spread)
    assert abs(np.mean(scores)) < 0.2
    assert 0.8 < np.std(scores) < 1.25


def test_an_item_is_not_its_own_background() -> None:
    vectors = {"text": np.eye(64, dtype=np.float32)}
    centre, spread = Background(vectors).usual(vectors["text"][0], "text", "text")
    assert centre == 0.0
    assert spread < 0.01


def test_matches_hardly_move_it(vectors: dict[str, np.ndarray]) -> None:
    query = vectors["text"][0]
    few = {"image": np.concatenate([vectors["image"][:7], query[None]])}
    clean = {"image": vectors["image"][:8]}
    (centre, spread), (other, wide) = (Background(v).usual(query, "", "image") for v in (few, clean))
    assert abs(centre - other) < 0.05
    assert spread < 2 * wide
    assert (1.0 - centre) / spread > 4


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_has_a_spread(count: int) -> None:
    vectors = {"image": np.eye(64, dtype=np.float32)[:count]}
    centre, spread = Background(vectors).usual(vectors["image"][0], "text", "image")
    assert np.isfinite(centre)
    assert 0.05 < spread < 1.0


def test_equal_items_have_a_spread() -> None:
    vectors = {"text": np.repeat(np.eye(64, dtype=np.float32)[:1], 100, axis=0)}
    centre, spread = Background(vectors).usual(vectors["text"][0], "text", "text")
    assert centre == 1.0
    assert spread > 0
