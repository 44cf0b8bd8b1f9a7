"""Published SmolVLM2 weights: conversations about pictures, each seen whole and in tiles.

Folders of the first SmolVLM are of the type "idefics3". Left out: clips, whose preparation in the library needs
torchvision; give their frames as pictures.

Source: Marafioti et al. 2025, arXiv 2504.05299.
"""

from pathlib import Path

from intermodal.adapters import _chat
from intermodal.adapters.idefics3 import see

PREPARED = ("SmolVLMImageProcessorPil", "Idefics3ImageProcessorPil")


def load(folder: Path) -> _chat.Talker:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    return _chat.load(folder, _chat.Family("SmolVLMForConditionalGeneration", see, PREPARED))
