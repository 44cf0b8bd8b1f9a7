"""Our encoder as mteb asks for one: with batches made by hand always, in mteb's own hands where that is installed."""

import sys
import warnings
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from intermodal.errors import InvalidData, InvalidValue, MissingExtra, Unsupported
from intermodal.evaluation.mteb import Encoder
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from tests.library.fake import FakeModel, audio, image

MODEL = FakeModel()


def pixels(number: int) -> Pillow.Image:
    return Pillow.fromarray(np.array(image(10 * number, number).pixels))


def test_texts_pictures_and_sounds_are_the_items_that_they_say() -> None:
    batches = [{"text": [f"kind {n}" for n in range(s, s + 3)], "id": ["a", "b", "c"]} for s in (0, 3)]
    found = Encoder(MODEL).encode(batches, task_metadata=None, hf_split="test", hf_subset="default", batch_size=2)
    np.testing.assert_allclose(found, MODEL.embed([Text(f"kind {n}") for n in range(6)]), atol=1e-6)
    found = Encoder(MODEL).encode([{"image": [pixels(n)]} for n in range(4)])
    np.testing.assert_allclose(found, MODEL.embed([image(10 * n, n) for n in range(4)]), atol=1e-6)
    grey = Pillow.fromarray(np.full((8, 8), 30, np.uint8))
    np.testing.assert_allclose(Encoder(MODEL).encode([{"image": [grey]}]), MODEL.embed([image(30)]), atol=1e-6)
    sounds = [audio(50), audio(100)]
    rows = [{"array": sounds[0].samples[0], "sampling_rate": 8000}, {"array": sounds[1].samples, "sampling_rate": 8000}]
    np.testing.assert_allclose(Encoder(MODEL).encode([{"audio": rows}]), MODEL.embed(sounds), atol=1e-6)


def test_a_row_of_two_modalities_is_the_sum_of_their_vectors() -> None:
    found = Encoder(MODEL).encode([{"image": [pixels(n) for n in (1, 2)], "text": ["kind 3", "kind 4"]}])
    both = (MODEL.embed([image(10, 1), image(20, 2)]) + MODEL.embed([Text("kind 3"), Text("kind 4")])).numpy()
    np.testing.assert_allclose(found, both / np.linalg.norm(both, axis=1, keepdims=True), atol=1e-6)


def test_shorter_vectors() -> None:
    rows = MODEL.embed([Text("kind 1"), Text("kind 2")])[:, :16].numpy()
    found = Encoder(MODEL, width=16).encode([{"text": ["kind 1", "kind 2"]}])
    np.testing.assert_allclose(found, rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-6)


def test_similarities_are_cosines() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 8)), rng.normal(size=(5, 8))
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    encoder = Encoder(MODEL)
    np.testing.assert_allclose(encoder.similarity(a, b), a @ b.T / lengths, atol=1e-6)
    np.testing.assert_allclose(encoder.similarity_pairwise(a, b[:3]), np.diag(a @ b.T / lengths), atol=1e-6)
    np.testing.assert_allclose(encoder.similarity(a[0], b), (a @ b.T / lengths)[:1], atol=1e-6)


def test_what_cannot_be_embedded_is_named() -> None:
    class Deaf(FakeModel):
        def field_of(self, modality: str) -> str:
            if modality != "text":
                raise Unsupported(f"this model has no tower for {modality}")
            return modality

    with pytest.raises(InvalidData, match=r"2 rows cannot be embedded: row 0 \(this model has no tower for image\)"):
        Encoder(Deaf()).encode([{"image": [pixels(1), pixels(2)]}])
    with pytest.raises(Unsupported, match="a batch has id, video"):
        Encoder(MODEL).encode([{"id": ["a"], "video": [None]}])
    with pytest.raises(InvalidValue, match="no rows"):
        Encoder(MODEL).encode([])
    silent: Any = SimpleNamespace()
    with pytest.raises(Unsupported, match="does not embed"):
        Encoder(silent)


def test_modalities_are_those_that_the_model_reads() -> None:
    assert Encoder(MODEL).modalities == ["text", "image", "audio"]
    sighted = FakeModel()
    sighted.preprocessors = {"seen": SimpleNamespace(modality="image"), "clip": SimpleNamespace(modality="video")}
    assert Encoder(sighted).modalities == ["image"]


def test_without_the_library_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb.models", None)
    with pytest.raises(MissingExtra, match=r"intermodal\[mteb\]"):
        _ = Encoder(MODEL).mteb_model_meta


# ---- In mteb's own hands


