"""A VAE-GAN: which loss moves which part, any subset of the fields in, every field out, all of them from noise."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermodal.decoders.latent import Medium
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.modalities.audio import Audio, AudioPreprocessor
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.sampling.autoregressive import Sampling
from intermodal.saving import load_model, save_model
from intermodal.systems.vae_gan import SIZES, Config, VaeGan, build, sized
from intermodal.testing import batches
from intermodal.tokenizers.word import WordTokenizer
from intermodal.training.recipe import recipe
from intermodal.types import Completes, Trains, Translates

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (30, 30, 220), "white": (240, 240, 240)}
WORDS = WordTokenizer(words=(*COLOURS, "square"))
RATE = 8000
SMALL: dict[str, Any] = {"width": 32, "depth": 1, "heads": 2}


def tone(number: int, tokens: int) -> Audio:
    time = np.arange(tokens * 4 * 160) / RATE
    return Audio((0.3 * np.sin(2 * np.pi * 300 * 2**number * time))[None].astype(np.float32), RATE)


def sample(number: int) -> dict[str, Any]:
    name, colour = list(COLOURS.items())[number]
    pixels = np.full((16, 16, 3), 40, np.uint8)
    pixels[4:12, 4:12] = colour
    return {"text": Text(f"{name} square"), "image": Image(pixels), "audio": tone(number, 2 + number % 2)}


def seen_in(picture: Image) -> str:
    """Returns the colour that the middle of a picture is nearest to."""
    middle = picture.pixels[5:11, 5:11].reshape(-1, 3).mean(axis=0)
    return min(COLOURS, key=lambda name: float(np.square(middle - np.array(COLOURS[name])).sum()))


SAMPLES = [sample(number) for number in range(4)]
FIELDS = ("text", "image", "audio")


def small(fields: tuple[str, ...] = FIELDS, **changes: Any) -> VaeGan:
    torch.manual_seed(0)
    sound = AudioPreprocessor(sample_rate_hz=RATE, mels=16, window=320, hop=160)
    media = {
        "text": Medium(TextPreprocessor(WORDS, 8), sizes=(8,), style=0, **SMALL),
        "image": Medium(ImagePreprocessor(16, 16, 8), sizes=(2, 2), first=(4, 4), channels=(16, 24), style=2, **SMALL),
        "audio": Medium(sound, sizes=(1, 0), first=(4, 2), channels=(16, 24), style=2, longest=6, **SMALL),
    }
    return build(Config({name: media[name] for name in fields}, latent=4, longest=8, **changes))


@pytest.fixture(scope="module")
def trained() -> VaeGan:
    """Returns a model that knows its four samples."""
    model = small(kl=1e-3, style_kl=0.1)
    batch = batches(model, SAMPLES * 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.8, 0.98))
    model.train()
    for step in range(180):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, (step + 1) / 10)
        optimizer.zero_grad()
        torch.stack(list(model.losses(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


def moved(model: VaeGan, losses: dict[str, torch.Tensor], name: str) -> set[str]:
    """Returns the kinds of parts that one loss gives a gradient to."""
    model.zero_grad()
    losses[name].backward(retain_graph=True)  # type: ignore[no-untyped-call]
    return {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None and float(p.grad.abs().sum())}


def test_each_loss_moves_its_own_parts_alone() -> None:
    model = small()
    for protocol in (Trains, Translates, Completes):
        assert isinstance(model, protocol)
    losses = model.losses(batches(model, SAMPLES))
    both = ("", ".style", ".fools", ".judge", ".recall")
    assert set(losses) == {"latent", "text", "audio.length", *(f"{n}{k}" for n in ("image", "audio") for k in both)}
    assert all(bool(value.isfinite()) for value in losses.values())
    wanted = {
        "latent": {"readers"},
        "image.style": {"readers"},
        "text": {"readers", "makers"},
        "image": {"readers", "makers"},  # measured by the judge, which does not learn from it
        "image.fools": {"makers"},
        "image.recall": {"makers"},
        "image.judge": {"judges"},
    }
    assert {name: moved(model, losses, name) for name in wanted} == wanted


def test_what_is_absent_changes_nothing_and_is_no_loss() -> None:
    model = small()
    assert model.losses(batches(model, [{}, {}])) == {}
    losses = model.losses(batches(model, [{"text": SAMPLES[0]["text"]}, {}]))
    assert set(losses) == {"latent", "text"}
    assert all(bool(value.isfinite()) for value in losses.values())
    some = batches(model, SAMPLES)
    assert set(model.losses({"image": some["image"]})) >= {"latent", "image", "image.judge"}


def test_without_an_adversary_it_is_a_vae() -> None:
    model = small(adversary=0.0)
    assert not model.judges
    assert set(model.losses(batches(model, SAMPLES))) == {
        *("latent", "text", "image", "image.style", "audio", "audio.style", "audio.length")
    }


def test_every_subset_tells_of_the_latent_alone_and_in_company(trained: VaeGan) -> None:
    given = [{}, {"text": SAMPLES[0]["text"]}, {"image": SAMPLES[1]["image"], "audio": SAMPLES[1]["audio"]}, SAMPLES[2]]
    mean, variance = trained.infer(given)
    assert (mean[0].abs().max(), variance[0].min()) == (0.0, 1.0)
    assert bool((variance[1:] < 1).all())
    for i, one in enumerate(given):
        alone, spread = trained.infer([one])
        torch.testing.assert_close(alone[0], mean[i], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(spread[0], variance[i], atol=1e-4, rtol=1e-4)
    more = trained.infer([{"text": SAMPLES[1]["text"], **given[2]}])[1]
    assert bool((more < variance[2]).all())  # who knows more is surer


def test_few_samples_are_learnt_by_heart(trained: VaeGan) -> None:
    still = Sampling(temperature=0.0)
    for name in ("image", "audio"):
        words = trained.translate([one[name] for one in SAMPLES], "text", source=name, sampling=still)
        assert [word.text for word in words] == [one["text"].text for one in SAMPLES]
    texts = [one["text"] for one in SAMPLES]
    assert [seen_in(one) for one in trained.translate(texts, "image", sampling=still)] == list(COLOURS)
    sounds = trained.translate(texts, "audio", sampling=still)
    assert {sound.samples.shape[1] for sound in sounds} <= {one["audio"].samples.shape[1] for one in SAMPLES}


def test_what_is_rebuilt_is_painted_from_what_was_read_alone(trained: VaeGan) -> None:
    pictures = [one["image"] for one in SAMPLES]
    make = trained.preprocessors["image"]
    batch = make(pictures)
    with torch.no_grad():
        told = trained.readers["image"](batch)
        z = told.precision * told.mean / (1 + told.precision)
        values = trained.makers["image"](torch.cat((z, told.style_mean), dim=1), batch.mask)
    for one, other in zip(trained.rebuilt("image", pictures), make.invert(values), strict=True):
        assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 1


def test_draws_depend_on_seed_and_number_alone(trained: VaeGan) -> None:
    texts = [{"text": one["text"]} for one in SAMPLES]
    drawn = Sampling(temperature=1.0, seed=3)
    together = trained.candidates(texts, "image", sampling=drawn, count=3)
    assert [len(row) for row in together] == [3] * 4
    for row in together:
        assert [one.score for one in row] == sorted((one.score for one in row), reverse=True)
    alone = trained.candidates(texts[1:2], "image", sampling=drawn, count=3)[0]
    for one, other in zip(alone, together[1], strict=True):
        assert np.abs(one.item.pixels.astype(int) - other.item.pixels).max() <= 1
        assert one.score == pytest.approx(other.score, abs=0.05)
    assert alone[0].item != alone[1].item
    other_seed = trained.candidates(texts[1:2], "image", sampling=dataclasses.replace(drawn, seed=4))[0][0]
    assert other_seed.item not in [one.item for one in alone]


def test_all_fields_are_made_from_noise_and_missing_ones_inferred(trained: VaeGan) -> None:
    made = trained.imagine(5)
    assert [list(one) for one in made] == [list(FIELDS)] * 5
    assert len({one["image"].content_hash() for one in made}) > 1
    for one, other in zip(trained.imagine(2), made[:2], strict=True):  # the same in other company
        assert one["text"] == other["text"]
        assert np.abs(one["image"].pixels.astype(int) - other["image"].pixels).max() <= 1
    partial = [{"audio": SAMPLES[0]["audio"]}, {"image": SAMPLES[1]["image"], "text": SAMPLES[1]["text"]}]
    whole = trained.filled(partial, sampling=Sampling())
    assert [set(one) for one in whole] == [set(FIELDS)] * 2
    assert whole[1]["image"] is SAMPLES[1]["image"]
    assert whole[0]["text"].text == SAMPLES[0]["text"].text
    from_nothing = trained.candidates([{}], "image", count=3, sampling=Sampling(1.0))[0]
    assert len({one.item.content_hash() for one in from_nothing}) == 3


def test_nothing_is_left_in_another_mode() -> None:
    for mode in (True, False):
        model = small(("text", "image")).train(mode)
        model.candidates([{}], "text")
        model.rebuilt("image", [SAMPLES[0]["image"]])
        assert model.training is mode


def test_a_saved_model_is_the_same(trained: VaeGan, tmp_path: Path) -> None:
    loaded = load_model(save_model(tmp_path / "m", trained))
    assert loaded.config == trained.config
    assert loaded.imagine(2) == trained.imagine(2)


def test_impossible_requests_and_configs_are_refused(trained: VaeGan) -> None:
    with pytest.raises(Unsupported, match="does not translate text \\(text\\) to text"):
        trained.translate([SAMPLES[0]["text"]], "text")
    with pytest.raises(Unsupported, match="does not translate image \\(text\\)"):
        trained.translate([SAMPLES[0]["text"]], "audio", source="image")
    with pytest.raises(Unsupported, match="video cannot be made"):
        trained.candidates([{}], "video")
    with pytest.raises(Unsupported, match="where missing"):
        trained.candidates([SAMPLES[0]], "text")
    with pytest.raises(InvalidValue, match="0 candidates"):
        trained.candidates([{}], "text", count=0)
    with pytest.raises(UnknownName, match="field of this model"):
        trained.infer([{"smell": SAMPLES[0]["text"]}])
    with pytest.raises(InvalidValue, match="0 fields"):
        Config({})
    with pytest.raises(InvalidValue, match="weight kl of vae_gan is -1"):
        small(kl=-1.0)
    with pytest.raises(InvalidValue, match="set cells above 0"):
        small(adversary=0.0, cells=0.0)
    with pytest.raises(UnknownName, match="size of vae_gan"):
        sized("huge", {"image": "image"}, WORDS)


def test_a_recipe_fits_it_to_the_data() -> None:
    source = Diorama("train", fields=("text", "image", "timeseries"), size=8)
    config = recipe("vae_gan", source, changes={"kl": "0.02", "towers.image.style": "4"})
    assert (config.kl, config.towers["image"].style, config.towers["text"].style) == (0.02, 4, 0)
    assert config.towers["text"].preprocessor.tokenizer.words == Diorama.vocabulary
    assert config.towers["timeseries"].preprocessor.scale != 1.0


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_built_for_every_modality(size: str) -> None:
    fields = {name: name for name in ("text", "image", "audio", "video", "timeseries")}
    config = sized(size, fields, WORDS)
    with torch.device("meta"):
        model = build(config)
    assert set(model.judges) == set(fields) - {"text"}
    assert set(model.directions) == {(a, b) for a in fields for b in fields if a != b}
