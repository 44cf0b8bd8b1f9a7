"""Published LLaVA folders, made with random weights, against the library that wrote them."""

from pathlib import Path

import pytest

import intermodal as im
from tests import talkers


@pytest.mark.peer
def test_conversations_are_those_of_transformers(tmp_path: Path) -> None:
    network = talkers.llava(tmp_path)
    ours = im.load(tmp_path)
    prepared = talkers.processor(
        tmp_path,
        "LlavaProcessor",
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    later, second = talkers.check_talks(ours, prepared, network)
    for file in ("preprocessor_config.json", "chat_template.jinja"):
        (tmp_path / file).unlink()
    prepared.save_pretrained(tmp_path)  # how the library writes all of it today: in one file
    assert im.load(tmp_path).talk(later) == second
