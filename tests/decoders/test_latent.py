"""A vector back to a medium: lengths, padding, words one by one as in one go."""

from typing import Any

import pytest
import torch

from intermodal.decoders.latent import Medium, Painter, Storyteller, maker
from intermodal.errors import InvalidValue
from intermodal.modalities.audio import AudioPreprocessor
from intermodal.modalities.image import ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.modalities.timeseries import TimeSeriesPreprocessor
from intermodal.tokenizers.word import WordTokenizer

WORDS = WordTokenizer(words=("a", "red", "blue", "square"))
SMALL: dict[str, Any] = {"width": 16, "depth": 1, "heads": 2}


def painter(longest: int = 5) -> Painter:
    torch.manual_seed(0)
    sound = AudioPreprocessor(mels=16, window=256, hop=64)
    found = maker(Medium(sound, sizes=(1, 0), first=(4, 2), channels=(6, 8), style=2, longest=longest, **SMALL), 3)
    assert isinstance(found, Painter)
    return found.eval()


def storyteller() -> Storyteller:
    torch.manual_seed(0)
    found = maker(Medium(TextPreprocessor(WORDS, 8), sizes=(8,), style=0, **SMALL), 3)
    assert isinstance(found, Storyteller)
    return found.eval()


def test_a_medium_is_as_long_as_its_mask_and_padding_does_not_matter() -> None:
    network, latents = painter(), torch.randn(2, 5)
    mask = network.mask(torch.tensor([3, 1]))
    assert mask.tolist() == [[True] * 3, [True, False, False]]
    both = network(latents, mask)
    assert both.shape == (2, 1, 16, 12)
    alone = network(latents[1:], mask[1:, :1])
    torch.testing.assert_close(both[1:, :, :, :4], alone, atol=1e-5, rtol=1e-5)


def test_lengths_are_learnt_where_an_axis_has_no_size() -> None:
    network, latents = painter(), torch.eye(5)[:3]
    mask = network.mask(torch.tensor([4, 1, 2]))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        network.length_loss(latents, mask).backward()
        optimizer.step()
    assert network.steps(latents).tolist() == [4, 1, 2]


def test_a_picture_has_one_length() -> None:
    torch.manual_seed(0)
    picture = Medium(ImagePreprocessor(16, 24, 8), sizes=(2, 3), first=(4, 4), channels=(6, 8), style=0, **SMALL)
    network = maker(picture, 3)
    assert isinstance(network, Painter)
    latents = torch.randn(2, 3)
    mask = network.mask(network.steps(latents))
    assert mask.shape == (2, 6)
    assert bool(mask.all())
    assert network(latents, mask).shape == (2, 3, 16, 24)
    assert float(network.length_loss(latents, mask)) == 0.0
    with pytest.raises(InvalidValue, match="5 positions fill no grid"):
        network.grid(5)


def test_of_a_medium_longer_than_the_longest_the_rest_is_not_made() -> None:
    network, latents = painter(longest=2), torch.randn(2, 5)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert network.within(mask).tolist() == [[True, True, False], [True, False, False]]
    long, short = network(latents, network.within(mask)), network(latents, mask[:, :2])
    assert long.shape == (2, 1, 16, 12)
    torch.testing.assert_close(long[:1, ..., :8], short[:1], atol=1e-5, rtol=1e-5)
    network.sizes = (0, 2)
    wide = torch.tensor([[True] * 6])
    assert network.within(wide).tolist() == [[True] * 4 + [False] * 2]


def test_an_open_axis_may_stand_before_others() -> None:
    network = painter()
    network.sizes = (0, 2)
    assert network.mask(torch.tensor([2, 1])).tolist() == [[True] * 4, [True, True, False, False]]
    network.sizes = (2, 0)
    assert network.mask(torch.tensor([2, 1])).tolist() == [[True] * 4, [True, False, True, False]]


def test_what_stands_behind_a_text_changes_none_of_its_words() -> None:
    network, latents = storyteller(), torch.randn(1, 3)
    short, long = torch.tensor([[1, 5, 6]]), torch.tensor([[1, 5, 6, 0, 0]])
    torch.testing.assert_close(network(latents, long)[:, :3], network(latents, short), atol=1e-5, rtol=1e-5)
    mask = torch.tensor([[True, True, True, False, False]])
    padded = network.loss(latents, long, mask)
    torch.testing.assert_close(padded, network.loss(latents, short, mask[:, :3]))


def test_words_are_learnt_written_and_scored() -> None:
    network, latents = storyteller(), torch.eye(3)
    texts = ["a red square", "a blue square", "a"]
    batch = TextPreprocessor(WORDS, 8)([Text(text) for text in texts])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        network.loss(latents, batch.values, batch.mask).backward()
        optimizer.step()
    ids, score = network.written(latents, WORDS.begin_id, WORDS.end_id, WORDS.pad_id, 8)
    assert [text.text for text in TextPreprocessor(WORDS).invert(ids)] == texts
    assert bool((ids[2, 3:] == WORDS.pad_id).all())
    share = network(latents, ids[:, :-1]).log_softmax(dim=-1).gather(2, ids[:, 1:, None])[..., 0]
    real = (ids[:, 1:] != WORDS.pad_id) & (ids[:, :-1] != WORDS.end_id)
    torch.testing.assert_close((share * real).sum(dim=1), score, atol=1e-4, rtol=1e-4)
    cut, _ = network.written(latents, WORDS.begin_id, WORDS.end_id, WORDS.pad_id, 3)
    assert cut[:, -1].tolist() == [WORDS.end_id] * 3


def test_impossible_media_are_refused() -> None:
    with pytest.raises(InvalidValue, match="a text has style 16"):
        Medium(TextPreprocessor(WORDS), sizes=(8,))
    with pytest.raises(InvalidValue, match="only one axis"):
        Medium(ImagePreprocessor(), sizes=(0, 0))
    with pytest.raises(InvalidValue, match="depth of a medium is 0"):
        Medium(TimeSeriesPreprocessor(), depth=0)
