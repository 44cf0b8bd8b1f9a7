"""Published BLIP weights: captions of pictures, or answers to questions about them.

Which of the two a folder does is told by the class that wrote it (``architectures`` in ``config.json``). Left out: the
folders that rank captions, whose class is refused by name.

Source: Li et al. 2022, arXiv 2201.12086.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from intermodal.adapters import _tokens, _transformers
from intermodal.adapters.clip import read_object
from intermodal.errors import InvalidCheckpoint, Unsupported
from intermodal.media.source import printable
from intermodal.modalities.text import Text
from intermodal.types import Item, Sample

CAPTIONS, ANSWERS = "BlipForConditionalGeneration", "BlipForQuestionAnswering"
PICTURES = {**_transformers.SQUEEZED, "size": {"height": 384, "width": 384}}
"""How pictures are prepared where the file does not say."""

TOGETHER = 8
"""Pictures that are read at a time; does not change the result."""

LONGEST = 20
"""Ids that are written at most where the folder does not say."""


class Blip(_transformers.Published):
    """What both kinds share: a picture and some words in, words out."""

    def __init__(self, folder: Path, network: Any, pictures: Any, texts: _tokens.Texts) -> None:
        """Assembles built parts.

        Args:
            folder: they come from.
            network: of the library.
            pictures: reads pictures.
            texts: reads and writes words.
        """
        super().__init__(folder, network, {"image": pictures, "text": texts})
        self.pictures, self.texts = pictures, texts

    @torch.no_grad()
    def write(self, pictures: Sequence[Item], words: str | None, sampling: Any = None, count: int = 1) -> list[str]:
        """Returns what is written about each picture.

        Args:
            pictures: any number.
            words: a question, or what captions begin with; None for neither.
            sampling: how ids are chosen; default: the likeliest, or as the folder says.
            count: beams.
        """
        how = _transformers.writing(sampling, count)
        if getattr(self.network.text_decoder.generation_config, "max_length", None) is None:
            how["max_new_tokens"] = LONGEST
        size = 1 if how.get("do_sample") else TOGETHER  # what is drawn would depend on what is beside it
        written: list[str] = []
        for start in range(0, len(pictures), size):
            seen = self.pictures(pictures[start : start + size]).to(self.device).values
            given: dict[str, Any] = {"pixel_values": seen}
            if words is not None:
                asked = self.texts([Text(words)] * len(seen)).to(self.device)
                given |= {"input_ids": asked.values, "attention_mask": asked.mask.long()}
            with _transformers.drawing(sampling):
                rows = self.network.generate(**given, **how)
            written += [printable(self.texts.tokenizer.decode(row)).strip() for row in rows.tolist()]
        return written


class Captioner(Blip):
    """Translates: image to text. ``begin`` may be set: words that each caption begins with."""

    directions = (("image", "text"),)
    begin: str | None = None

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
        return [Text(words) for words in self.write(items, self.begin, sampling, count)]


class Answerer(Blip):
    """Answers questions about a picture."""

    def answer(self, sample: Sample, question: str) -> str:
        """Returns the answer in words.

        Raises:
            Unsupported: the sample is no picture alone.
        """
        if set(sample) != {"image"}:
            raise Unsupported(f"this model answers about one image, not about {', '.join(sample) or 'nothing'}")
        return self.write([sample["image"]], question)[0]


def load(folder: Path) -> Blip:
    """Returns the published model in ``folder``: a ``Captioner`` or an ``Answerer``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    kinds = read_object(folder / "config.json").get("architectures") or [CAPTIONS]
    if kinds[0] not in (CAPTIONS, ANSWERS):
        raise InvalidCheckpoint(
            f"{folder} was written by {kinds[0]}; of BLIP this package reads {CAPTIONS} and {ANSWERS}"
        )
    network = _transformers.load(folder, kinds[0])
    pictures = _transformers.pictures(folder, int(network.config.vision_config.image_size), PICTURES)
    words = network.config.text_config
    texts = _tokens.Texts(_tokens.load(folder, "BertTokenizer", words.vocab_size), words.max_position_embeddings)
    return (Captioner if kinds[0] == CAPTIONS else Answerer)(folder, network, pictures, texts)
