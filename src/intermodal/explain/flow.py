"""Which part of a system gives to which, found by following every tensor of one pass through it.

What a field of the batch holds is marked with the field. Where an operation takes in a weight of a part, or a part is
called, that part was given whatever its other inputs are marked with, and what comes out is marked with the part. So
what is told is what the code does, not what its comments say it does.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from intermodal.errors import InvalidValue
from intermodal.types import Batch, Trains

Marks = frozenset[str]
NONE: Marks = frozenset()
_CHOOSING = {Tensor.__getitem__, Tensor.index_select, Tensor.gather, torch.index_select, torch.gather}
"""Operations whose other arguments say which values of the first are taken, not what they are."""
_ADDING = {Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__, Tensor.add_, torch.add}
_BY_THE_WAY = nn.LayerNorm | nn.RMSNorm | nn.Dropout
"""Parts that are not told of."""


@dataclass(frozen=True)
class Part:
    """A part of a system.

    Attributes:
        name: its path in the system; of a field or a loss its name.
        kind: of module, ``field`` or ``loss``.
        weights: how many it has.
        frozen: it has weights and none is trained.
        count: how many modules stand one behind the other under this name.
    """

    name: str
    kind: str
    weights: int = 0
    frozen: bool = False
    count: int = 1


@dataclass(frozen=True)
class Flow:
    """What flows from where to where.

    Attributes:
        parts: fields first, then parts in the order in which they were used first, then losses.
        edges: names of what gives and what is given to.
    """

    parts: tuple[Part, ...]
    edges: tuple[tuple[str, str], ...]


def flow(model: Trains, batch: Mapping[str, Batch]) -> Flow:
    """Returns how the fields of a batch become the losses of a model: one pass, from which nothing is learnt.

    Parts are the modules that the model holds by name; of a dictionary of modules each entry, of a list all as one. A
    part that the batch does not reach is not told of.

    Raises:
        InvalidValue: the model is no module, or the batch gives no loss.
    """
    if not isinstance(model, nn.Module):
        raise InvalidValue(f"{type(model).__name__} is no torch module, so its parts are not known; give a system")
    parts = {name: module for name, module in _parts(model) if _is_told(module)}
    trace = _Trace(parts)
    with trace.watching():
        for name, part in batch.items():
            trace.mark(part.values, frozenset({name}))
        losses = model.losses(batch)
    if not losses:
        raise InvalidValue(f"a batch of {', '.join(batch) or 'nothing'} gives no loss; give the fields that it learns")
    for name, value in losses.items():
        trace.give(trace.marks(value), f"loss {name}")
    used = dict.fromkeys(name for edge in trace.edges for name in edge)
    found = [Part(name, "field") for name in batch if name in used]
    found += [_told(name, parts[name]) for name in used if name in parts]
    found += [Part(f"loss {name}", "loss") for name in losses]
    return Flow(tuple(found), tuple(trace.edges))


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Gives the parts of a model by their names."""
    for name, module in model.named_children():
        if isinstance(module, nn.ModuleDict):
            for key, inner in module.items():
                yield f"{name}.{key}", inner
        else:
            yield name, module


def _is_told(module: nn.Module) -> bool:
    """Returns whether a module is a part: it has weights, and does more than to bring numbers to a common scale."""
    return not isinstance(module, _BY_THE_WAY) and any(True for _ in module.parameters())


def _told(name: str, module: nn.Module) -> Part:
    """Returns a part as it is told of."""
    inside = list(module.children()) if isinstance(module, nn.ModuleList) else [module]
    weights = list(module.parameters())
    frozen = not any(p.requires_grad for p in weights)
    return Part(name, type(inside[0]).__name__, sum(p.numel() for p in weights), frozen, len(inside))


class _Trace(TorchFunctionMode):
    """Follows tensors through operations and parts."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        """Marks the weights of the parts."""
        super().__init__()
        self.edges: dict[tuple[str, str], None] = {}
        self._parts = parts
        self._kept: dict[int, tuple[Tensor, Marks]] = {}  # the tensor too, so that its number is no other's
        self._owners: dict[int, str] = {}  # of weights, and of what is made of nothing else
        for name, module in parts.items():
            for weight in (*module.parameters(), *module.buffers()):
                self._owners.setdefault(id(weight), name)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Returns a context in which operations and calls of parts are followed."""
        hooks = [
            hook for name, part in self._parts.items() for inner in part.modules() for hook in self._hooked(name, inner)
        ]
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _hooked(self, name: str, module: nn.Module) -> Iterator[Any]:
        """Puts hooks into a module of the part ``name``, and gives them."""

        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            for tensor in _tensors((args, kwargs)):
                self.give(self.marks(tensor), name)

        def after(module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            passed = {id(tensor) for tensor in _tensors((args, kwargs))}
            for tensor in _tensors(result):
                if id(tensor) not in passed:
                    self.mark(tensor, frozenset({name}))

        yield module.register_forward_pre_hook(before, with_kwargs=True)
        yield module.register_forward_hook(after, with_kwargs=True)

    def mark(self, tensor: Tensor, marks: Marks) -> None:
        """Keeps what a tensor is marked with."""
        self._kept[id(tensor)] = (tensor, marks)
        if not isinstance(tensor, nn.Parameter):
            self._owners.pop(id(tensor), None)

    def marks(self, tensor: Tensor) -> Marks:
        """Returns what a tensor is marked with."""
        found = self._kept.get(id(tensor))
        return found[1] if found else NONE

    def give(self, marks: Marks, to: str) -> None:
        """Keeps that what these stand for is given to ``to``."""
        for name in sorted(marks - {to}):
            self.edges.setdefault((name, to))

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Marks what an operation gives with what it was given."""
        result = func(*args, **(kwargs or {}))
        given = list(_tensors((args, kwargs or {})))
        marks = NONE.union(*(self.marks(one) for one in (given[:1] if func in _CHOOSING else given)))
        if func in _ADDING:  # what goes past a part and is added to what it gave went into it too
            marks = frozenset(one for one in marks if not any((one, other) in self.edges for other in marks))
        owners = {self._owners[id(one)] for one in given if id(one) in self._owners}
        for owner in sorted(owners):
            self.give(marks, owner)
        marks = frozenset(owners) or marks
        outputs = list(_tensors(result))
        if result is None and given:  # it was written into
            outputs, marks = given[:1], marks | self.marks(given[0])
        weights_alone = len(owners) == 1 and all(id(one) in self._owners for one in given)
        for one in outputs:
            if id(one) in self._owners:
                continue
            self.mark(one, marks)
            if weights_alone:
                self._owners[id(one)] = next(iter(owners))
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    """Gives the tensors in arguments or results, however they are nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from _tensors(inner)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))
