"""Word vectors: three formats read alike, damaged files refused, and an encoder that keeps the contract."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from intermodal.encoders.word_vectors import WordVectorEncoder, WordVectors, read_vectors, shares
from intermodal.errors import InvalidData, InvalidValue
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.testing import check_encoder
from intermodal.tokenizers.word import WordTokenizer

TABLE = np.array([[1.0, 0.0, 0.5], [0.9, 0.1, 0.4], [-1.0, 2.0, 0.25]], np.float32)
VECTORS = WordVectors(("cat", "dog", "car"), TABLE)


def binary(path: Path, line_ends: bool) -> Path:
    """Writes what word2vec.c writes; some versions end each vector with a line end."""
    rows = [word.encode() + b" " + row.astype("<f4").tobytes() for word, row in zip(VECTORS.words, TABLE, strict=True)]
    path.write_bytes(b"3 3\n" + b"".join(row + b"\n" * line_ends for row in rows))
    return path


def same(found: WordVectors) -> bool:
    return found.words == VECTORS.words and np.allclose(found.table, TABLE)


def test_every_format_gives_the_same_vectors(tmp_path: Path) -> None:
    assert same(read_vectors(VECTORS.save(tmp_path / "word2vec.txt")))
    assert same(read_vectors(VECTORS.save(tmp_path / "glove.txt", header=False)))
    assert same(read_vectors(binary(tmp_path / "a.bin", line_ends=False)))
    assert same(read_vectors(binary(tmp_path / "b.bin", line_ends=True)))
    packed = tmp_path / "word2vec.txt.gz"
    packed.write_bytes(gzip.compress((tmp_path / "word2vec.txt").read_bytes()))
    assert same(read_vectors(packed))


def test_the_first_words_are_enough_and_of_equal_ones_the_first_is_kept(tmp_path: Path) -> None:
    for name in ("a.txt", "a.bin"):
        path = VECTORS.save(tmp_path / name) if name == "a.txt" else binary(tmp_path / name, line_ends=False)
        assert read_vectors(path, words_max=2).words == ("cat", "dog")
    (tmp_path / "twice.txt").write_text("cat 1 2\n. . 3 4\ncat 5 6\n")
    found = read_vectors(tmp_path / "twice.txt")
    assert found.words == ("cat", ". .")
    assert found.table.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds 0"),
        (b"cat 1 2\ndog 3\n", "line 2 has 1 numbers, not 2"),
        (b"cat 1 2\ndog 3 x\n", "no word and numbers"),
        (b"cat\n", "line 1 has 0 numbers"),
        (b"3 2\ncat 1 2\n", "3 words and holds 1"),
        (b"2 900000\ncat 1", "expected 1 to 10,000"),
        (b"2 3\ncat " + np.zeros(3, "<f4").tobytes() + b"dog \0\0", "2 words and holds 1"),
        (b"cat 1 nan\n", "not finite"),
        (b"\x1f\x8bbroken", "cannot be read"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(InvalidData, match=said):
        read_vectors(path)
    with pytest.raises(InvalidData, match="cannot be read"):
        read_vectors(tmp_path / "absent")


def test_neighbours_are_by_cosine() -> None:
    assert [word for word, _ in VECTORS.nearest("cat", 1)] == ["dog"]
    cosine = float(TABLE[0] @ TABLE[2] / np.linalg.norm(TABLE[0]) / np.linalg.norm(TABLE[2]))
    assert VECTORS.nearest("cat")[1] == ("car", pytest.approx(cosine, abs=1e-6))
    with pytest.raises(InvalidValue, match="'bird' has no vector"):
        VECTORS.nearest("bird")


def test_the_encoder_keeps_the_contract_and_means_over_known_words() -> None:
    tokenizer = WordTokenizer(("dog", "bird", "cat"))
    encoder = WordVectorEncoder(tokenizer, VECTORS)
    batch = TextPreprocessor(tokenizer)([Text("cat dog"), None, Text("dog bird dog cat"), Text("bird")])
    check_encoder(encoder, batch)
    with torch.no_grad():
        found = encoder(batch)
    np.testing.assert_allclose(found.pooled[0], TABLE[:2].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.pooled[2], TABLE[[1, 1, 0]].mean(axis=0), atol=1e-6)
    assert float(found.pooled[3].abs().sum()) == 0.0
    assert not encoder.table.weight.requires_grad
    free = WordVectorEncoder(tokenizer, VECTORS, frozen=False)
    free(batch).pooled.sum().backward()
    grad = free.table.weight.grad
    assert grad is not None
    assert (grad.abs().sum(dim=1) > 0).tolist() == [False] * 4 + [True, False, True]


def test_a_tokenizer_takes_the_words_that_texts_are_split_into() -> None:
    vectors = WordVectors(("The", "new_york", "it's", "dog"), np.eye(4, dtype=np.float32))
    assert vectors.tokenizer().words == ("new_york", "dog")


def test_impossible_vectors_are_refused() -> None:
    with pytest.raises(InvalidValue, match="1 of them distinct"):
        WordVectors(("a", "a"), TABLE[:2])
    with pytest.raises(InvalidValue, match="none of 1 words"):
        WordVectorEncoder(WordTokenizer(("bird",)), VECTORS)


def test_shares_follow_the_counts() -> None:
    np.testing.assert_allclose(shares([1, 16], 0.75), [1 / 9, 8 / 9], rtol=1e-6)
