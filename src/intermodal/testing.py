"""The contract checks, for this package's parts and for yours.

Each takes a built part and raises ``AssertionError`` with a sentence if it breaks a contract of ``types.py``. The test
suite runs them over the whole catalogue; a new modality or system is found and tested by itself.
"""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from intermodal.saving import load_model, save_model
from intermodal.types import (
    Batch,
    Codes,
    Embeds,
    Grid,
    Item,
    Predicts,
    Preprocessor,
    Sample,
    Symbols,
    Trains,
    Translates,
)

TOLERANCE = 1e-5
"""How much a vector may differ in fp32 by what stands beside it."""


def check(condition: bool, sentence: str) -> None:
    """Raises ``AssertionError`` with ``sentence`` unless ``condition`` holds."""
    if not condition:
        raise AssertionError(sentence)


def check_preprocessor(preprocessor: Preprocessor, items: Sequence[Item]) -> None:
    """Checks a preprocessor on at least two items: layout, masks, absent items, the batch's influence, inversion."""
    batch = preprocessor(items)
    check_batch(batch, preprocessor)
    check(
        len(batch) == len(items) and bool(batch.present.all()), "each item must give one row with something real in it"
    )
    holes = preprocessor([None, *items, None])
    check(
        holes.present.tolist() == [False, *[True] * len(items), False],
        "an absent item must give a row whose mask is False",
    )
    check_batch(preprocessor([None, None]), preprocessor)
    for i, item in enumerate(items):
        alone = preprocessor([item])
        count = int(alone.mask.sum())
        check(count == int(batch.mask[i].sum()), f"item {i} has {count} tokens alone and another number in a batch")
        check(bool(alone.mask.all()), "a batch must be padded to its own longest item, not to a maximum")
        check(
            _same_cells(alone, batch.rows(torch.tensor([i])), preprocessor),
            f"item {i} has other values alone than in a batch",
        )
    back = preprocessor.invert(batch.values)
    check(len(back) == len(items), "invert must give one item per row")
    check(
        all(b.modality == preprocessor.modality for b in back), "invert must give items of the preprocessor's modality"
    )
    check(_is_numbers(preprocessor), "a preprocessor is a frozen dataclass of numbers, strings and such records")


def _is_numbers(record: Any) -> bool:
    """Returns whether ``record`` can be written as JSON by its fields alone."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return all(_is_numbers(getattr(record, f.name)) for f in dataclasses.fields(record))
    if isinstance(record, tuple):
        return all(_is_numbers(v) for v in record)
    return record is None or isinstance(record, bool | int | float | str)


def check_batch(batch: Batch, preprocessor: Preprocessor) -> int:
    """Checks that a batch has the preprocessor's layout and returns its number of tokens."""
    layout = preprocessor.layout
    tokens = batch.mask.shape[1]
    if isinstance(layout, Symbols):
        check(
            tuple(batch.values.shape) == (len(batch), tokens), f"ids have shape {tuple(batch.values.shape)}, not (B, T)"
        )
        inside = bool(((batch.values >= 0) & (batch.values < layout.vocab_size)).all())
        check(inside, "ids must lie in range(vocab_size)")
        return tokens
    check(
        isinstance(layout, Grid) and batch.values.dim() == 2 + layout.rank, "a grid has one axis per rank after B and C"
    )
    check(batch.values.shape[1] == layout.channels, "the channel axis must have the layout's channels")
    count = 1
    for size, step in zip(batch.values.shape[2:], layout.patch, strict=True):
        check(size % step == 0, f"a grid axis of {size} is no multiple of the patch {step}")
        count *= size // step
    check(count == tokens, f"the mask has {tokens} tokens, the grid {count} patches")
    return tokens


def _same_cells(alone: Batch, among: Batch, preprocessor: Preprocessor) -> bool:
    """Returns whether one item's real values are the same in two batches."""
    if isinstance(preprocessor.layout, Symbols):
        return bool((alone.values[alone.mask] == among.values[among.mask]).all())
    sizes = alone.values.shape
    window = among.values[tuple(slice(0, n) for n in sizes)]
    return bool((alone.values - window).abs().max() <= TOLERANCE)


