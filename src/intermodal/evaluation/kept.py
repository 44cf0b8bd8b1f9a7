"""What was measured of a model, kept in its folder as ``figures.json``, so that whoever loads it can be told.

    {"translate": {"what": "share of the attributes that arrive", "data": "diorama", "split": "test", "samples": 1000,
                   "pairs": {"text>image": 0.97, ...}}, "search": {...}}

A model that is saved in the place of another takes the figures of that one away.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intermodal.errors import InvalidValue
from intermodal.fetching import HUB
from intermodal.saving import figures_of, folder_of, keep_figures

WHAT = {
    "search": "Recall@1 as a share of the best possible",
    "translate": "share of the attributes that arrive",
}
"""Measurement -> what its figures are."""


def kept(name: str | Path, result: Mapping[str, Any]) -> Path:
    """Writes the figures of a measurement into the folder of its model and returns the path of the file.

    Args:
        name: of the model.
        result: what ``protocols.any_to_any`` or ``translations.translations`` gave.

    Raises:
        InvalidValue: the result has no figures of pairs, or the model is another's, whose folder is left as it is.
    """
    if str(name).startswith(HUB):
        raise InvalidValue(
            f"the figures of {name} cannot be kept: its folder is the hub's; save the model in one of yours"
        )
    if "directions" in result:
        kind, pairs = "translate", {way: one["attribute_accuracy"] for way, one in result["directions"].items()}
    elif "pairs" in result:
        own = result["pairs"].items()
        kind, pairs = "search", {pair: one.get("share_of_ceiling", one["recall_at_1"]) for pair, one in own}
    else:
        raise InvalidValue("only figures of searching and of translating are kept with a model")
    told = {"what": WHAT[kind], "data": result["name"], "split": result["split"], "samples": result["count"]}
    if kind == "search" and any("share_of_ceiling" not in one for one in result["pairs"].values()):
        told["what"] = "Recall@1"
    folder = folder_of(name)
    return keep_figures(folder, {**figures_of(folder), kind: {**told, "pairs": pairs}})
