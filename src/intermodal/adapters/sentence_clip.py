"""CLIP in the layout of sentence-transformers: a list of parts, of which the first holds the network in its own folder.

    modules.json    [{"path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    0_CLIPModel/    as ``clip`` reads it

What comes out is a ``Clip`` like any other. A ``Normalize`` after it changes nothing, since vectors have length 1 here;
other parts are refused by name.

Source: the layout is that of sentence-transformers 5 (Reimers and Gurevych 2019, arXiv 1908.10084).
"""

from pathlib import Path

from intermodal.adapters import clip
from intermodal.adapters._files import read_list
from intermodal.errors import InvalidCheckpoint
from intermodal.fetching import MODULES
from intermodal.systems.clip import Clip

PARTS = ("CLIPModel", "Normalize")


def load(folder: Path) -> Clip:
    """Returns the published model in ``folder``, in fp32.

    Raises:
        InvalidCheckpoint: its parts are others than a CLIP, or the CLIP is not one that can be read.
    """
    try:
        parts = [(str(one["type"]).rpartition(".")[2], str(one["path"])) for one in read_list(folder / MODULES)]
    except (KeyError, TypeError) as error:
        raise InvalidCheckpoint(f"{folder / MODULES} does not list parts with their types and paths") from error
    kinds = [kind for kind, _ in parts]
    if kinds[:1] != ["CLIPModel"] or any(kind not in PARTS[1:] for kind in kinds[1:]):
        raise InvalidCheckpoint(
            f"{folder} has the parts {', '.join(kinds) or '(none)'} and no config.json; read are a CLIPModel, and a "
            "Normalize after it"
        )
    inside = parts[0][1]
    if Path(inside).name != inside:
        raise InvalidCheckpoint(f"{folder / MODULES} names the folder {inside!r}, which is not inside this one")
    return clip.load(folder / inside)
