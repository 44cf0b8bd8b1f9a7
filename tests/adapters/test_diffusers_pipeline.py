"""Published pipelines, made with random weights, against the library that wrote them."""

import asyncio
import base64
import json
import logging
import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import intermodal as im
from intermodal.adapters.diffusers_pipeline import KINDS, Pace
from intermodal.cli.app import run
from intermodal.modalities.text import Text
from intermodal.sampling.autoregressive import Sampling
from intermodal.types import Completes, Translates
from tests import pipelines, published

WORDS = "a red cat"
MADE: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "StableDiffusionPipeline": (pipelines.stable_diffusion, {"steps": 2}),
    "StableDiffusionXLPipeline": (pipelines.stable_diffusion_xl, {"steps": 2}),
    "StableDiffusion3Pipeline": (pipelines.stable_diffusion_3, {"steps": 2}),
    "LatentConsistencyModelPipeline": (pipelines.latent_consistency, {"steps": 2}),
    "PixArtSigmaPipeline": (pipelines.pixart, {"steps": 1, "guidance": 3.0}),
    "FluxPipeline": (pipelines.flux, {"steps": 2, "height": 16, "width": 24}),
    "AudioLDM2Pipeline": (pipelines.audioldm2, {"steps": 2}),
    "StableAudioPipeline": (pipelines.stable_audio, {"steps": 2, "seconds": 0.02}),
    "AnimateDiffPipeline": (pipelines.animatediff, {"steps": 2, "frames": 3}),
    "CogVideoXPipeline": (pipelines.cogvideo, {"steps": 2, "frames": 5, "height": 16, "width": 16}),
    "WanPipeline": (pipelines.wan, {"steps": 2, "frames": 5, "height": 16, "width": 16}),
}
"""Class -> what writes a small one, and what is set for it here."""

THEIRS = {"steps": "num_inference_steps", "guidance": "guidance_scale", "frames": "num_frames"}


