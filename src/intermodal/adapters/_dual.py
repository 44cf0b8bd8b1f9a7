"""What all published dual encoders share: a vector per item, in one space for two modalities.

    image or audio ─ network ─┐
                              ├─ unit vectors ─ cosine ─ the network's own scale: a probability per label
    text ─────────── network ─┘

Left out: training, and int8. Vectors are those of the library; a family says how its items are read, and what its
scores mean as probabilities.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from intermodal import runtime
from intermodal.adapters import _transformers as shared
from intermodal.errors import Unsupported
from intermodal.modalities.text import prompted
from intermodal.types import Batch, Item


@dataclass(frozen=True)
class Reading:
    """How items of one modality become vectors.

    Attributes:
        preprocessor: items -> batch.
        vectors: the network and a batch -> ``(B, D)``, of any length, or a record with them as ``pooler_output``.
    """

    preprocessor: Any
    vectors: Callable[[Any, Batch], Any]


class Dual(shared.Published):
    """Embeds, Scores, Classifies."""

    def __init__(
        self,
        folder: Path,
        network: Any,
        readings: Mapping[str, Reading],
        probabilities: Callable[[Any, Tensor], Tensor],
    ) -> None:
        """Assembles built parts.

        Args:
            folder: they come from.
            network: of the library.
            readings: modality -> how it is read.
            probabilities: the network and cosines ``(N, L)`` -> the probability of each label for each item.
        """
        super().__init__(folder, network, {name: one.preprocessor for name, one in readings.items()})
        self.precision: str | None = None  # to embed in; None for the default
        self._readings, self._probabilities = dict(readings), probabilities
        text = getattr(network.config, "text_config", network.config)
        self._hidden = int(getattr(text, "hidden_size", 0))

    def field_of(self, modality: str) -> str:
        """Returns the field that reads ``modality``, called the same.

        Raises:
            Unsupported: none does.
        """
        if modality not in self._readings:
            raise Unsupported(f"this model has no tower for {modality}; it reads {', '.join(sorted(self._readings))}")
        return modality

    def reading(self, field: str) -> Reading:
        """Returns how a field is read."""
        return self._readings[self.field_of(field)]

    @torch.no_grad()
    def embed(
        self, items: Sequence[Item], fields: str | None = None, batch_size: int = 16, precision: str | None = None
    ) -> Float[Tensor, "N D"]:
        """Returns one unit vector per item, in the order given, modalities mixed at will.

        Args:
            items: N items.
            fields: the modality of them all; default: each item's own.
            batch_size: items computed together; does not change the result.
            precision: fp32 or bf16; default: that of the model, else what ``runtime.embedding_precision`` says.

        Raises:
            Unsupported: an item's modality is not read, or the precision is int8.
        """
        where: dict[str, list[int]] = {}
        for i, item in enumerate(items):
            where.setdefault(self.field_of(fields or item.modality), []).append(i)
        chosen = runtime.embedding_precision(precision or self.precision, self.device, self._hidden)
        if chosen == "int8":
            raise Unsupported("published models of this kind embed in fp32 or bf16, not in int8; choose one of them")
        result: Tensor | None = None
        for name, index in where.items():
            reading = self._readings[name]
            for start in range(0, len(index), batch_size):
                part = index[start : start + batch_size]
                batch = reading.preprocessor([items[i] for i in part]).to(self.device)
                with runtime.autocast(chosen, self.device):
                    found = reading.vectors(self.network, batch)
                rows = F.normalize(getattr(found, "pooler_output", found).float(), dim=-1)
                result = rows.new_zeros(len(items), rows.shape[1]) if result is None else result
                result[part] = rows
        return torch.zeros(0, 0) if result is None else result

    def score(self, a: Sequence[Item], b: Sequence[Item]) -> Float[Tensor, "A B"]:
        """Returns the cosine of every pair; higher fits better."""
        return self.embed(a) @ self.embed(b).T

    @torch.no_grad()
    def classify(
        self, items: Sequence[Item], labels: Sequence[str], prompts: Sequence[str] = ("{}",)
    ) -> Float[Tensor, "N L"]:
        """Returns the probability of each label for each item, from words alone (zero-shot).

        Args:
            items: N items of any modality but text.
            labels: L labels in words.
            prompts: sentences with ``{}`` in place of the label; their vectors are averaged (arXiv 2103.00020, 3.1.4).

        Raises:
            InvalidValue: no labels, or a prompt without a place for them.
        """
        words = self.embed(prompted(labels, prompts))
        classes = F.normalize(words.view(len(labels), len(prompts), -1).mean(dim=1), dim=-1)
        return self._probabilities(self.network, self.embed(items) @ classes.T)


def pictures(preprocessor: Any) -> Reading:
    """Returns how most networks of the library read pictures."""
    return Reading(preprocessor, lambda network, batch: network.get_image_features(batch.values))


def words(preprocessor: Any) -> Reading:
    """Returns how most networks of the library read texts: with a mask of their tokens."""
    return Reading(preprocessor, lambda network, batch: network.get_text_features(batch.values, batch.mask.long()))


def softmax_of(scale: str) -> Callable[[Any, Tensor], Tensor]:
    """Returns what makes probabilities that add up to 1, by the network's logarithm of a scale of that name."""
    return lambda network, cosines: (cosines * getattr(network, scale).exp()).softmax(dim=-1)


def load(
    folder: Path,
    kind: str,
    read: Callable[[Any], Mapping[str, Reading]],
    probabilities: Callable[[Any, Tensor], Tensor],
) -> Dual:
    """Returns the dual encoder in ``folder``.

    Args:
        folder: a published one.
        kind: the library's class, such as ``SiglipModel``.
        read: the network's settings -> how each modality is read.
        probabilities: see ``Dual``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, or do not fit each other.
    """
    network = shared.load(folder, kind)
    return Dual(folder, network, read(network.config), probabilities)
