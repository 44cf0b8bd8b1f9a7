"""Published Qwen2.5-VL weights: conversations about pictures, each seen at nearly its own size.

Left out: clips, whose preparation in the library needs torchvision; give their frames as pictures.

Source: Bai et al. 2025, arXiv 2502.13923.
"""

from pathlib import Path

from intermodal.adapters import _chat
from intermodal.adapters.qwen2_vl import PREPARED, see


def load(folder: Path) -> _chat.Talker:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    return _chat.load(folder, _chat.Family("Qwen2_5_VLForConditionalGeneration", see, PREPARED, marked=True))
