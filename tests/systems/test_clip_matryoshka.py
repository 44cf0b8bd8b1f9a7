"""Vectors that can be cut: the loss of every length, and what is found with the short ones."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from intermodal import config as configs
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue
from intermodal.saving import load_model, save_model
from intermodal.systems.clip import Clip, Config, build, sized
from intermodal.testing import batches
from intermodal.tokenizers.word import WordTokenizer

SAMPLES = Diorama("train", size=64).samples(range(6))
WORDS = WordTokenizer(words=Diorama.vocabulary)
FIELDS = {"text": "text", "image": "image"}


def clip(matryoshka: tuple[int, ...], **changes: object) -> Clip:
    torch.manual_seed(0)
    made = sized("tiny", FIELDS, WORDS)
    return build(Config(**{**vars(made), "matryoshka": matryoshka, **changes})).eval()  # type: ignore[arg-type]


def by_hand(a: np.ndarray, b: np.ndarray, width: int) -> float:
    """Returns InfoNCE of the first numbers of rows of both sides, as a sum over pairs."""
    a, b = (x[:, :width] / np.linalg.norm(x[:, :width], axis=1, keepdims=True) for x in (a, b))
    logits = a @ b.T / 0.07
    total = 0.0
    for i in range(len(a)):
        total -= logits[i, i] - math.log(np.exp(logits[i]).sum())
        total -= logits[i, i] - math.log(np.exp(logits[:, i]).sum())
    return total / (2 * len(a))


def test_the_loss_is_the_sum_over_all_lengths() -> None:
    model = clip((8, 32))
    batch = batches(model, SAMPLES)
    a, b = (model.vectors(name, batch[name]).detach().double().numpy() for name in FIELDS)
    found = {name: loss.detach().item() for name, loss in model.losses(batch).items()}
    assert found == pytest.approx(
        {
            "text-image": by_hand(a, b, 128) / 3,
            "text-image.8": by_hand(a, b, 8) / 3,
            "text-image.32": by_hand(a, b, 32) / 3,
        },
        rel=1e-4,
    )
    plain = clip(()).losses(batch)["text-image"].detach().item()
    assert found["text-image"] * 3 == pytest.approx(plain, rel=1e-5)


def test_the_sigmoid_loss_has_every_length_too() -> None:
    model = clip((16,), objective="sigmoid")
    batch = batches(model, SAMPLES)
    a, b = (model.vectors(name, batch[name])[:, :16] for name in FIELDS)
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    logits = (a @ b.T / 0.07 - 10).detach()
    signs = 2 * torch.eye(len(a)) - 1
    expected = -torch.nn.functional.logsigmoid(signs * logits).sum().item() / len(a) / 2
    assert model.losses(batch)["text-image.16"].detach().item() == pytest.approx(expected, rel=1e-4)


def test_short_vectors_are_the_first_numbers_of_unit_length() -> None:
    model = clip((32,))
    items = [sample[name] for sample in SAMPLES for name in FIELDS]
    whole, short = model.embed(items), model.embed(items, width=32)
    torch.testing.assert_close(short, whole[:, :32] / whole[:, :32].norm(dim=1, keepdim=True))
    torch.testing.assert_close(model.embed(items, width=128), whole)
    for width in (0, 129):
        with pytest.raises(InvalidValue, match=f"width is {width}, and the vectors have 128 numbers"):
            model.embed(items, width=width)


def test_the_widths_are_kept_and_set_from_the_command_line(tmp_path: Path) -> None:
    model = load_model(save_model(tmp_path / "model", clip((8, 32))))
    assert model.config.matryoshka == (8, 32)
    assert configs.override(model.config, {"matryoshka": "16,64"}).matryoshka == (16, 64)
    before = configs.to_dict(model.config)
    del before["matryoshka"]
    assert configs.from_dict(Config, before).matryoshka == ()


@pytest.mark.parametrize("widths", [(0,), (128,), (32, 32), (-1,)])
def test_widths_that_are_none_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(InvalidValue, match="give different widths from 1 to 127"):
        clip(widths)
