"""Published LXMERT weights in the Hugging Face layout, read without that library into our own ``systems/lxmert.py``.

A folder holds ``config.json`` (``model_type`` "lxmert", written by ``LxmertForPreTraining``), weights as safetensors
and ``vocab.txt``; where it also holds ``answers.txt``, a line per answer, these are the words of its answers, else they
are called "answer 0" and so on, since the settings do not name them. Regions are given: a ``TimeSeries`` in the field
"regions", one step per region at 1 Hz, one channel per number of its vector and then four of its box, left, top, right,
bottom in shares of the picture. What comes out is a ``Lxmert`` like any other: it answers, scores, trains, and is saved
in our own layout.

Strict: every key of the file is spent, every weight is set. Left out, though they are in the files: the marks of second
sentences, and the two heads that name a detector's objects and attributes. Refused by name: whatever else the file may
ask for.

Source: Tan and Bansal 2019, arXiv 1908.07490; the layout is that of transformers 5.
"""

import logging
from pathlib import Path

import torch
from torch import Tensor

from intermodal.adapters import _bert
from intermodal.adapters._files import Weights
from intermodal.decoders.asking import ANSWER, QUESTION, Roles
from intermodal.errors import InvalidCheckpoint, InvalidValue
from intermodal.layers.regions import BOX
from intermodal.systems.lxmert import Config, Lxmert, build

KIND = "LxmertForPreTraining"
KNOWN = {
    "vocab_size": 30_522,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "num_qa_labels": 9500,
    "num_object_labels": 1600,
    "num_attr_labels": 400,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "l_layers": 9,
    "x_layers": 5,
    "r_layers": 5,
    "visual_feat_dim": 2048,
    "visual_pos_dim": 4,
    "hidden_act": "gelu",
    "task_obj_predict": True,
    "task_qa": True,
    "visual_obj_loss": True,
    "visual_attr_loss": True,
    "visual_feat_loss": True,
    "hidden_dropout_prob": 0.1,
}
"""What the settings are where the file does not say."""

EPSILON = 1e-12  # of every normalisation, whatever the settings say
_LOG = logging.getLogger(__name__)


def load(folder: Path) -> Lxmert:
    """Returns the published model in ``folder``, in fp32.

    Raises:
        InvalidCheckpoint: a file is missing or damaged, a setting is not supported, or the weights do not fit the
            settings; lists every missing, unexpected and misshapen key.
    """
    found = _bert.settings_of(folder, KIND, KNOWN)
    if found["visual_pos_dim"] != BOX:
        raise InvalidCheckpoint(f"{folder} has visual_pos_dim {found['visual_pos_dim']}; a box here has {BOX} numbers")
    text = _bert.texts_of(folder, found["vocab_size"], found["max_position_embeddings"])
    try:
        config = Config(
            Roles("regions", "text", QUESTION, ANSWER),
            _bert.regions_of(found["visual_feat_dim"] + BOX),
            text,
            _answers(folder, found["num_qa_labels"]),
            objectives=("words", "regions", "matching"),
            width=found["hidden_size"],
            depths=(found["l_layers"], found["r_layers"], found["x_layers"]),
            heads=found["num_attention_heads"],
            mlp_width=found["intermediate_size"],
            dropout=found["hidden_dropout_prob"],
            norm_after=True,
            epsilon=EPSILON,
        )
        with torch.device("meta"):
            model = build(config)
    except InvalidValue as error:
        raise InvalidCheckpoint(f"{folder} describes no model of this package: {error}") from error
    weights = _bert.load(folder)
    state = _state(weights, config, found["type_vocab_size"])
    for name, rows in (("obj", found["num_object_labels"]), ("attr", found["num_attr_labels"])):
        _bert.linear(weights, f"obj_predict_head.decoder_dict.{name}", name, rows, config.width)  # spent, not kept
    return _bert.filled(model, state, weights, folder)  # type: ignore[no-any-return]