def check_encoder(encoder: nn.Module, batch: Batch) -> None:
    """Checks an encoder on a batch of rows of different length: shapes, the mask, absent rows, batch and padding."""
    encoder.eval()
    with torch.no_grad():
        whole = encoder(batch)
        rows = len(batch)
        check(whole.pooled.shape == (rows, encoder.width), f"pooled is {tuple(whole.pooled.shape)}, not (B, width)")
        check(
            tuple(whole.tokens.shape[:2]) == tuple(whole.mask.shape) and whole.tokens.shape[2] == encoder.width,
            "tokens are (B, T, D)",
        )
        check(bool(torch.isfinite(whole.pooled).all()), "pooled vectors must be finite, also where a row is absent")
        absent = ~batch.present
        check(float(whole.pooled[absent].abs().sum()) == 0.0, "the pooled vector of an absent row must be zero")
        again = encoder(batch)
        check(bool((again.pooled == whole.pooled).all()), "the same batch must give the same vectors on every call")
        for i in batch.present.nonzero()[:, 0].tolist():
            alone = encoder(batch.rows(torch.tensor([i])))
            gap = float((alone.pooled[0] - whole.pooled[i]).abs().max())
            check(gap <= TOLERANCE, f"row {i} differs by {gap:.1e} alone from what it is in a batch")
        wild = Batch(_scrambled(batch), batch.mask)
        gap = float((encoder(wild).pooled - whole.pooled).abs().max())
        check(gap <= TOLERANCE, f"what stands in the padding changes the vectors by {gap:.1e}")


def _scrambled(batch: Batch) -> Tensor:
    """Returns the values with other numbers wherever a whole row is absent or an id is padding."""
    values = batch.values.clone()
    if values.dim() == 2 and not values.is_floating_point():
        values[~batch.mask] = int(values.max())
    else:
        values[~batch.present] = 1.0
    return values


def batches(model: Any, samples: Sequence[Sample]) -> dict[str, Batch]:
    """Returns one batch per field of ``model`` for some samples."""
    return {name: make([s.get(name) for s in samples]) for name, make in model.preprocessors.items()}


def check_trains(model: nn.Module, samples: Sequence[Sample], steps: int = 60) -> None:
    """Checks that each trained parameter gets a gradient, absent fields are taken, few samples are learnt by heart."""
    check(isinstance(model, Trains), "a system must have losses(batch)")
    model.train()
    batch = batches(model, samples)
    losses: Mapping[str, Tensor] = model.losses(batch)  # type: ignore[operator]
    check(bool(losses) and all(v.dim() == 0 for v in losses.values()), "losses must be named scalars, at least one")
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    without = [
        n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]
    check(not without, f"trained parameters without a finite gradient: {', '.join(without)}")
    holes = [{k: v for i, (k, v) in enumerate(s.items()) if (i + n) % 3} for n, s in enumerate(samples)]
    partial = model.losses(batches(model, holes))  # type: ignore[operator]
    check(all(bool(v.isfinite()) for v in partial.values()), "losses must be finite where fields are missing")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    first = last = 0.0
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, (step + 1) / 10)  # without the rise, losses stay at ln N
        loss = torch.stack(list(model.losses(batch).values())).sum()  # type: ignore[operator]
        last = float(loss.detach())
        first = last if step == 0 else first
        if last < 0.5 * first:
            return
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    check(False, f"{len(samples)} samples must be learnt by heart: the loss went from {first:.3f} to {last:.3f}")


def check_embeds(model: Any, items: Sequence[Item]) -> None:
    """Checks that items of mixed modalities get unit vectors, the same alone and in any company."""
    check(isinstance(model, Embeds), "a system must have embed(items)")
    together = model.embed(items)
    check(bool(((together.norm(dim=1) - 1).abs() < 1e-4).all()), "embed must give unit rows")
    reverse = model.embed(list(reversed(items))).flip(0)
    check(float((together - reverse).abs().max()) <= TOLERANCE, "an item's vector must not depend on the order")
    for i, item in enumerate(items):
        gap = float((model.embed([item])[0] - together[i]).abs().max())
        check(gap <= TOLERANCE, f"item {i} differs by {gap:.1e} alone from what it is in a batch")


def check_codes(model: Any, items: Sequence[Item]) -> None:
    """Checks that items of one field get ids in range, the same alone and in any company, and items come back."""
    check(isinstance(model, Codes), "a codec must have codes, groups, tokens(items) and items(ids)")
    together = model.tokens(items)
    ids, mask = together.values, together.mask
    check(
        ids.dtype == torch.int64 and tuple(ids.shape) == (len(items), mask.shape[1], model.groups),
        f"ids are int64 (N, T, G), not {ids.dtype} {tuple(ids.shape)}",
    )
    check(bool(((ids >= 0) & (ids < model.codes)).all()), "ids must lie in range(codes)")
    back = model.items(ids, mask)
    check(
        [item.modality for item in back] == [item.modality for item in items], "items(ids) gives an item for each row"
    )
    make = next(iter(model.preprocessors.values()))
    for i, item in enumerate(items):
        alone = model.tokens([item])
        check(
            bool((alone.values[0][alone.mask[0]] == ids[i][mask[i]]).all()), f"item {i} has other ids alone than here"
        )
        own, here = (make([made]).values for made in (model.items(alone.values, alone.mask)[0], back[i]))
        check(own.shape == here.shape, f"item {i} comes back in another size alone than here")
        check(float((own - here).abs().mean()) <= 0.01, f"item {i} comes back differently alone than here")


