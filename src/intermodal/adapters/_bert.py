"""What published models that came of BERT share: their settings, the names of their weights, and ours for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from intermodal.adapters import _files
from intermodal.adapters._files import Weights, read_object, weight_files
from intermodal.errors import InvalidCheckpoint, InvalidValue
from intermodal.modalities.text import TextPreprocessor
from intermodal.modalities.timeseries import TimeSeriesPreprocessor
from intermodal.saving import fingerprint
from intermodal.tokenizers.wordpiece import WordPieceTokenizer

REGIONS_MAX = 1000.0
READ = ("config.json", "vocab.txt", "tokenizer.json", "answers.txt")


def settings_of(folder: Path, kind: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings in a folder, checked as far as ``known`` says.

    Args:
        folder: a published one.
        kind: the library's class that has to have written it.
        known: name -> what holds where the file does not say. A whole number may be another of at least 1, the
            share ``hidden_dropout_prob`` and ``layer_norm_eps`` another number; all else must be as it is here.

    Raises:
        InvalidCheckpoint: the file cannot be read, another class wrote it, or a setting is not followed; names it.
    """
    found = read_object(folder / "config.json")
    written = (found.get("architectures") or [kind])[0]
    if written != kind:
        raise InvalidCheckpoint(f"{folder} was written by {written}; of this type the package reads {kind}")
    settings = {name: found.get(name, value) for name, value in known.items()}
    for name, value in settings.items():
        usual = known[name]
        if isinstance(usual, bool | str):
            fits, expected = value == usual, repr(usual)
        elif isinstance(usual, int):
            fits, expected = isinstance(value, int) and value >= 1, "a whole number of at least 1"
        else:
            fits, expected = isinstance(value, int | float) and 0 <= value < 1, "a number from 0 to below 1"
        if not fits:
            raise InvalidCheckpoint(f"{folder} has {name} {value!r}; expected {expected}: nothing else is followed")
    return settings


def tokenizer_of(folder: Path) -> WordPieceTokenizer:
    """Returns the tokenizer of a folder.

    Raises:
        InvalidCheckpoint: there is no vocabulary.
    """
    try:
        return WordPieceTokenizer.from_folder(folder)
    except InvalidCheckpoint:
        raise
    except InvalidValue as error:
        raise InvalidCheckpoint(f"{folder} holds no vocabulary of this package: {error}") from error


def texts_of(folder: Path, rows: int, tokens_max: int) -> TextPreprocessor:
    """Returns how texts are read.

    Raises:
        InvalidCheckpoint: there is no vocabulary, or it is not that of the weights.
    """
    tokenizer = tokenizer_of(folder)
    if tokenizer.vocab_size != rows:
        raise InvalidCheckpoint(
            f"{folder} has a vocabulary of {tokenizer.vocab_size} pieces and weights for {rows}; use the one that "
            "belongs to the weights"
        )
    return TextPreprocessor(tokenizer, tokens_max)


def regions_of(channels: int) -> TimeSeriesPreprocessor:
    """Returns how given regions are read: a series with one step per region."""
    return TimeSeriesPreprocessor(channels, 1.0, 1, REGIONS_MAX)


def load(folder: Path) -> Weights:
    """Returns the tensors in a folder, to be spent.

    Raises:
        InvalidCheckpoint: they cannot be read.
    """
    found = _files.load(weight_files(folder))
    return Weights({name: value for name, value in found.items() if not name.endswith("position_ids")})


def filled(model: nn.Module, state: Mapping[str, Tensor], weights: Weights, folder: Path) -> Any:
    """Returns the model, built without weights, with these; in eval mode.

    Raises:
        InvalidCheckpoint: what was found in the folder does not fit; lists every missing and unexpected key.
    """
    weights.finish(folder)
    model.load_state_dict(state, assign=True)
    named: Any = model.requires_grad_(True)
    named.fingerprint = fingerprint([p for p in (*(folder / n for n in READ), *weight_files(folder)) if p.exists()])
    return named.eval()


# ---- Weights by our names


def linear(weights: Weights, theirs: str, ours: str, *shape: int) -> dict[str, Tensor]:
    """Returns weight and bias of a product (out, in), or of a normalisation (width)."""
    return {
        f"{ours}.weight": weights.take(f"{theirs}.weight", *shape),
        f"{ours}.bias": weights.take(f"{theirs}.bias", shape[0]),
    }


def tied(weights: Weights, name: str, value: Tensor) -> None:
    """Spends a tensor that is the same as one already taken, where the file holds it twice."""
    if name in weights.left and not torch.equal(weights.take(name, *value.shape), value):
        weights.problems.append(f"{name} differs from what it is tied to")


def attention(weights: Weights, theirs: str, mixed: str, width: int, crossed: bool = False) -> dict[str, Tensor]:
    """Returns the weights of an attention of ours and of the normalisation after it, ``norm``.

    Args:
        weights: to be spent.
        theirs: where query, key and value are.
        mixed: where the product after them and its normalisation are.
        width: of all of them.
        crossed: the queries are of another sequence.
    """
    state: dict[str, Tensor] = {}
    for part, shape in (("weight", (width, width)), ("bias", (width,))):
        q, k, v = (weights.take(f"{theirs}.{name}.{part}", *shape) for name in ("query", "key", "value"))
        if crossed:
            state |= {f"attend.q.{part}": q, f"attend.kv.{part}": torch.cat((k, v))}
        else:
            state[f"attend.qkv.{part}"] = torch.cat((q, k, v))
    state |= linear(weights, f"{mixed}.dense", "attend.out", width, width)
    return state | linear(weights, f"{mixed}.LayerNorm", "norm", width)


def block(weights: Weights, names: Sequence[str], ours: str, width: int, inner: int) -> dict[str, Tensor]:
    """Returns the weights of a block of ours.

    Args:
        weights: to be spent.
        names: where query, key and value are, the product after them, the perceptron's first and its second product.
        ours: name of the block.
        width: D.
        inner: of the perceptron.
    """
    attend, mixed, first, second = names
    state = {}
    for name, value in attention(weights, attend, mixed, width).items():
        kind, _, rest = name.partition(".")
        state[f"{kind}_self.{rest}"] = value
    state |= linear(weights, f"{first}.dense", "mlp_in", inner, width)
    state |= linear(weights, f"{second}.dense", "mlp_out", width, inner)
    state |= linear(weights, f"{second}.LayerNorm", "norm_mlp", width)
    return {f"{ours}.{name}": value for name, value in state.items()}


def usual_block(weights: Weights, start: str, ours: str, width: int, inner: int) -> dict[str, Tensor]:
    """Returns the weights of a block whose parts have BERT's names."""
    names = (f"{start}.attention.self", f"{start}.attention.output", f"{start}.intermediate", f"{start}.output")
    return block(weights, names, ours, width, inner)


def word_head(weights: Weights, table: Tensor, start: str = "cls.predictions") -> dict[str, Tensor]:
    """Returns the weights of the head that tells words, ``tell``; that of its table is the table of words itself."""
    rows, width = table.shape
    state = linear(weights, f"{start}.transform.dense", "tell.transform.project", width, width)
    state |= linear(weights, f"{start}.transform.LayerNorm", "tell.transform.norm", width)
    second = f"{start}.decoder.bias"
    first = f"{start}.bias" if f"{start}.bias" in weights.left or second not in weights.left else second
    bias = weights.take(first, rows)
    tied(weights, second, bias)
    tied(weights, f"{start}.decoder.weight", table)
    return {**state, "tell.bias": bias}
