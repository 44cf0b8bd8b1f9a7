"""DALL-E 2: its parts meet as in the paper, what is drawn is of its item alone, and what was learnt is drawn."""

import dataclasses
import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from intermodal.config import from_dict, override, to_dict
from intermodal.decoders.denoiser import Stage
from intermodal.decoders.prior import AutoregressivePrior, Prior
from intermodal.encoders.tower import TowerConfig
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.sampling.autoregressive import Sampling
from intermodal.sampling.diffusion import Drawing, Drawn
from intermodal.sampling.unclip import Wanted
from intermodal.saving import load_model, save_model
from intermodal.systems import clip, codec
from intermodal.systems.dalle2 import Config, DallE2, build, sized
from intermodal.testing import batches
from intermodal.tokenizers.codebook import Codebook
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import Completes, Trains, Translates

WORDS = WordTokenizer(words=("red", "green", "blue", "a", "big", "square"))
TEXTS = [Text("red"), Text("a big green square"), Text("a blue square")]
PIXELS = ImagePreprocessor(16, 16, 8)


def flat(red: int, green: int, blue: int) -> Image:
    return Image(np.full((16, 16, 3), (red, green, blue), np.uint8))


PICTURES = [flat(200, 20, 20), flat(20, 200, 20), flat(20, 20, 200)]
SAMPLES: list[dict[str, Any]] = [{"text": t, "image": p} for t, p in zip(TEXTS, PICTURES, strict=True)]


def clip_config() -> clip.Config:
    text = TowerConfig(TextPreprocessor(WORDS, 8), width=16, depth=1, heads=2, sizes=(8,))
    image = TowerConfig(PIXELS, width=16, depth=1, heads=2, sizes=(2, 2))
    return clip.Config({"text": text, "image": image}, 8)


def codec_config(**changes: Any) -> codec.Config:
    book = Codebook("fsq", (5, 4), 2)
    made = codec.Config("image", PIXELS, (2, 2), (4, 4), (16, 24), 32, 1, 2, book, -0.4, 0.4)
    return dataclasses.replace(made, **changes)


def config(coded: bool = False, **changes: Any) -> Config:
    numbers: dict[str, Any] = {
        "clip": clip_config(),
        "latent": codec_config() if coded else None,
        "prior": Prior(width=32, depth=1, heads=2, components=8, levels=16, steps=4),
        "decoder": Stage(1 if coded else 4, 32, 2, 2, 0 if coded else 4),
        "upsampler": Stage(8, 32, 1, 2, 4, learns=0.5),
        "drawing": Drawing(steps=4, guidance=1.5),
    }
    return Config(**{**numbers, **changes})


