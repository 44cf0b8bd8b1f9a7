"""Published Idefics3 weights: conversations about pictures, each seen whole and in tiles.

Folders of the first SmolVLM are of this type too. How large a picture is made and whether it is cut, the folder says.

Source: Laurençon et al. 2024, arXiv 2408.12637.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from intermodal.adapters import _chat

AROUND, WHOLE = "<fake_token_around_image>", "<global-img>"
"""What stands around the marks of a part, and before those of the whole picture, where the tokenizer does not say."""


def load(folder: Path) -> _chat.Talker:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    return _chat.load(folder, _chat.Family("Idefics3ForConditionalGeneration", see, ("Idefics3ImageProcessorPil",)))


def see(eyes: _chat.Eyes, pictures: list[Any]) -> tuple[dict[str, Tensor], list[str]]:
    """Returns pixels ``(1, parts, 3, side, side)`` with their mask, and the marks of each picture's parts."""
    made = eyes.made([pictures], return_row_col_info=True, return_tensors="pt")
    seen = eyes.config.vision_config
    side, found = int(seen.image_size), tuple(made["pixel_values"].shape[3:])
    _chat.fits(found == (side, side), f"parts of pictures become {found}, not {side} x {side}")
    marks = eyes.mark * ((side // int(seen.patch_size)) ** 2 // int(eyes.config.scale_factor) ** 2)
    symbols = [_parts(marks, rows, columns) for rows, columns in zip(made["rows"][0], made["cols"][0], strict=True)]
    return {name: made[name] for name in ("pixel_values", "pixel_attention_mask")}, symbols


def _parts(marks: str, rows: int, columns: int) -> str:
    """Returns what stands for a picture: its tiles row by row, if any, then the whole."""
    whole = f"{AROUND}{WHOLE}{marks}{AROUND}"
    if not rows:
        return whole
    tiles = [
        "".join(f"{AROUND}<row_{row}_col_{column}>{marks}" for column in range(1, columns + 1))
        for row in range(1, rows + 1)
    ]
    return "\n".join((*tiles, "", whole))
