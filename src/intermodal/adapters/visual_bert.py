"""Published VisualBERT weights in the Hugging Face layout, read without it into our own ``systems/visualbert.py``.

A folder holds ``config.json`` (``model_type`` "visual_bert", written by ``VisualBertForPreTraining``), the weights as
safetensors, and the ``vocab.txt`` of the BERT that they were made from. Regions are given vectors: a ``TimeSeries`` in
the field "regions", one channel per number of a vector, one step per region, at 1 Hz. What comes out is a
``VisualBert`` like any other: it scores, trains, and is saved in our own layout.

Strict: every key of the file is spent, every weight is set. Left out, though they are in the files: the marks of second
sentences, and places of regions that a data set aligns to words. Refused by name: whatever else the file may ask for.

Source: Li et al. 2019, arXiv 1908.03557; the layout is that of transformers 5.
"""

from pathlib import Path

import torch
from torch import Tensor

from intermodal.adapters import _bert
from intermodal.adapters._files import Weights
from intermodal.decoders.asking import Roles
from intermodal.errors import InvalidCheckpoint, InvalidValue
from intermodal.systems.visualbert import Config, VisualBert, build

KIND = "VisualBertForPreTraining"
KNOWN = {
    "vocab_size": 30_522,
    "hidden_size": 768,
    "visual_embedding_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "bypass_transformer": False,
    "hidden_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
}
"""What the settings are where the file does not say."""


def load(folder: Path) -> VisualBert:
    """Returns the published model in ``folder``, in fp32.

    Raises:
        InvalidCheckpoint: a file is missing or damaged, a setting is not supported, or the weights do not fit the
            settings; lists every missing, unexpected and misshapen key.
    """
    found = _bert.settings_of(folder, KIND, KNOWN)
    text = _bert.texts_of(folder, found["vocab_size"], found["max_position_embeddings"])
    try:
        config = Config(
            Roles("regions", "text"),
            _bert.regions_of(found["visual_embedding_dim"]),
            text,
            width=found["hidden_size"],
            depth=found["num_hidden_layers"],
            heads=found["num_attention_heads"],
            mlp_width=found["intermediate_size"],
            dropout=found["hidden_dropout_prob"],
            norm_after=True,
            epsilon=found["layer_norm_eps"],
        )
        with torch.device("meta"):
            model = build(config)
    except InvalidValue as error:
        raise InvalidCheckpoint(f"{folder} describes no model of this package: {error}") from error
    weights = _bert.load(folder)
    state = _state(weights, config, found["type_vocab_size"])
    return _bert.filled(model, state, weights, folder)  # type: ignore[no-any-return]


def _state(weights: Weights, config: Config, kinds: int) -> dict[str, Tensor]:
    """Returns the weights by our names."""
    width, inner, places = config.width, config.mlp_width, config.text.tokens_max
    start = "visual_bert.embeddings"
    table = weights.take(f"{start}.word_embeddings.weight", config.text.tokenizer.vocab_size, width)
    said = weights.take(f"{start}.token_type_embeddings.weight", kinds, width)[0]
    shown = weights.take(f"{start}.visual_token_type_embeddings.weight", kinds, width)[-1]
    state = {
        "words.table.weight": table,
        "words.places.axes.0": weights.take(f"{start}.position_embeddings.weight", places, width),
        "words.blank": table[config.text.tokenizer.mask_id].clone(),
        "marks": torch.stack(
            (said, shown + weights.take(f"{start}.visual_position_embeddings.weight", places, width)[0])
        ),
    }
    state |= _bert.linear(weights, f"{start}.LayerNorm", "norm_in", width)
    state |= _bert.linear(weights, f"{start}.visual_projection", "seen.project", width, config.image.channels)
    for i in range(config.depth):
        state |= _bert.usual_block(weights, f"visual_bert.encoder.layer.{i}", f"blocks.{i}", width, inner)
    state |= _bert.linear(weights, "visual_bert.pooler.dense", "pool.project", width, width)
    state |= _bert.word_head(weights, table)
    match = _bert.linear(weights, "cls.seq_relationship", "match", 2, width)
    return state | {name: value.flip(0) for name, value in match.items()}  # published first: it matches