def small(coded: bool = False, seed: int = 0, **changes: Any) -> DallE2:
    """Returns a small one; what begins at zero is stirred, so that all that is given makes a difference."""
    torch.manual_seed(seed)
    model = build(config(coded, **changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith(("clip.", "latent.")):
                parameter.add_(torch.randn(parameter.shape) * 0.05)
    return model.eval()


def pixels(items: Any) -> Tensor:
    return torch.from_numpy(np.stack([item.pixels for item in items])).float()


FORMS: list[dict[str, Any]] = [
    {},
    {"coded": True},
    {"reduced": 1},
    {"captions": 0.0},
    {"prior": Prior("autoregressive", 32, 1, 2, components=8, levels=16)},
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_draws_and_is_kept(form: dict[str, Any], tmp_path: Any) -> None:
    model = small(**form)
    for protocol in (Trains, Translates, Completes):
        assert isinstance(model, protocol)
    assert model.directions == (("text", "image"), ("image", "image"))
    assert (model.upsampler is None) == (form.get("coded", False) or form.get("reduced") == 1)
    model.train()
    found = model.losses(batches(model, SAMPLES))
    assert set(found) == {"prior", "decoder"} | ({"upsampler"} if model.upsampler else set())
    torch.stack(list(found.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not [n for n, p in model.named_parameters() if n.startswith(("clip.", "latent.")) and p.requires_grad]
    save_model(tmp_path / "m", model)
    loaded = load_model(tmp_path / "m")
    assert loaded.config == model.config
    for given in (TEXTS, PICTURES):
        made = model.translate(given, "image")
        assert [item.pixels.shape for item in made] == [(16, 16, 3)] * 3
        assert torch.equal(pixels(made), pixels(loaded.translate(given, "image")))


@pytest.mark.parametrize("solver", ["dpm", "ddpm"])
def test_what_is_drawn_is_the_same_alone_and_in_company(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, how = small(), Drawing(solver, 3, 1.5, seed=5)
    samples: list[Any] = [{"text": TEXTS[0]}, {"image": PICTURES[1]}, {"text": TEXTS[2], "image": PICTURES[2]}]
    together = model.candidates(samples, "image", sampling=how, count=3)
    monkeypatch.setattr("intermodal.systems.dalle2.ROWS", 3)
    for sample, row in zip(samples, together, strict=True):
        assert [one.score for one in row] == sorted((one.score for one in row), reverse=True)
        assert len({one.item.pixels.tobytes() for one in row}) == 3
        alone = model.candidates([sample], "image", sampling=how, count=3)[0]
        assert float((pixels(a.item for a in alone) - pixels(b.item for b in row)).abs().max()) <= 1
    other = model.candidates(samples[:1], "image", sampling=dataclasses.replace(how, seed=6), count=3)
    assert not np.array_equal(other[0][0].item.pixels, together[0][0].item.pixels)
    unasked = model.candidates([{"text": TEXTS[2]}], "image", sampling=how, count=3)[0]
    assert float((pixels(a.item for a in unasked) - pixels(b.item for b in together[2])).abs().max()) <= 1


def test_a_score_is_the_cosine_of_what_was_given_and_made() -> None:
    model = small()
    for given, row in zip(
        [TEXTS[0], PICTURES[1]], model.candidates([{"text": TEXTS[0]}, {"image": PICTURES[1]}], "image"), strict=True
    ):
        a, b = model.clip.embed([given]), model.clip.embed([row[0].item])
        assert row[0].score == pytest.approx(float((a * b).sum()), abs=1e-4)


def test_of_a_sampling_for_ids_the_seed_counts() -> None:
    model = small()
    plain = model.translate(TEXTS[:1], "image", sampling=dataclasses.replace(model.config.drawing, seed=4))
    assert torch.equal(pixels(model.translate(TEXTS[:1], "image", sampling=Sampling(1.0, seed=4))), pixels(plain))
    assert not torch.equal(pixels(model.translate(TEXTS[:1], "image")), pixels(plain))


def test_each_step_is_told_and_the_speed_logged(caplog: pytest.LogCaptureFixture) -> None:
    model, told = small(), []

    def watch(what: str, now: Drawn) -> None:
        told.append((what, now.step, now.steps))

    model.on_step = watch
    with caplog.at_level(logging.INFO, "intermodal"):
        model.translate(TEXTS[:2], "image")
    assert told == [(what, i, 4) for what in ("prior", "decoder", "upsampler") for i in range(1, 5)]
    assert "decoder: 2 rows, 4 steps, " in caplog.text
    assert "steps/s" in caplog.text


@torch.no_grad()
def test_vectors_and_sentences_are_those_of_clip() -> None:
    model = small()
    batch = batches(model, [SAMPLES[0], {"image": PICTURES[1]}, {"text": TEXTS[2]}])
    tokens, mask, said = model.sentence(batch["text"])
    torch.testing.assert_close(said[[0, 2]], model.clip.embed([TEXTS[0], TEXTS[2]]))
    torch.testing.assert_close(model.vectors(batch["image"])[:2], model.clip.embed(PICTURES[:2]))
    assert not said[1].any()
    assert tokens.shape[:2] == mask.shape


def test_one_of_the_vectors_that_were_drawn_agrees_best() -> None:
    model = small(prior=Prior(width=32, depth=1, heads=2, steps=3, candidates=4))
    said = model.sentence(batches(model, SAMPLES)["text"])
    with torch.no_grad():
        best = model.imagined(said, [1, 2, 3], 0)
        one = dataclasses.replace(model.config, prior=dataclasses.replace(model.config.prior, candidates=1))
        model.config = one
        each = [model.imagined(said, [4 * n + i for n in (1, 2, 3)], 0) for i in range(4)]
    agreed = torch.stack([(vectors * said[2]).sum(dim=1) for vectors in each])
    torch.testing.assert_close((best * said[2]).sum(dim=1), agreed.amax(dim=0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(best.norm(dim=1), torch.ones(3))


@torch.no_grad()
def test_codes_are_drawn_as_numbers_and_decoded_as_they_are() -> None:
    model = small(coded=True)
    batch = model.preprocessors["image"](PICTURES)
    numbers = model.reduced(batch.values)
    assert numbers.shape == (3, 4, 2, 2)
    assert float(numbers.abs().max()) <= 1
    assert model.latent is not None
    ids = model.latent.tokens(PICTURES).values
    torch.testing.assert_close(model.latent.codebook.ids_near(numbers.flatten(2).transpose(1, 2)), ids)


@torch.no_grad()
def test_small_pictures_are_the_mean_of_blocks() -> None:
    model = small()
    values = torch.randn(1, 3, 16, 16)
    found = model.reduced(values)
    assert found.shape == (1, 3, 8, 8)
    assert float(found[0, 1, 2, 3]) == pytest.approx(float(values[0, 1, 4:6, 6:8].mean()), abs=1e-6)


@torch.no_grad()
def test_colours_stay_colours() -> None:
    model = small()
    for parameter in model.upsampler.smooth.parameters():  # type: ignore[union-attr]
        parameter.mul_(100)
    vectors = F.normalize(torch.randn(2, 8), dim=-1)
    values = model.pictures(Wanted(vectors, [0, 1]), Drawing(steps=2))
    assert float(values.abs().max()) == pytest.approx(1.0)


def test_missing_fields_are_left_out_of_the_losses() -> None:
    model = small().train()
    for rows, expected in (
        ([{"text": TEXTS[0]}], set()),
        ([{"image": PICTURES[0]}, {"text": TEXTS[1]}], {"decoder", "upsampler"}),
        ([{"image": PICTURES[0]}, SAMPLES[1]], {"prior", "decoder", "upsampler"}),
    ):
        found = model.losses(batches(model, rows))
        assert set(found) == expected
        assert all(bool(value.isfinite()) for value in found.values())


def test_what_was_learnt_is_drawn_from_words_and_from_pictures() -> None:
    """Three sentences and their pictures, by heart, with a CLIP whose vectors are as they were drawn."""
    torch.manual_seed(0)
    model = build(config(reduced=1, captions=0.0)).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=4e-3)
    batch = batches(model, SAMPLES * 4)
    for step in range(120):
        optimizer.param_groups[0]["lr"] = 4e-3 * min(1.0, (step + 1) / 10, (120 - step) / 60)
        optimizer.zero_grad()
        torch.stack(list(model.losses(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    how = Drawing(steps=6)
    for given in (TEXTS, PICTURES):
        made = pixels(model.translate(given, "image", sampling=how)).mean(dim=(1, 2))
        wanted = pixels(PICTURES).mean(dim=(1, 2))
        assert torch.cdist(made, wanted).argmin(dim=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("samples", "to", "count", "kind", "message"),
    [
        ([{"text": TEXTS[0]}], "video", 1, Unsupported, "draws image from text or image; it makes no video"),
        ([{"text": TEXTS[0]}], "image", 0, InvalidValue, "0 candidates were asked for"),
        ([{"text": PICTURES[0]}], "image", 1, Unsupported, r"the sample has text \(image\)"),
        ([{}], "image", 1, Unsupported, "the sample has no field"),
    ],
)
def test_what_cannot_be_drawn_is_explained(
    samples: list[Any], to: str, count: int, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        small().candidates(samples, to, count=count)
    assert small().candidates([], "image") == []


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"clip": None}, InvalidValue, "dalle2 has no clip"),
        ({"text_field": "caption"}, UnknownName, "tower of the clip, for text, named 'caption'"),
        ({"picture_field": "text"}, InvalidValue, "the field 'text' of the clip is text; dalle2 needs image there"),
        ({"captions": 2.0}, InvalidValue, "captions 2.0 is 0 to 1"),
        ({"reduced": 3}, InvalidValue, "reduced is 3; it must divide pictures of 16 x 16"),
        ({"latent": codec_config(codebook=Codebook("vq"))}, Unsupported, "made by fsq, not vq of image"),
        (
            {"latent": codec_config(preprocessor=ImagePreprocessor(32, 32, 16))},
            InvalidValue,
            "train one like the other",
        ),
    ],
)
def test_numbers_that_cannot_be_are_refused(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        config(**changes)


def test_sizes_take_one_field_of_each_and_a_trained_clip() -> None:
    many = {"text": "text", "question": "text", "photo": "image", "audio": "audio"}
    made = sized("tiny", many, WORDS)
    assert (made.text_field, made.picture_field) == ("text", "photo")
    assert from_dict(Config, to_dict(made)) == made
    changed = override(made, {"decoder.width": "64", "diffusion.shift": "0.5", "prior.form": "autoregressive"})
    assert (changed.decoder.width, changed.diffusion.shift) == (64, 0.5)
    assert isinstance(build(override(changed, {"clip": made.clip})).prior, AutoregressivePrior)
    with torch.device("meta"):
        paper = build(sized("paper", many, WORDS))
    millions = {
        name: sum(p.numel() for p in part.parameters()) / 1e6
        for name, part in paper.named_children()
        if name in ("prior", "decoder", "upsampler")
    }
    assert 1_000 < millions["prior"] < 1_400
    assert 3_000 < millions["decoder"] < 4_500
    assert 600 < millions["upsampler"] < 800
    with pytest.raises(UnknownName, match="size of dalle2"):
        sized("huge", many, WORDS)
    for fields, found in (({"a": "text"}, "of image the data has none"), ({"a": "text", "b": "text"}, "has a, b")):
        with pytest.raises(Unsupported, match=found):
            sized("tiny", fields, WORDS)
