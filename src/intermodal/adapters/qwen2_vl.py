"""Published Qwen2-VL weights: conversations about pictures, each seen at nearly its own size.

Left out: clips, whose preparation in the library needs torchvision; give their frames as pictures.

Source: Wang et al. 2024, arXiv 2409.12191.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from intermodal.adapters import _chat

PREPARED = ("Qwen2VLImageProcessorPil",)


def load(folder: Path) -> _chat.Talker:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    return _chat.load(folder, _chat.Family("Qwen2VLForConditionalGeneration", see, PREPARED, marked=True))


def see(eyes: _chat.Eyes, pictures: list[Any]) -> tuple[dict[str, Tensor], list[str]]:
    """Returns patches ``(P, numbers)`` with each picture's grid of them, and a mark for each square of patches."""
    made = eyes.made(pictures, return_tensors="pt")
    seen = eyes.config.vision_config
    cut = int(eyes.made.patch_size), int(eyes.made.merge_size), int(eyes.made.temporal_patch_size)
    read = int(seen.patch_size), int(seen.spatial_merge_size), int(seen.temporal_patch_size)
    _chat.fits(cut == read, f"patches are cut and joined by {cut}, and the network reads {read}")
    grids: Tensor = made["image_grid_thw"]
    symbols = [eyes.mark * (int(grid.prod()) // cut[1] ** 2) for grid in grids]
    return {"pixel_values": made["pixel_values"], "image_grid_thw": grids}, symbols