def _answers(folder: Path, count: int) -> tuple[str, ...]:
    """Returns the words of the answers.

    Raises:
        InvalidCheckpoint: there are others than so many.
    """
    path = folder / "answers.txt"
    if not path.exists():
        _LOG.warning("%s does not say what its %d answers are; put answers.txt there, a line for each", folder, count)
        return tuple(f"answer {i}" for i in range(count))
    answers = tuple(path.read_text("utf-8").splitlines())
    if len(answers) != count:
        raise InvalidCheckpoint(f"{path} has {len(answers)} lines and the weights have {count} answers; give one each")
    return answers


def _state(weights: Weights, config: Config, kinds: int) -> dict[str, Tensor]:
    """Returns the weights by our names."""
    width, inner, start = config.width, config.mlp_width, "lxmert.embeddings"
    table = weights.take(f"{start}.word_embeddings.weight", config.text.tokenizer.vocab_size, width)
    state = {
        "words.table.weight": table,
        "words.places.axes.0": weights.take(f"{start}.position_embeddings.weight", config.text.tokens_max, width),
        "words.blank": table[config.text.tokenizer.mask_id].clone(),
        "mark": weights.take(f"{start}.token_type_embeddings.weight", kinds, width)[0].clone(),
    }
    state |= _bert.linear(weights, f"{start}.LayerNorm", "norm_in", width)
    numbers, start = config.image.channels - BOX, "lxmert.encoder.visn_fc"
    state |= _bert.linear(weights, f"{start}.visn_fc", "seen.stem.project", width, numbers)
    state |= _bert.linear(weights, f"{start}.visn_layer_norm", "norm_seen", width)
    state |= _bert.linear(weights, f"{start}.box_fc", "boxes", width, BOX)
    state |= _bert.linear(weights, f"{start}.box_layer_norm", "norm_boxes", width)
    for theirs, ours, depth in (("layer", "language", config.depths[0]), ("r_layers", "vision", config.depths[1])):
        for i in range(depth):
            state |= _bert.usual_block(weights, f"lxmert.encoder.{theirs}.{i}", f"{ours}.{i}", width, inner)
    for i in range(config.depths[2]):
        state |= _crossed(weights, f"lxmert.encoder.x_layers.{i}", f"crossed.{i}", width, inner)
    state |= _bert.linear(weights, "lxmert.pooler.dense", "pool.project", width, width)
    state |= _bert.word_head(weights, table)
    state |= _bert.linear(weights, "obj_predict_head.transform.dense", "show.project", width, width)
    state |= _bert.linear(weights, "obj_predict_head.transform.LayerNorm", "show.norm", width)
    state |= _bert.linear(weights, "obj_predict_head.decoder_dict.feat", "show_numbers", numbers, width)
    state |= _bert.linear(weights, "cls.seq_relationship", "match", 2, width)
    state |= _bert.linear(weights, "answer_head.logit_fc.0", "choose.transform.project", 2 * width, width)
    state |= _bert.linear(weights, "answer_head.logit_fc.2", "choose.transform.norm", 2 * width)
    return state | _bert.linear(weights, "answer_head.logit_fc.3", "choose.choose", len(config.answers), 2 * width)


def _crossed(weights: Weights, start: str, ours: str, width: int, inner: int) -> dict[str, Tensor]:
    """Returns the weights of one layer in which the streams look at each other."""
    shared = _bert.attention(weights, f"{start}.visual_attention.att", f"{start}.visual_attention.output", width, True)
    state = {f"{ours}.{name}": value for name, value in shared.items()}
    for theirs, mine in (("lang", "words"), ("visn", "regions")):
        attend = f"{start}.{theirs}_self_att"
        names = (f"{attend}.self", f"{attend}.output", f"{start}.{theirs}_inter", f"{start}.{theirs}_output")
        state |= _bert.block(weights, names, f"{ours}.{mine}", width, inner)
    return state
