"""Published BLIP-2 weights: captions of pictures, and answers to questions about them.

Left out: folders for retrieval, and old ones whose settings do not name the id that stands for a picture; refused.

Source: Li et al. 2023, arXiv 2301.12597.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from intermodal.adapters import _tokens, _transformers
from intermodal.adapters._files import read_object
from intermodal.errors import InvalidCheckpoint, InvalidValue, Unsupported
from intermodal.media.source import printable
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.types import Item, Sample

KIND = "Blip2ForConditionalGeneration"
QUESTION = "Question: {} Answer:"
"""How a question is put, as the weights were trained."""

LONGEST = 30
"""Ids that are written at most."""


class Teller(_transformers.Published):
    """Translates: image to text; Answers.

    ``begin`` are words that each caption begins with, ``question`` how a question is put, ``longest`` how many ids are
    written at most; all may be set.
    """

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
        self.question = QUESTION
        self.longest = LONGEST

    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns a caption of each picture.

        Args:
            items: pictures.
            to: "text".
            source: "image", if anything.
            sampling: how ids are chosen; default: the likeliest.
            count: beams.

        Raises:
            Unsupported: another direction.
        """
        self.check(items, to, source)
        how = _transformers.writing(sampling, count)
        begin = self.begin or ""
        return [Text(f"{begin} {self._written(item, begin, how, sampling)}".strip()) for item in items]

    def answer(self, sample: Sample, question: str) -> str:
        """Returns the answer in words.

        Raises:
            Unsupported: the sample is no picture alone.
            InvalidValue: ``question`` of this model has no place for one.
        """
        items = list(sample.values())
        if len(items) != 1 or not isinstance(items[0], Image):
            raise Unsupported(f"this model answers about one image, not about {', '.join(sample) or 'nothing'}")
        if "{}" not in self.question:
            raise InvalidValue(f"question is {self.question!r}, which has no {{}} in place of the question")
        return self._written(items[0], self.question.replace("{}", question), {}, None)

    @torch.no_grad()
    def _written(self, item: Item, words: str, how: dict[str, Any], sampling: Any) -> str:
        """Returns what follows words about a picture."""
        config = self.network.config
        marks = [int(config.image_token_index)] * int(config.num_query_tokens)
        ids = [*marks, *(self.tokenizer.encode(words) or [self.tokenizer.begin_id])]
        seen = self.pictures([item]).to(self.device).values
        with _transformers.drawing(sampling):
            row = self.network.generate(
                seen, torch.tensor([ids], device=self.device), max_new_tokens=self.longest, **how
            )[0].tolist()
        row = row[len(ids) :] if config.use_decoder_only_language_model else row
        return printable(self.tokenizer.decode(row)).strip()


def load(folder: Path) -> Teller:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    _transformers.library()
    settings = read_object(folder / "config.json")
    kind = (settings.get("architectures") or [KIND])[0]
    if kind != KIND:
        raise InvalidCheckpoint(f"{folder} was written by {kind}; of BLIP-2 this package reads {KIND}")
    if not isinstance(settings.get("image_token_index"), int):
        raise InvalidCheckpoint(
            f"{folder} does not name the id that stands for a picture (image_token_index in config.json); take a newer "
            "version of it"
        )
    network = _transformers.load(folder, KIND)
    config = network.config
    pictures = _transformers.pictures(folder, int(config.vision_config.image_size))
    tokens = _tokens.load(folder, "AutoTokenizer", config.text_config.vocab_size)
    longest = int(getattr(config.text_config, "max_position_embeddings", 512)) - int(config.num_query_tokens)
    return Teller(folder, network, pictures, _tokens.Texts(tokens, longest))
