"""Published sentence encoders of the BERT family, in the layout of sentence-transformers: texts to unit vectors.

A folder holds ``config.json`` (``model_type`` "bert"), the weights, the tokenizer, and ``1_Pooling/config.json``, which
says how tokens become one vector: their mean, or the first of them. What comes out embeds, scores, and sorts texts into
labels. A BERT without that file was not trained to place sentences, and is refused. ``states`` tells more than the
vector: every layer's mean, and the tokens of the last one; heads that are trained on pairs make use of it.

Left out: poolings by maximum or by the root of the length, dense layers after it, prompts.

Source: Reimers and Gurevych 2019, arXiv 1908.10084; Wang et al. 2020, "MiniLM", arXiv 2002.10957.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from intermodal.adapters import _tokens, _transformers
from intermodal.adapters._dual import Dual, Reading
from intermodal.adapters._files import read_list, read_object
from intermodal.decoders.projection import Said
from intermodal.errors import InvalidCheckpoint
from intermodal.layers.pooling import pool_mean
from intermodal.types import Batch, Item

SCALE = 20.0
"""What cosines were multiplied by in training."""

PARTS = ("Transformer", "Pooling", "Normalize")
"""Of a folder, by the names in ``modules.json``; there is no other that is followed."""

SPARE = ("pooler.dense.weight", "pooler.dense.bias")


class Sentences(Dual):
    """A dual encoder that reads texts alone, and tells what lies between its layers."""

    @torch.no_grad()
    def states(self, items: Sequence[Item], fields: str | None = None) -> Said:
        """Returns what ``told`` does of items.

        Args:
            items: texts.
            fields: ``text``, or None.
        """
        return self.told(self._readings[self.field_of(fields or "text")].preprocessor(items).to(self.device))

    def told(self, batch: Batch) -> Said:
        """Returns the tokens of the last layer, and side by side as the pooled the means over words, and the last two.

        Heads trained on few pairs find less in all layers than in these three: docs/log.md.
        """
        found = self.network(
            input_ids=batch.values, attention_mask=batch.mask.long(), output_hidden_states=True
        ).hidden_states
        chosen = [found[i] for i in sorted({0, len(found) - 2, len(found) - 1})]
        return Said(found[-1], batch.mask, torch.cat([pool_mean(x, batch.mask) for x in chosen], dim=1))


def load(folder: Path) -> Sentences:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other, or it is no sentence encoder.
    """
    _transformers.library()  # said before what the folder lacks
    vectors = _pooling(folder)
    network = _transformers.load(folder, "BertModel", SPARE)
    tokens = _tokens.load(folder, "PreTrainedTokenizerFast", network.config.vocab_size)
    longest = int(network.config.max_position_embeddings)
    if (folder / "sentence_bert_config.json").exists():
        longest = min(longest, int(read_object(folder / "sentence_bert_config.json").get("max_seq_length") or longest))
    texts = _tokens.Texts(tokens, longest)
    return Sentences(folder, network, {"text": Reading(texts, vectors)}, lambda _, x: (SCALE * x).softmax(dim=-1))


def _pooling(folder: Path) -> Callable[[Any, Batch], Tensor]:
    """Returns how a network and a batch of ids give one vector per text.

    Raises:
        InvalidCheckpoint: the folder does not say how, or says what is not followed.
    """
    path = folder / "1_Pooling" / "config.json"
    if not path.exists():
        raise InvalidCheckpoint(
            f"{folder} has no 1_Pooling/config.json, so it was not trained to place sentences; give a sentence encoder "
            "in the layout of sentence-transformers"
        )
    if (folder / "modules.json").exists():
        try:
            kinds = [str(part["type"]).rpartition(".")[2] for part in read_list(folder / "modules.json")]
        except (KeyError, TypeError) as error:
            raise InvalidCheckpoint(f"{folder / 'modules.json'} does not list parts and their types") from error
        if odd := [kind for kind in kinds if kind not in PARTS]:
            raise InvalidCheckpoint(f"{folder} has the parts {', '.join(odd)}; followed are {', '.join(PARTS)} alone")
    told = read_object(path)
    chosen = [name for name, value in told.items() if name.startswith("pooling_mode_") and value is True]
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "pooling_mode_mean_tokens": pool_mean,
        "pooling_mode_cls_token": lambda tokens, mask: tokens[:, 0],
    }
    if len(chosen) != 1 or chosen[0] not in ways:
        raise InvalidCheckpoint(f"{path} says {', '.join(chosen) or 'nothing'}; followed is one of {', '.join(ways)}")
    way = ways[chosen[0]]

    def vectors(network: Any, batch: Batch) -> Tensor:
        found = network(input_ids=batch.values, attention_mask=batch.mask.long())
        return way(found.last_hidden_state, batch.mask)

    return vectors