def check_translates(model: Any, items: Sequence[Item]) -> None:
    """Checks that items become as many of the field asked for, twice the same, one direction to each field."""
    check(isinstance(model, Translates), "a system must have directions and translate(items, to)")
    known = {name for direction in model.directions for name in direction}
    check(bool(known) and known <= set(model.preprocessors), "directions are pairs of fields that have a preprocessor")
    for source, to in _one_to_each(model):
        given = _of_field(model, source, items)
        made = model.translate(given, to, source=source)
        check(len(made) == len(given), f"{source} to {to} must give one item for each")
        own = model.preprocessors[to].modality
        check(all(item.modality == own for item in made), f"{source} to {to} must give items of {own}")
        check(
            _equal(model, to, made, model.translate(given, to, source=source)), f"{to} must be the same on every call"
        )


def check_predicts(model: Any, samples: Sequence[Sample]) -> None:
    """Checks that samples with any fields, all and none among them, are told of, the same alone and in any company."""
    check(isinstance(model, Predicts), "a system must have tasks and predict(samples)")
    read = [name for name in model.preprocessors if name not in model.tasks]
    whole = [{name: sample[name] for name in read if name in sample} for sample in samples]
    some = [*whole, {}, *({name: whole[0][name]} for name in whole[0])]
    together = model.predict(some)
    check(set(together) == set(model.tasks), "predict must tell of every task and of nothing else")
    for name, task in model.tasks.items():
        rows = together[name]
        check(tuple(rows.shape) == (len(some), task.outputs), f"{name} has the shape {tuple(rows.shape)}")
        check(bool(rows.isfinite().all()), f"{name} must be finite, also where nothing is known")
        if task.tells != "number":
            check(bool(((rows >= 0) & (rows <= 1)).all()), f"{name} must give probabilities")
        if task.tells == "classes":
            check(bool(((rows.sum(dim=1) - 1).abs() < 1e-4).all()), f"the classes of {name} must add up to 1")
        told = model.predict(samples)[name]
        check(bool((told == model.predict(whole)[name]).all()), f"{name} itself must not be looked at to tell it")
        for i, sample in enumerate(some):
            gap = float((model.predict([sample])[name][0] - rows[i]).abs().max())
            check(gap <= TOLERANCE * max(1.0, task.scale), f"row {i} of {name} differs by {gap:.1e} alone")


def _one_to_each(model: Translates) -> list[tuple[str, str]]:
    """Returns the first direction to each field."""
    return [(source, to) for to, source in {to: source for source, to in reversed(model.directions)}.items()]


def _of_field(model: Any, field: str, items: Sequence[Item]) -> list[Item]:
    """Returns the items that a field can hold."""
    return [item for item in items if item.modality == model.preprocessors[field].modality]


def _equal(model: Any, field: str, some: Sequence[Item], others: Sequence[Item]) -> bool:
    """Returns whether items of a field have the same values."""
    a, b = (model.preprocessors[field](given).values for given in (some, others))
    return a.shape == b.shape and bool((a == b).all())


def check_saves(model: Any, items: Sequence[Item]) -> None:
    """Checks that a saved and loaded model has the same config and gives the same vectors, ids and translations."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder) / "m", model)
        loaded = load_model(Path(folder) / "m")
    check(loaded.config == model.config, "the config must survive saving")
    model.eval()
    if isinstance(model, Embeds):
        check(bool((loaded.embed(items) == model.embed(items)).all()), "the vectors must survive saving, bit by bit")
    if isinstance(model, Codes):
        same = loaded.tokens(items).values == model.tokens(items).values
        check(bool(same.all()), "the ids must survive saving, each of them")
    if isinstance(model, Predicts):
        fields: Sequence[str] = list(model.preprocessors)  # type: ignore[attr-defined]
        told = [{name: item} for name in fields for item in _of_field(model, name, items)]
        before, after = model.predict(told), loaded.predict(told)
        check(all(bool((before[n] == after[n]).all()) for n in before), "what is told must survive saving, bit by bit")
    if isinstance(model, Translates):
        for source, to in _one_to_each(model):
            given = _of_field(model, source, items)
            made = [one.translate(given, to, source=source) for one in (model, loaded)]
            check(_equal(model, to, *made), f"translations to {to} must survive saving, bit by bit")
