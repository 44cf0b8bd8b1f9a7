"""Episodes: what their words and styles mean is in the episode alone, and no split shares them."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from intermodal.diorama.picture_reader import read_images
from intermodal.diorama.scene import HELD_OUT, SPLITS
from intermodal.diorama.shots import (
    ATTRIBUTES_OF,
    BOUND,
    KINDS,
    PIECES,
    SHOTS,
    STYLE,
    Shots,
    described,
    named,
    styles_of,
    things_of,
    words_of,
)
from intermodal.errors import InvalidValue, UnknownName
from intermodal.tokenizers.wordpiece import WordPieceTokenizer

SPLIT_PAIRS = list(combinations(SPLITS[:3], 2))


@pytest.mark.parametrize(("one", "other"), SPLIT_PAIRS)
def test_splits_share_no_word_no_style_and_no_thing(one: str, other: str) -> None:
    words = [{word for ways in words_of(split) for word in ways} for split in (one, other)]
    assert not words[0] & words[1]
    assert not set(styles_of(one)) & set(styles_of(other))
    assert not set(things_of(one)) & set(things_of(other))
    assert min(map(len, words_of(one))) >= 2


def test_every_thing_and_word_has_its_split() -> None:
    assert sum(len(things_of(split)) for split in SPLITS) == 9 * 6 * 8 * 2
    assert sum(len(ways) for split in SPLITS[:3] for ways in words_of(split)) == 24 * 24
    assert {(t.shape, t.colour) for t in things_of("compositional")} == HELD_OUT


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != STYLE])
def test_a_word_means_one_thing_throughout_an_episode(split: str, kind: str) -> None:
    for episode in Shots(split, kinds=(kind,)).episodes(range(40)):
        values = [tuple(named(thing, a) for a in ATTRIBUTES_OF[kind]) for thing in episode.things]
        meanings = dict(zip(episode.answers, values, strict=True))
        assert [meanings[word] for word in episode.answers] == values
        assert len(set(meanings.values())) == len(meanings)  # and no two words mean the same
        assert set(episode.answers) <= set(episode.options)
        assert len(set(episode.options)) == BOUND
        assert set(episode.things) <= set(things_of(split))


def test_what_a_word_means_changes_from_episode_to_episode() -> None:
    meanings: dict[str, set[str]] = {}
    for episode in Shots("test", kinds=("colour",)).episodes(range(400)):
        for word, thing in zip(episode.answers, episode.things, strict=True):
            meanings.setdefault(word, set()).add(named(thing, "colour"))
    assert np.mean([len(found) for found in meanings.values()]) > 3


def test_values_come_in_turn_but_in_train() -> None:
    for episode in Shots("test", kinds=("shape",)).episodes(range(20)):
        for start in range(0, SHOTS, BOUND):
            assert len(set(episode.answers[start : start + BOUND])) == BOUND
    asked = [e.options.index(e.answers[-1]) for e in Shots("test", kinds=("shape",)).episodes(range(400))]
    assert np.bincount(asked).min() > 70  # so that one in four is right by guessing
    firsts = [len(set(e.answers[:BOUND])) for e in Shots("train", kinds=("shape",)).episodes(range(50))]
    assert min(firsts) < BOUND


def test_fewer_shots_are_the_same_episode_cut() -> None:
    whole = Shots("test", size=6)
    few = Shots("test", size=6, shots=2)
    for a, b in zip(whole.samples(range(6)), few.samples(range(6)), strict=True):
        assert list(b) == ["image_1", "text_1", "image_2", "text_2", "image", "text"]
        assert all(a[name] == b[name] for name in b)
    assert list(Shots("test", shots=0).samples([0])[0]) == ["image", "text"]


def test_a_style_is_kept_throughout_an_episode() -> None:
    lengths = set()
    for episode in Shots("test", kinds=(STYLE,)).episodes(range(40)):
        said = [answer.split() for answer in episode.answers]
        names = {"size", "colour", "shape", "place"}
        for thing, words in zip(episode.things, said, strict=True):
            assert any(named(thing, n) in " ".join(words) for n in names - {"size"})
        assert len({len(words) for words in said}) == 1
        assert len({words[0] for words in said if words[0] in ("look", "there", "i")}) <= 1
        lengths.add(len(said[0]))
        assert episode.options == ()
    assert len(lengths) > 2


def test_pictures_show_what_the_episode_says() -> None:
    source = Shots("test", size=4)
    for sample, episode in zip(source.samples(range(4)), source.episodes(range(4)), strict=True):
        pixels = np.stack([item.pixels for name, item in sample.items() if name.startswith("image")])  # type: ignore[attr-defined]
        for scene, thing in zip(read_images(pixels), episode.things, strict=True):
            (found,) = scene.things
            assert (found.cell, found.shape, found.colour, found.size) == (
                thing.cell,
                thing.shape,
                thing.colour,
                thing.size,
            )


def test_a_sample_is_the_same_alone_and_again() -> None:
    source = Shots("train", size=100)
    many = source.samples([5, 17, 40])
    assert source.samples([17])[0] == many[1]
    assert Shots("train", size=100, seed=1).samples([17])[0] != many[1]


def test_what_is_told_says_what_the_picture_shows() -> None:
    names = [*(f"told_{i + 1}" for i in range(SHOTS)), "told"]
    source = Shots("test", fields=names, size=200)
    silent = 0
    for sample, episode in zip(source.samples(range(200)), source.episodes(range(200)), strict=True):
        assert list(sample) == names
        for item, thing, answer in zip(sample.values(), episode.things, episode.answers, strict=True):
            text = item.text  # type: ignore[attr-defined]
            assert text.endswith(f"{episode.question} {answer}")
            if text.startswith("a "):
                needed = ATTRIBUTES_OF.get(episode.kind, ("colour", "shape", "place"))
                assert all(named(thing, name) in text.partition(" . ")[0] for name in needed)
        silent += not any(episode.described)
    assert 20 < silent < 80


def test_a_description_names_what_it_is_told_to() -> None:
    thing = things_of("train")[0]
    assert described(thing, ()) == ""
    assert described(thing, ("place", "size")) == f"a {named(thing, 'size')} thing at {named(thing, 'place')} ."


def test_every_text_is_spelt_and_read_back() -> None:
    words = WordPieceTokenizer(PIECES)
    for split in SPLITS:
        source = Shots(split, fields=("text", "told"), size=100)
        for sample in source.samples(range(100)):
            for item in sample.values():
                ids = words.encode(item.text)  # type: ignore[attr-defined]
                assert PIECES.index("[UNK]") not in ids
                assert words.decode(ids) == item.text  # type: ignore[attr-defined]
                assert len(ids) <= 32
    made_up = [word for split in SPLITS[:3] for ways in words_of(split) for word in ways]
    assert not set(made_up) & set(PIECES)
    assert all(len(words.encode(word)) == 4 for word in made_up)


def test_words_of_one_episode_differ_in_their_first_piece() -> None:
    words = WordPieceTokenizer(PIECES)
    for episode in Shots("test", kinds=("thing",)).episodes(range(50)):
        firsts = sorted(words.encode(option)[1] for option in episode.options)
        assert all(a < b for a, b in pairwise(firsts))


def test_bad_requests_are_refused_in_a_sentence() -> None:
    with pytest.raises(UnknownName, match="split of shots"):
        Shots("validation")
    with pytest.raises(UnknownName, match="field of 2 shots"):
        Shots(fields=("image_3",), shots=2)
    with pytest.raises(UnknownName, match="kind of episode"):
        Shots(kinds=("motion",))
    for wrong in ({"shots": 9}, {"shots": -1}, {"size": 0}, {"kinds": ()}):
        with pytest.raises(InvalidValue, match="0 to 8 shots"):
            Shots(**wrong)  # type: ignore[arg-type]
