"""Our models in mteb's hands: its benchmarks of texts, pictures and sounds run on anything here that embeds.

    mteb.evaluate(Encoder("diorama"), mteb.get_tasks(tasks=["STSBenchmark"]))

What mteb asks of a model is its ``EncoderProtocol``: rows of one or several modalities, in batches, to vectors. A row
of several modalities, such as a picture with words, is the sum of their unit vectors, of unit length again. Texts are
read as they are: mteb's prompts and instructions, which such models were not trained with, are not put before them.

Left out: videos, and mteb's protocols of cross-encoders and of searching by oneself.

Source: Muennighoff et al. 2022, "MTEB", arXiv 2210.07316; Xiao et al. 2025, "MIEB", arXiv 2504.10471.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from intermodal import saving
from intermodal.data.stream import stream
from intermodal.errors import InvalidData, InvalidValue, MissingExtra, Unsupported
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.types import Embeds, Item

SHOWN = 3  # rows that an error names


class Encoder:
    """A model that embeds, as mteb asks for one: its ``EncoderProtocol``."""

    def __init__(self, model: Any, name: str = "", width: int | None = None) -> None:
        """Keeps the model.

        Args:
            model: a folder, the name of a shipped model or of the hub, or a model.
            name: that results are kept under; default: the model's own.
            width: only the first so many numbers of each vector, of unit length again; None for all.

        Raises:
            Unsupported: the model does not embed.
        """
        self.model = saving.load_model(model) if isinstance(model, str | Path) else model
        if not isinstance(self.model, Embeds):
            raise Unsupported(f"{model} does not embed, so mteb cannot measure it; give a model with embed")
        self.width = width
        self.name = name or Path(str(getattr(self.model, "name", "") or type(self.model).__name__)).name

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any = None,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: Any = None,
        **options: Any,
    ) -> Float32[np.ndarray, "N D"]:
        """Returns one unit vector per row, in the order given.

        Args:
            inputs: batches: modality -> rows. A text is a string, a picture one of Pillow, a sound a record with
                ``array`` and ``sampling_rate``; anything else in a batch is not looked at.
            task_metadata: is not needed.
            hf_split: is not needed.
            hf_subset: is not needed.
            prompt_type: is not needed.
            options: mteb's; batches are of a size that suits the model whatever they say.

        Raises:
            Unsupported: rows of a modality that is not read here.
            InvalidData: rows that the model cannot embed; names some of them, and why.
            InvalidValue: there are none.
        """
        owners: list[int] = []
        rows: list[Float32[np.ndarray, " D"]] = []
        failed: list[str] = []
        for done in stream(self.model, _noted(inputs, owners), width=self.width):
            owner = owners[len(rows) + len(failed)]
            if done.vector is None:
                failed.append(f"row {owner} ({done.error})")
            else:
                rows.append(done.vector)
        if failed:
            told = "; ".join(failed[:SHOWN]) + ("; ..." if len(failed) > SHOWN else "")
            raise InvalidData(f"{len(failed)} rows cannot be embedded: {told}; choose tasks of what the model reads")
        if not rows:
            raise InvalidValue("there are no rows to embed; give at least one batch")
        sums = np.zeros((owners[-1] + 1, len(rows[0])), np.float32)
        np.add.at(sums, owners, np.stack(rows))
        made: Float32[np.ndarray, "N D"] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        return made

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Float[Tensor, "A B"]:
        """Returns the cosine of every pair of two lists of vectors, of one vector too."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Float[Tensor, " N"]:
        """Returns the cosine of the vectors at the same place in two lists."""
        return (_unit(embeddings1) * _unit(embeddings2)).sum(dim=-1)

    @cached_property
    def mteb_model_meta(self) -> Any:
        """What mteb notes of the model: its ``ModelMeta``.

        Raises:
            MissingExtra: mteb is not installed.
        """
        try:
            kind = importlib.import_module("mteb.models").ModelMeta
        except ImportError as error:
            raise MissingExtra("mteb", "mteb", "measuring a model with mteb") from error
        module = self.model if isinstance(self.model, torch.nn.Module) else None
        weights = None if module is None else list(module.parameters())
        nothing = ("release_date", "languages", "max_tokens", "license", "open_weights", "public_training_code")
        return kind(
            loader=None,
            name=f"intermodal/{self.name}" + (f"-{self.width}" if self.width else ""),
            revision=str(getattr(self.model, "fingerprint", "") or "unsaved"),
            n_parameters=None if weights is None else sum(w.numel() for w in weights),
            memory_usage_mb=None if weights is None else sum(w.nbytes for w in weights) / 2**20,
            embed_dim=self.width,
            public_training_data=None,
            framework=["PyTorch"],
            similarity_fn_name="cosine",
            use_instructions=False,
            training_datasets=None,
            modalities=self.modalities,
            **dict.fromkeys(nothing),
        )

    @property
    def modalities(self) -> list[str]:
        """Those that both mteb gives here and the model reads."""
        known = getattr(self.model, "preprocessors", None) or {}
        read = {str(p.modality) for p in known.values()}
        return [name for name in READS if name in read or not read]


def _text(row: Any) -> Item:
    return Text(str(row))


def _image(row: Any) -> Item:
    return Image(np.array(row.convert("RGB")))


def _audio(row: Any) -> Item:
    samples = np.asarray(row["array"], np.float32)
    return Audio(samples, int(row["sampling_rate"]))


READS = {"text": _text, "image": _image, "audio": _audio}
"""Modality -> what makes an item of a row as mteb gives it."""


def _noted(batches: Iterable[Mapping[str, Any]], owners: list[int]) -> Iterator[Item]:
    """Gives the items of all rows one after the other; ``owners`` takes the number of the row of each.

    Raises:
        Unsupported: a batch has rows of no modality that is read here.
    """
    start = 0
    for batch in batches:
        found: dict[str, Sequence[Any]] = {name: batch[name] for name in READS if name in batch}
        if not found or "video" in batch:
            raise Unsupported(
                f"a batch has {', '.join(batch) or 'nothing'}; of mteb's rows {', '.join(READS)} are read here: "
                "choose other tasks"
            )
        count = len(next(iter(found.values())))
        for place in range(count):
            for name, rows in found.items():
                owners.append(start + place)
                yield READS[name](rows[place])
        start += count


def _unit(vectors: Any) -> Float[Tensor, "N D"]:
    """Returns vectors as rows of unit length."""
    rows = torch.as_tensor(vectors).float()
    return torch.nn.functional.normalize(rows if rows.dim() > 1 else rows[None], dim=-1)
