"""Published Idefics3 folders, made with random weights, against the library that wrote them."""

from pathlib import Path

import pytest

import intermodal as im
from tests import talkers


@pytest.mark.peer
def test_conversations_are_those_of_transformers(tmp_path: Path) -> None:
    network = talkers.idefics3(tmp_path)
    ours = im.load(tmp_path)
    prepared = talkers.processor(tmp_path, "Idefics3Processor", image_seq_len=4)
    talkers.check_talks(ours, prepared, network)
