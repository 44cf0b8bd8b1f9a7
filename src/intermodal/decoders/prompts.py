"""Prompts of pictures, clips and texts in any order: which text goes with which picture, and which words look at which.

Source: Alayrac et al. 2022, arXiv 2204.14198, section 2.3 and figure 7.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from intermodal import catalog
from intermodal.errors import InvalidValue, Unsupported
from intermodal.layers.block import Block
from intermodal.types import Batch, Item, Sample

TEXT, SEEN = "text", ("image", "video")


def paired(kinds: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Returns for a sequence of modalities where each picture or clip stands, and the text right after it.

    None stands for no picture before a text that follows another, and for no text between two pictures.
    """
    found: list[tuple[int | None, int | None]] = []
    for i, kind in enumerate(kinds):
        if kind == TEXT and found and found[-1][1] is None:
            found[-1] = (found[-1][0], i)
        else:
            found.append((None, i) if kind == TEXT else (i, None))
    return found


def sequences(fields: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Returns the sequences that fields (field name -> modality) are learnt in: with pictures, and with clips.

    Those whose names end in a number are shots, in the order of their numbers; the others follow. Of one number, what
    is seen comes before what is told.
    """
    numbers = {name: re.search(r"_(\d+)$", name) for name in fields}
    place = {name: int(found[1]) if found else 10**9 for name, found in numbers.items()}
    order = sorted(fields, key=lambda name: (place[name], fields[name] == TEXT))
    kinds = [kind for kind in SEEN if kind in fields.values()]
    return tuple(tuple(name for name in order if fields[name] in (TEXT, kind)) for kind in kinds)


def row_of(prompt: Sample, most: int) -> list[tuple[Item | None, Item | None]]:
    """Returns the pictures and clips of a prompt, each with the text after it; the last, which is to be told, is None.

    Args:
        prompt: its items count in their order, whatever their fields are called.
        most: pairs that there are places for.

    Raises:
        Unsupported: it holds what is neither text, picture nor clip.
        InvalidValue: it is longer than there are places for.
    """
    items = list(prompt.values())
    for other in (item.modality for item in items if item.modality not in (TEXT, *SEEN)):
        raise Unsupported(f"a prompt has texts, pictures and clips; this one has {other}: leave it out")
    pairs = paired([*(item.modality for item in items), TEXT])
    if len(pairs) > most:
        raise InvalidValue(
            f"a prompt of {len(items)} pictures and texts takes {len(pairs)} places and the model has {most}; leave "
            "some out"
        )
    empty = catalog.module("modalities", TEXT).ITEM("")
    row = [(None if a is None else items[a], empty if b is None else items[b]) for a, b in pairs[:-1]]
    return [*row, (None if pairs[-1][0] is None else items[pairs[-1][0]], None)]


@dataclass(frozen=True)
class Slots:
    """Prompts side by side: in each slot a picture or a clip, or none, and then a text.

    Attributes:
        seen: what each picture became; zero where there is none.
        there: where there is one.
        texts: of each slot.
    """

    seen: Float[Tensor, "B P R E"]
    there: Bool[Tensor, "B P"]
    texts: tuple[Batch, ...]

    def allowed(self, slot: Int64[Tensor, "B S"], all_before: bool = False) -> Bool[Tensor, "B S N"]:
        """Returns which of the P x R tokens that were seen each word may look at, where it is a word of some slot.

        Those of the last picture before it, or of ``all_before`` it.
        """
        numbers = torch.arange(self.there.shape[1], device=slot.device)
        last = torch.where(self.there, numbers, -1).cummax(dim=1).values.gather(1, slot)[..., None]
        pictures = self.there[:, None] & (numbers <= last) if all_before else numbers == last
        return pictures.repeat_interleave(self.seen.shape[2], dim=2)

    def last(self, text: Batch) -> "Slots":
        """Returns the same with another last text."""
        return Slots(self.seen, self.there, (*self.texts[:-1], text))

    def rows(self, index: Int64[Tensor, " N"]) -> "Slots":
        """Returns these prompts, any of them several times."""
        return Slots(self.seen[index], self.there[index], tuple(text.rows(index) for text in self.texts))


class Looking:
    """What stands before the blocks of the language model: layers that look at the pictures of a prompt."""

    def __init__(
        self, layers: Mapping[int, Block], seen: Float[Tensor, "B N E"], allowed: Bool[Tensor, "B S N"]
    ) -> None:
        """Holds the tokens of the pictures, and which of them each word sees."""
        self.layers, self.seen, self.allowed = layers, seen, allowed
        self.any = allowed.any(dim=2, keepdim=True)

    def __call__(self, layer: int, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """Returns the tokens that enter a block of the language model; those that see no picture as they are."""
        if layer not in self.layers:
            return x
        looked = self.layers[layer](x, context=self.seen, context_mask=self.allowed)
        return torch.where(self.any, looked, x)

    def rows(self, index: Int64[Tensor, " N"]) -> "Looking":
        """Returns the same for these rows."""
        return Looking(self.layers, self.seen[index], self.allowed[index])