Place = Callable[[str], tuple[Path, Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Returns what gives the folder of a class and the pipeline that was written to it, when it is first asked for."""
    root, made = tmp_path_factory.mktemp("pipelines"), dict[str, Any]()

    def folder(name: str) -> tuple[Path, Any]:
        if name not in made:
            made[name] = pipelines.written(root / name, MADE[name][0])
        return root / name, made[name]

    return folder


@pytest.fixture(scope="module")
def painter(place: Place) -> Any:
    """Returns a small Stable Diffusion, loaded, that draws in two steps."""
    model = im.load(place("StableDiffusionPipeline")[0])
    model.steps = 2
    return model


def theirs(made_by: Any, words: str, seed: int, **how: Any) -> np.ndarray:
    """Returns what the library itself makes: pixels, samples ``(C, S)`` or frames."""
    to = KINDS[type(made_by).__name__].to
    length = {"AudioLDM2Pipeline": "audio_length_in_s"}.get(type(made_by).__name__, "audio_end_in_s")
    asked = {THEIRS.get(name, length if name == "seconds" else name): value for name, value in how.items()}
    kind = "np" if to == "audio" else "pil"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = made_by(words, generator=torch.Generator().manual_seed(seed), output_type=kind, **asked)
    if to == "image":
        return np.array(made.images[0])
    if to == "audio":
        return np.atleast_2d(made.audios[0]).clip(-1, 1)
    return np.stack([np.array(frame) for frame in made.frames[0]])


def set_up(model: Any, how: dict[str, Any]) -> Any:
    """Returns the model with its attributes set."""
    for name, value in how.items():
        setattr(model, name, value)
    return model


def values(item: Any) -> np.ndarray:
    """Returns the numbers of an item."""
    found: np.ndarray = getattr(item, {"image": "pixels", "audio": "samples", "video": "frames"}[item.modality])
    return found


@pytest.mark.peer
@pytest.mark.parametrize("name", KINDS)
def test_what_is_drawn_is_what_diffusers_draws(place: Place, name: str) -> None:
    (folder, made_by), how, to = place(name), MADE[name][1], KINDS[name].to
    model = set_up(im.load(folder), how)
    assert model.directions == (("text", to),)
    (item,) = model.translate([Text(WORDS)], to, sampling=Sampling(seed=3))
    expected = theirs(made_by, WORDS, 3, **how)
    if to == "audio":
        np.testing.assert_allclose(values(item), expected, atol=1e-5)
        assert (item.sample_rate_hz, float(np.abs(expected).max()) > 0) == (pipelines.RATE, True)
    else:
        np.testing.assert_array_equal(values(item), expected)
        assert expected.std() > 1
    (other,) = model.translate([Text("dogs")], to, sampling=Sampling(seed=3))
    assert other != item


@pytest.mark.peer
def test_a_picture_depends_on_its_words_and_the_seed_alone(painter: Any) -> None:
    cat, dog = Text(WORDS), Text("two dogs")
    first, second = painter.translate([cat, dog], "image")
    assert painter.translate([dog], "image") == [second]
    assert painter.translate([cat], "image", sampling=Sampling(1.0, seed=0)) == [first] != [second]
    state = torch.get_rng_state()
    (four,) = painter.candidates([{"text": cat}], "image", count=4)
    assert torch.equal(state, torch.get_rng_state())
    assert four[0].item == first
    assert four[3].item == painter.translate([cat], "image", sampling=Sampling(seed=3))[0]
    assert len({one.item.content_hash() for one in four}) == 4
    assert all(math.isnan(one.score) for one in four)
    assert isinstance(painter, Translates)
    assert isinstance(painter, Completes)


@pytest.mark.peer
def test_what_is_set_is_what_the_library_is_asked_for(place: Place) -> None:
    folder, made_by = place("StableDiffusionPipeline")
    model = im.load(folder)
    assert (model.steps, model.guidance, model.negative, model.height) == (50, 7.5, None, None)
    set_up(model, {"steps": 3, "guidance": 2.0, "negative": "dogs", "height": 24, "width": 16})
    asked = {"steps": 3, "guidance": 2.0, "negative_prompt": "dogs", "height": 24, "width": 16}
    (picture,) = model.translate([Text(WORDS)], "image")
    np.testing.assert_array_equal(picture.pixels, theirs(made_by, WORDS, 0, **asked))
    for names, value, error, told in (
        (("height", "width"), 21, im.InvalidValue, "cannot draw with .*height 21, width 21: .*divisible by 8"),
        (("height",), 24, im.InvalidValue, "height is 24 and width None; set both, or neither"),
        (("steps",), 0, im.InvalidValue, "steps is 0; give a whole number of at least 1"),
        (("seconds",), 2.0, im.Unsupported, "does not take seconds, which is 2.0; set it to None"),
    ):
        changed = set_up(im.load(folder), {"steps": 1, **dict.fromkeys(names, value)})
        with pytest.raises(error, match=told):
            changed.translate([Text(WORDS)], "image")


@pytest.mark.peer
def test_every_step_is_told_and_can_be_the_last(painter: Any) -> None:
    told: list[tuple[str, Pace]] = []
    painter.on_step = lambda what, now: told.append((what, now))
    painter.translate([Text(WORDS)], "image")
    painter.on_step = None
    assert [(what, now.step, now.steps) for what, now in told] == [("drawing", 1, 2), ("drawing", 2, 2)]
    assert told[1][1].steps_per_s > 0

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    from intermodal.serving.batching import interruptible

    assert interruptible(painter) is painter
    assert painter.pulse._forward_pre_hooks
    hook = painter.pulse.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        painter.translate([Text(WORDS)], "image")
    hook.remove()


@pytest.mark.peer
def test_what_is_not_made_is_refused(painter: Any) -> None:
    with pytest.raises(im.Unsupported, match="does not translate anything to audio; it translates text to image"):
        painter.translate([Text("x")], "audio")
    picture = im.Image(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(im.Unsupported, match="does not translate image to image; it translates text to image"):
        painter.translate([picture], "image")
    with pytest.raises(im.Unsupported, match="from a text alone; the sample has text, audio"):
        painter.candidates([{"text": Text("x"), "audio": picture}], "image")
    with pytest.raises(im.InvalidValue, match="0 candidates were asked for"):
        painter.candidates([{"text": Text("x")}], "image", count=0)


@pytest.mark.peer
def test_what_the_checker_blackens_is_black_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for flags in (False, True):
        folder = tmp_path / str(flags)
        made_by = pipelines.written(folder, partial(pipelines.stable_diffusion, flags))
        model = set_up(im.load(folder), {"steps": 1})
        (picture,) = model.translate([Text(WORDS)], "image")
        np.testing.assert_array_equal(picture.pixels, theirs(made_by, WORDS, 0, steps=1))
        assert (picture.pixels.max() == 0) == flags
        assert ("NSFW content was detected" in caplog.text) == flags
    assert "StableDiffusionPipeline in True: Potential" in caplog.text


@pytest.mark.peer
def test_words_that_are_cut_are_told(painter: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        painter.translate([Text("a red cat and another one of them")], "image")
    assert "was truncated because CLIP can only handle sequences up to 16 tokens" in caplog.text
    assert len([one for one in caplog.records if "truncated" in one.message]) == 1


@pytest.mark.peer
def test_older_folders_of_audioldm2_are_read(place: Place, tmp_path: Path) -> None:
    (folder, made_by), how = place("AudioLDM2Pipeline"), {"steps": 2}
    older = published.rewritten(
        folder, tmp_path / "older", "model_index.json", language_model=["transformers", "GPT2Model"]
    )
    network = published.library().GPT2LMHeadModel.from_pretrained(folder / "language_model")
    network.transformer.save_pretrained(older / "language_model")
    (sound,) = set_up(im.load(older), how).translate([Text(WORDS)], "audio")
    assert sound.samples.shape[1] == 256
    np.testing.assert_allclose(sound.samples, theirs(made_by, WORDS, 0, **how), atol=1e-5)


# ---- Through everything else


@pytest.mark.peer
def test_the_command_paints(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder, made_by), out = place("LatentConsistencyModelPipeline"), tmp_path / "x.png"
    line = ["translate", WORDS, "--to", "image", "--model", str(folder), "--out", str(out), "--seed", "5", "--json"]
    assert run(line) == 0
    (made,) = json.loads(capsys.readouterr().out)["outputs"]
    assert made["candidates"] == [{"score": None, "file": str(out)}]
    np.testing.assert_array_equal(im.Image.open(out).pixels, theirs(made_by, WORDS, 5))


@pytest.mark.peer
def test_a_compound_paints_and_says_what_it_can(painter: Any) -> None:
    both = im.Compound([painter])
    assert both.directions == (("text", "image"),)
    assert both.translate([Text(WORDS)], "image") == painter.translate([Text(WORDS)], "image")


@pytest.mark.peer
def test_the_server_paints(painter: Any) -> None:
    pytest.importorskip("openai")
    places = pytest.importorskip("tests.serving.places")

    async def ask() -> list[bytes]:
        async with places.client(places.server({"painter": painter})) as asked:
            made = await asked.images.generate(model="dall-e-3", prompt=WORDS, n=2, extra_body={"seed": 4})
            return [base64.b64decode(one.b64_json) for one in made.data]

    found = [im.Image.open(data) for data in asyncio.run(ask())]
    assert found == [painter.translate([Text(WORDS)], "image", sampling=Sampling(seed=s))[0] for s in (4, 5)]
