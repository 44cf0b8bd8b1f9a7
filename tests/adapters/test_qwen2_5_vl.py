"""Published Qwen2.5-VL folders, made with random weights, against the library that wrote them."""

from pathlib import Path

import pytest

import intermodal as im
from intermodal.sampling.autoregressive import Sampling
from intermodal.types import Turn
from tests import published, talkers

WIDE, HIGH = im.Image(published.picture(30, 70)), im.Image(published.picture(50, 40, 1))


@pytest.mark.peer
def test_conversations_are_those_of_transformers(tmp_path: Path) -> None:
    network = talkers.qwen(tmp_path, newer=True)
    ours = im.load(tmp_path)
    prepared = talkers.processor(tmp_path, "Qwen2_5_VLProcessor")
    asked = [Turn("user", (WIDE, im.Text("what is this?")))]
    first = ours.talk(asked)
    assert first.words == talkers.theirs(prepared, network, asked)
    assert first.words
    later = [*asked, Turn("assistant", (im.Text("a cat"),)), Turn("user", (im.Text("and"), HIGH, im.Text("here?")))]
    second = ours.talk(later)
    assert second.words == talkers.theirs(prepared, network, later)
    assert second.read > first.read
    words = [Turn("system", (im.Text("be brief"),)), Turn("user", (im.Text("hello"),))]
    assert ours.talk(words).words == talkers.theirs(prepared, network, words)
    drawn = ours.talk(later, sampling=Sampling(1.3, 0, 0.9, seed=4)).words
    how = {"do_sample": True, "temperature": 1.3, "top_k": 0, "top_p": 0.9}
    assert drawn == talkers.theirs(prepared, network, later, 4, **how)
    assert drawn != second.words