@pytest.fixture(scope="module")
def library() -> ModuleType:
    """Returns mteb; skips the tests where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: ModuleType = pytest.importorskip("mteb")
    return found


def metadata(library: ModuleType, name: str, kind: str, category: str, modalities: list[str], score: str) -> Any:
    absent = ("date", "domains", "task_subtypes", "license", "annotations_creators", "dialect", "sample_creation")
    return library.TaskMetadata(
        name=name,
        description="made for a test",
        dataset={"path": "none/none", "revision": "1"},
        type=kind,
        category=category,
        modalities=modalities,
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=score,
        bibtex_citation=None,
        **dict.fromkeys(absent),
    )


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
def test_mteb_measures_likeness_of_texts_as_by_hand(library: ModuleType) -> None:
    from datasets import Dataset
    from mteb.abstasks.sts import AbsTaskSTS
    from scipy.stats import spearmanr

    first, second = [f"kind {n // 3}" for n in range(24)], [f"kind {n // 4}, too" for n in range(24)]
    scores = np.random.default_rng(0).random(24).tolist()

    class Likeness(AbsTaskSTS):
        metadata = metadata(library, "Likeness", "STS", "t2t", ["text"], "cosine_spearman")

        def load_data(self, num_proc: int | None = None, **options: Any) -> None:
            rows = {"sentence1": first, "sentence2": second, "score": scores}
            self.dataset = {"default": {"test": Dataset.from_dict(rows)}}
            self.data_loaded = True

    found = library.evaluate(Encoder(MODEL), Likeness(), cache=None, co2_tracker=False, show_progress_bar=False)
    cosines = (MODEL.embed([Text(t) for t in first]) * MODEL.embed([Text(t) for t in second])).sum(dim=1)
    measured = found.task_results[0].scores["test"][0]["cosine_spearman"]
    assert measured == pytest.approx(spearmanr(scores, cosines.numpy()).statistic, abs=1e-5)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("modality", ["image", "audio"])
def test_mteb_finds_pictures_and_sounds_by_words_as_by_hand(library: ModuleType, modality: str) -> None:
    import datasets
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    kinds = range(1, 9)
    makes: dict[str, Any] = {
        "image": lambda n: pixels(n),
        "audio": lambda n: {"array": audio(10 * n, 0.1).samples[0].tolist(), "sampling_rate": 8000},
    }
    said = [f"kind {10 * (n if n < 6 else 1)}" for n in kinds]
    column = [makes[modality](n) for n in kinds]

    class Words(AbsTaskRetrieval):
        metadata = metadata(
            library, f"WordsTo{modality}", "Any2AnyRetrieval", f"t2{modality[0]}", ["text", modality], "hit_rate_at_1"
        )

        def load_data(self, num_proc: int | None = None, **options: Any) -> None:
            ids = [str(n) for n in kinds]
            things = datasets.Dataset.from_dict({"id": ids, modality: column})
            if modality == "image":
                things = things.cast_column("image", datasets.Image())
            split = {
                "corpus": things,
                "queries": datasets.Dataset.from_dict({"id": [f"q{i}" for i in ids], "text": said}),
                "relevant_docs": {f"q{i}": {i: 1} for i in ids},
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    encoder = Encoder(MODEL)
    found = library.evaluate(encoder, Words(), cache=None, co2_tracker=False, show_progress_bar=False)
    items = {"image": [image(10 * n, n) for n in kinds], "audio": [audio(10 * n, 0.1) for n in kinds]}[modality]
    best = (MODEL.embed([Text(words) for words in said]) @ MODEL.embed(items).T).argmax(dim=1).tolist()
    share = np.mean([place == n - 1 for place, n in zip(best, kinds, strict=True)])
    assert found.task_results[0].scores["test"][0]["hit_rate_at_1"] == pytest.approx(share, abs=1e-5)
    assert 0.5 < share < 1
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.revision, meta.modalities) == ("intermodal/fake", "unsaved", ["text", "image", "audio"])
    assert isinstance(encoder, library.models.models_protocols.EncoderProtocol)


def test_items_are_of_our_own_kinds() -> None:
    seen: list[Any] = []

    class Seeing(FakeModel):
        def embed(self, items: Any) -> Any:
            seen.extend(items)
            return super().embed(items)

    Encoder(Seeing()).encode([{"text": ["kind 1"], "image": [pixels(1)]}])
    Encoder(Seeing()).encode([{"audio": [{"array": audio(5).samples[0], "sampling_rate": 8000}]}])
    assert [type(item) for item in seen] == [Text, Image, Audio]
    assert seen[0] == Text("kind 1")
