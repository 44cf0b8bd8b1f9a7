"""Published LLaVA weights: conversations about pictures, each seen at one size.

Read are folders whose pictures go through CLIP or SigLIP. Left out: other towers, such as that of Pixtral, and the
families LLaVA-NeXT and OneVision, which cut pictures into tiles; refused by name.

Source: Liu et al. 2023, arXiv 2304.08485 and 2310.03744.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from intermodal.adapters import _chat
from intermodal.adapters._files import read_object
from intermodal.errors import InvalidCheckpoint

BESIDE = {"clip_vision_model": 1, "siglip_vision_model": 0}
"""Tower -> vectors that it gives besides one per patch."""

PREPARED = ("CLIPImageProcessorPil", "LlavaImageProcessorPil", "SiglipImageProcessorPil")


def load(folder: Path) -> _chat.Talker:
    """Returns the published model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    tower = (read_object(folder / "config.json").get("vision_config") or {}).get("model_type", "clip_vision_model")
    if tower not in BESIDE:
        raise InvalidCheckpoint(f"{folder} sees by {tower}; of LLaVA this package reads {', '.join(BESIDE)}")
    return _chat.load(folder, _chat.Family("LlavaForConditionalGeneration", see, PREPARED))


def see(eyes: _chat.Eyes, pictures: list[Any]) -> tuple[dict[str, Tensor], list[str]]:
    """Returns pixels ``(N, 3, side, side)``, and a mark for each vector that the language model gets of a picture."""
    pixels: Tensor = eyes.made(pictures, return_tensors="pt")["pixel_values"]
    seen = eyes.config.vision_config
    side = int(seen.image_size)
    _chat.fits(
        tuple(pixels.shape[2:]) == (side, side), f"pictures become {tuple(pixels.shape[2:])}, not {side} x {side}"
    )
    count = (side // int(seen.patch_size)) ** 2 + BESIDE[seen.model_type]
    count -= eyes.config.vision_feature_select_strategy == "default"  # the first is left out
    return {"pixel_values": pixels}, [eyes.mark * count] * len(pictures)
