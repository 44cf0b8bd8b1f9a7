"""Encoders that are trained a little with their heads: their last blocks, or small matrices beside their own (LoRA).

Known are our own encoders (``encoders/``) and sentence encoders (``bert.py``); of any other the layers between items
and vectors are not. What was trained is written as a whole model, LoRA's matrices added to those that they stand
beside, so that it loads as if it had always been so.

Source: Hu et al. 2021, "LoRA", arXiv 2106.09685, by the library ``peft``.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from intermodal import saving
from intermodal.adapters._frozen import Frozen, optional
from intermodal.data.features import items_of
from intermodal.decoders.projection import Said
from intermodal.errors import InvalidValue, Unsupported
from intermodal.types import Batch, Encoded, Item


@dataclass(frozen=True)
class Tuning:
    """How much of an encoder is trained.

    Attributes:
        blocks: the last so many.
        rank: of the matrices beside those of all blocks; 0 for none.
        epochs: after the heads were trained alone.
        learning_rate: peak of AdamW, of heads and encoder.
    """

    blocks: int = 0
    rank: int = 0
    epochs: int = 3
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        """Checks that one of the two ways is chosen."""
        if (self.blocks < 1) == (self.rank < 1) or self.epochs < 1 or self.learning_rate <= 0:
            raise InvalidValue(
                f"blocks is {self.blocks} and rank {self.rank}, with {self.epochs} epochs at {self.learning_rate}; "
                "give at least 1 of one of the two, at least 1 epoch and a rate above 0"
            )


class Live(nn.Module):
    """What ``Frozen`` says, from prepared items and with gradients."""

    def __init__(self, model: Any, field: str, network: nn.Module) -> None:
        """Keeps the model, and its part that is trained."""
        super().__init__()
        self.network = network
        self._say = (
            model.told if hasattr(model, "told") else network.__call__
        )  # a method: no second place of the weights
        self.preprocessor = model.preprocessors[field]

    def forward(self, batch: Batch) -> Encoded | Said:
        """Returns tokens, mask and pooled vectors."""
        said: Encoded | Said = self._say(batch)
        return said


@dataclass(frozen=True, eq=False)
class Items:
    """Items of a field, prepared when they are asked for; stands where features of a frozen encoder do.

    Attributes:
        items: all of them.
        owner: the sample that each is of; never falls.
        preprocessor: items -> batch.
    """

    items: Sequence[Item]
    owner: Int64[Tensor, " N"]
    preprocessor: Any

    def __len__(self) -> int:
        """Returns the number of items."""
        return len(self.items)

    def batch(self, index: Sequence[int] | np.ndarray) -> Batch:
        """Returns the items ``index``; -1 gives a row whose mask is all False."""
        made: Batch = self.preprocessor([self.items[i] if i >= 0 else None for i in np.asarray(index).tolist()])
        return made

    @classmethod
    def of(cls, source: Any, field: str, preprocessor: Any) -> "Items":
        """Returns the items of a field of a data source, each caption by itself; all are held in memory."""
        items, owners = items_of(source, field, range(len(source)))
        return cls(items, torch.tensor(owners), preprocessor)

    def kept(self, samples: Tensor) -> "Items":
        """Returns the items of the samples where ``samples`` is True."""
        index = samples[self.owner].nonzero()[:, 0]
        return dataclasses.replace(self, items=[self.items[i] for i in index.tolist()], owner=self.owner[index])


def load(one: Frozen, how: Tuning) -> Live:
    """Returns the encoder ready to be trained as far as ``how`` says; what is not trained is frozen.

    Raises:
        Unsupported: its layers are not known, or it has not so many blocks.
        MissingExtra: LoRA without its library.
    """
    model, field = one.model, str(one.record.get("field", ""))
    own = getattr(model, "encoders", {})
    network = own[field] if field in own else model.network if hasattr(model, "told") else None
    if network is None or one.record.get("space"):
        raise Unsupported(f"the layers of {one.origin} are not known here, so it stays frozen; leave its training out")
    layers = blocks_of(network, one.origin)
    if how.blocks > len(layers):
        raise Unsupported(f"{one.origin} has {len(layers)} blocks, not {how.blocks}; train fewer of them")
    network.requires_grad_(False)
    for layer in layers[len(layers) - how.blocks :]:
        layer.requires_grad_(True)
    if how.rank:
        _beside(network, layers, how.rank)
    return Live(model, field, network)


def blocks_of(network: nn.Module, name: str) -> list[nn.Module]:
    """Returns the blocks of a network: its longest list of modules of one kind.

    Raises:
        Unsupported: it has none.
    """
    lists = [list(m) for m in network.modules() if isinstance(m, nn.ModuleList) and len({type(x) for x in m}) == 1]
    if not lists:
        raise Unsupported(f"{name} has no blocks one after the other, so none of them can be trained alone")
    return max(lists, key=len)


def _beside(network: nn.Module, layers: Sequence[nn.Module], rank: int) -> None:
    """Puts LoRA's matrices beside those of all linear layers in the blocks."""
    peft = optional("peft", "lora", "training by LoRA")
    inside = {id(m) for layer in layers for m in layer.modules() if isinstance(m, nn.Linear)}
    names = [name for name, module in network.named_modules() if id(module) in inside]
    settings = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names, lora_dropout=0.0)
    peft.inject_adapter_in_model(settings, network)


def merged(network: nn.Module) -> None:
    """Adds LoRA's matrices to those that they stand beside, and takes them away."""
    for name, module in list(network.named_modules()):
        if hasattr(module, "merge") and hasattr(module, "get_base_layer"):
            module.merge()
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, module.get_base_layer())
    network.requires_grad_(False)


def tuned(one: Frozen, live: Live) -> Frozen:
    """Returns the encoder as it is after its training, frozen again; it is written with the weights that it has now."""
    merged(live.network)
    live.network.eval()
    model, copy = one.model, one.keep

    def keep(folder: Path) -> None:
        copy(folder)
        if hasattr(model, "told"):
            model.network.save_pretrained(folder)
        else:
            saving.save_model(folder, model)

    numbers: Mapping[str, Tensor] = live.network.state_dict()
    mark = sum(float(value.double().sum()) for value in numbers.values() if value.is_floating_point())
    return dataclasses.replace(one, keep=keep, source=None, revision=f"{one.revision}+trained:{mark:.6f}")
