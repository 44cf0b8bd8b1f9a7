"""A source with other words: which sample each pair shows, what is wrong of them, and the file they are kept in."""

from pathlib import Path

import pytest

from intermodal.data.loader import Loader
from intermodal.data.retold import Retold, Told, mistold, read_pairs, write_pairs
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidData, InvalidValue
from intermodal.modalities.image import ImagePreprocessor
from intermodal.modalities.text import TextPreprocessor
from intermodal.tokenizers.word import WordTokenizer

SOURCE = Diorama("train", fields=("text", "image"), size=6)


def test_each_pair_is_a_sample_with_its_own_words() -> None:
    pairs = [Told(4, "a star"), Told(0, "a circle"), Told(4, "something else")]
    source = Retold(SOURCE, pairs)
    assert len(source) == 3
    assert source.fields == {"text": "text", "image": "image"}
    assert source.vocabulary == SOURCE.vocabulary
    found = source.samples([2, 0])
    assert [one["text"].text for one in found] == ["something else", "a star"]  # type: ignore[attr-defined]
    for one in found:
        assert (one["image"].pixels == SOURCE.samples([4])[0]["image"].pixels).all()  # type: ignore[attr-defined]
    assert source.texts("text", [1, 2]) == ["a circle", "something else"]
    assert source.texts("image", [1]) == []
    assert source.describe()["count"] == 3
    words = WordTokenizer.train([pair.words for pair in pairs], 20)
    loader = Loader(source, {"text": TextPreprocessor(words, 8), "image": ImagePreprocessor(64, 64, 16)}, 3)
    batch = next(iter(loader.steps(0, 1)))
    assert len(batch["text"]) == 3


def test_pairs_of_other_sources_are_refused() -> None:
    for pairs in ([], [Told(6, "a star")], [Told(-1, "a star")]):
        with pytest.raises(InvalidData, match=r"the source of 6 has"):
            Retold(SOURCE, pairs)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_share_is_told_of_another_sample(share: float) -> None:
    pairs = [Told(i, f"words {i}") for i in range(50)]
    wrong = mistold(pairs, share, seed=3)
    assert [pair.sample for pair in wrong] == list(range(50))
    assert sorted(pair.words for pair in wrong) == sorted(pair.words for pair in pairs)
    moved = sum(a != b for a, b in zip(pairs, wrong, strict=True))
    assert moved == round(50 * share)
    assert wrong == mistold(pairs, share, seed=3)
    if share == 0.4:
        assert wrong != mistold(pairs, share, seed=4)


def test_shares_that_cannot_be_are_refused() -> None:
    for share in (-0.1, 1.1, 0.02):
        with pytest.raises(InvalidValue, match=f"a share of {share}"):
            mistold([Told(i, "x") for i in range(50)], share)


def test_pairs_are_kept_as_lines(tmp_path: Path) -> None:
    pairs = [Told(3, 'a "red" circle'), Told(3, "ein Stück\u2028weiter"), Told(0, "")]
    path = write_pairs(pairs, tmp_path / "pairs.jsonl")
    assert read_pairs(path) == pairs
    assert [one.name for one in tmp_path.iterdir()] == ["pairs.jsonl"]
    for line in ("{", '{"sample": "3", "words": "x"}', '{"sample": true, "words": "x"}', '{"sample": 3}', "[]", "3"):
        path.write_text(f'{{"sample": 3, "words": "x"}}\n{line}\n', "utf-8")
        with pytest.raises(InvalidData, match="line 2 is no pair"):
            read_pairs(path)
    with pytest.raises(InvalidData, match="cannot be read"):
        read_pairs(tmp_path / "absent.jsonl")
