"""Published GIT weights: captions of pictures.

Left out: folders tuned on questions, since nothing in them tells them from captioners, and those that read several
pictures of a video, which are refused by that setting.

Source: Wang et al. 2022, arXiv 2205.14100.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from intermodal.adapters import _tokens, _transformers
from intermodal.adapters._files import read_object
from intermodal.adapters.clip import PICTURES
from intermodal.errors import InvalidCheckpoint
from intermodal.media.source import printable
from intermodal.modalities.text import Text
from intermodal.types import Item

TOGETHER = 8
"""Pictures that are read at a time; does not change the result."""

LONGEST = 50
"""Ids of a caption at most, where the folder does not say."""


class Captioner(_transformers.Published):
    """Translates: image to text. ``begin`` may be set: words that each caption begins with."""

    directions = (("image", "text"),)

    def __init__(self, folder: Path, network: Any, pictures: Any, texts: _tokens.Texts) -> None:
        """Assembles built parts.

        Args:
            folder: they come from.
            network: of the library.
            pictures: reads pictures.
            texts: reads and writes words.
        """
        super().__init__(folder, network, {"image": pictures, "text": texts})
        self.pictures, self.tokenizer = pictures, texts.tokenizer
        self.begin: str | None = None

    @torch.no_grad()
    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns a caption of each picture.

        Args:
            items: pictures.
            to: "text".
            source: "image", if anything.
            sampling: how ids are chosen; default: the likeliest, or as the folder says.
            count: beams.

        Raises:
            Unsupported: another direction.
        """
        self.check(items, to, source)
        how = _transformers.writing(sampling, count)
        if self.network.generation_config.max_length is None:
            how["max_length"] = LONGEST
        start = self.tokenizer.encode(self.begin or "")[:-1]  # without the end, so that it goes on
        size = 1 if how.get("do_sample") else TOGETHER  # what is drawn would depend on what is beside it
        written: list[Item] = []
        for first in range(0, len(items), size):
            seen = self.pictures(items[first : first + size]).to(self.device).values
            ids = torch.tensor([start] * len(seen), device=self.device)
            with _transformers.drawing(sampling):
                rows = self.network.generate(pixel_values=seen, input_ids=ids, **how)
            written += [Text(printable(self.tokenizer.decode(row)).strip()) for row in rows.tolist()]
        return written


def load(folder: Path) -> Captioner:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    several = read_object(folder / "config.json").get("num_image_with_embedding")
    if several:
        raise InvalidCheckpoint(
            f"{folder} reads {several} pictures of a video at a time (num_image_with_embedding); take a folder that "
            "reads one"
        )
    network = _transformers.load(folder, "GitForCausalLM")
    config = network.config
    pictures = _transformers.pictures(folder, int(config.vision_config.image_size), PICTURES)
    tokens = _tokens.load(folder, "BertTokenizer", config.vocab_size)
    return Captioner(folder, network, pictures, _tokens.Texts(tokens, config.max_position_embeddings))
