"""Small published folders with random weights, written by the library that others read them with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file

from intermodal.errors import InvalidCheckpoint
from intermodal.saving import load_model

WORDS = ("a", "photo", "of", "the", "cat", "dog", "barks", "what", "is", "red", "house", "yes", "no", "two")


def library() -> ModuleType:
    """Returns the library, quiet; skips the test where it is not installed."""
    found: ModuleType = pytest.importorskip("transformers")
    found.logging.set_verbosity(60)
    found.logging.disable_progress_bar()
    return found


def word_tokenizer(
    specials: tuple[str, ...] = ("<s>", "<pad>", "</s>", "<unk>"), lower: bool = False, **names: str
) -> Any:
    """Returns a tokenizer of words; ``names`` say which special symbol is what, those of CLS and SEP stand around."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    ids = {word: i for i, word in enumerate((*specials, *WORDS))}
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", **names}
    made = Tokenizer(models.WordLevel(ids, unk_token=names["unk_token"]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if lower:
        made.normalizer = normalizers.Lowercase()
    begin, end = names.get("cls_token", names.get("bos_token")), names.get("sep_token", names["eos_token"])
    around = f"{begin} $A {end}" if begin else f"$A {end}"
    made.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[(s, ids[s]) for s in (begin, end) if s]
    )
    return library().PreTrainedTokenizerFast(tokenizer_object=made, **names)


def shaken(network: Any, by: float = 0.1) -> Any:
    """Returns the network with every weight moved: biases and norms at zero and one would hide a mix-up."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(by * torch.randn(weight.shape, generator=generator))
    return network.eval()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Returns pixels with soft and hard edges."""
    rng = np.random.default_rng(seed)
    few = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), dtype=np.uint8)
    pixels = np.array(Pillow.fromarray(few).resize((width, height), Pillow.Resampling.BICUBIC))
    pixels[: height // 3, : width // 3] = rng.choice([0, 255], (height // 3, width // 3, 1))
    return pixels


def wave(seconds: float, rate: int, hz: float = 440.0) -> np.ndarray:
    """Returns a tone with a little noise, float32 ``(S,)``."""
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(size=len(times))
    return (0.5 * np.sin(2 * np.pi * hz * times) + 0.05 * noise).astype(np.float32)


def changed(folder: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """Returns a copy of a folder whose weights ``change`` has changed."""
    copy = shutil.copytree(folder, target)
    state = load_file(copy / "model.safetensors")
    change(state)
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    return copy


def rewritten(folder: Path, target: Path, file: str, **values: Any) -> Path:
    """Returns a copy of a folder in which a JSON file has other values."""
    copy = shutil.copytree(folder, target)
    (copy / file).write_text(json.dumps({**json.loads((copy / file).read_text()), **values}))
    return copy


def refused(folder: Path) -> str:
    """Returns the one sentence that a folder is refused with."""
    with pytest.raises(InvalidCheckpoint) as caught:
        load_model(folder)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence
    return sentence


def check_strict(folder: Path, tmp: Path) -> None:
    """Asserts that weights which are missing, left over or of another shape are named, all at once."""

    def spoil(state: dict[str, torch.Tensor]) -> None:
        first, second, *_ = sorted(name for name, value in state.items() if value.dim() == 2)
        state[f"{first}_renamed"] = state.pop(first)
        state[second] = torch.zeros(3, 5)
        state["old.position_ids"] = torch.arange(4)
        spoil.names = first, second  # type: ignore[attr-defined]

    sentence = refused(changed(folder, tmp / "spoilt", spoil))
    first, second = spoil.names  # type: ignore[attr-defined]
    assert f"missing {first}" in sentence
    assert f"unexpected {first}_renamed" in sentence
    assert f"{second} is (3, 5), not" in sentence
    assert "position_ids" not in sentence


def _tower(**more: Any) -> dict[str, Any]:
    return {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, **more}


def siglip(folder: Path, side: int = 38, places: int = 8) -> Any:
    """Writes a SigLIP folder and returns the network in it."""
    made_by = library()
    tokenizer = word_tokenizer(("<pad>", "</s>", "<unk>"), lower=True, pad_token="</s>")
    text = _tower(vocab_size=len(tokenizer), max_position_embeddings=places, projection_size=16)
    text |= {"bos_token_id": 1, "eos_token_id": 1}
    config = made_by.SiglipConfig(text_config=text, vision_config=_tower(image_size=side, patch_size=8))
    torch.manual_seed(0)
    network = shaken(made_by.SiglipModel(config))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    siglip_pictures()(size={"height": side, "width": side}, resample=3).save_pretrained(folder)
    return network


def siglip_pictures() -> Any:
    """Returns the library's preparation of pictures that needs no torchvision."""
    return library().models.siglip.image_processing_pil_siglip.SiglipImageProcessorPil
