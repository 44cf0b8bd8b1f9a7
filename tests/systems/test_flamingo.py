"""Flamingo: words look at the picture before them, the language model stays what it is, prompts go in any order."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from intermodal.config import from_dict, to_dict
from intermodal.decoders.prompts import paired
from intermodal.encoders.tower import TowerConfig
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.layers.attention import attend
from intermodal.layers.stream import streamed
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.modalities.video import Video
from intermodal.sampling.autoregressive import Sampling
from intermodal.saving import load_model, save_model
from intermodal.systems import clip, language
from intermodal.systems.flamingo import Config, Flamingo, build, sized
from intermodal.testing import batches
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import Answers, Completes, Sample, Trains, Translates
from tests.streams import seen_by_heads

WORDS = WordTokenizer(words=("red", "green", "blue", "a", "big", "square", "?"))
TEXT = TextPreprocessor(WORDS, 8)
FIELDS = {"image_1": "image", "text_1": "text", "video": "video", "image": "image", "text": "text"}


def flat(red: int, green: int, blue: int) -> Image:
    return Image(np.full((16, 16, 3), (red, green, blue), np.uint8))


RED, GREEN, BLUE = flat(200, 20, 20), flat(20, 200, 20), flat(20, 20, 200)
CLIP = Video(np.stack([GREEN.pixels, RED.pixels]), 4.0)
SAMPLES: list[Sample] = [
    {"image_1": RED, "text_1": Text("red ?"), "image": GREEN, "text": Text("a green square")},
    {"text_1": Text("red ?"), "image": GREEN, "text": Text("a green square")},
    {"image_1": BLUE, "text_1": Text("big"), "text": Text("blue")},
    {"image_1": BLUE, "text_1": Text("big"), "video": CLIP, "text": Text("blue")},
]
QUESTIONS = ["a ?", "a", "", "big"]


def config(**changes: Any) -> Config:
    towers = {"image": TowerConfig(ImagePreprocessor(16, 16, 8), width=12, depth=1, heads=2, sizes=(2, 2))}
    towers["text"] = TowerConfig(TEXT, width=12, depth=1, heads=2, sizes=(8,))
    prompts = (("image_1", "text_1", "image", "text"), ("image_1", "text_1", "video", "text"))
    writes = language.Config(("text_1", "text"), TEXT, 4, 16, 2, 2)
    made = Config(FIELDS, prompts, clip.Config(towers, 8), writes, queries=3, depth=1, heads=2, frames=2)
    return dataclasses.replace(made, **changes)


def small(gate: float = 1.0, **changes: Any) -> Flamingo:
    torch.manual_seed(0)
    model = build(config(gate=gate, **changes))
    with torch.no_grad():  # fresh vectors are so small that places make no difference
        for table in (model.language.table, model.language.numbers, model.language.places):
            table.weight.mul_(20)
        for axis in model.resampler.places.axes:
            axis.mul_(20)
    return model.eval()


def seen(model: Flamingo, item: Image | Video) -> Tensor:
    """Returns the tokens of a picture or a clip, frame by frame."""
    frames = [item] if isinstance(item, Image) else [Image(frame) for frame in item.frames]
    batch = model.preprocessors["image"](frames)
    tokens = model.reader.encoders["image"](batch).tokens
    found: Tensor = model.resampler(tokens[None])
    return found


def slow_logits(model: Flamingo, items: list[Any]) -> Tensor:
    """Returns the logits after each id of a prompt: word by word, each looking at the last picture, without masks."""
    ids, numbers, places, looks = [], [], [], []
    last = None
    for count, (shown, said) in enumerate(
        paired([item.modality if not isinstance(item, list) else "text" for item in items])
    ):
        last = items[shown] if shown is not None else last
        words = (
            [1, 2] if said is None else items[said] if isinstance(items[said], list) else WORDS.encode(items[said].text)
        )
        ids += words
        numbers += [count] * len(words)
        places += list(range(len(words)))
        looks += [last] * len(words)
    own = model.language
    x = own.table(torch.tensor([ids])) + own.numbers(torch.tensor([numbers])) + own.places(torch.tensor([places]))
    allowed = seen_by_heads(numbers, own.config.heads)
    for i, block in enumerate(own.blocks):
        look = dict(model.layers.items()).get(str(i))
        columns = [x[:, t : t + 1] for t in range(len(ids))]
        if look is not None:
            columns = [c if p is None else look(c, context=seen(model, p)) for c, p in zip(columns, looks, strict=True)]
        smear = own.smears[i]
        entered = torch.cat(columns, dim=1)
        x = block.extend(entered, lambda q, k, v, smear=smear: attend(q, smear(k), v, allowed))
    logits: Tensor = (own.norm(x)[0] @ own.table.weight.T).detach()
    return logits


def test_it_does_what_it_says() -> None:
    model = small()
    for protocol in (Trains, Translates, Completes, Answers):
        assert isinstance(model, protocol)
    assert model.directions == (("image", "text"), ("video", "text"))


@pytest.mark.parametrize("every", [1, 2])
def test_likelihood_equals_a_slow_loop_in_which_each_word_looks_at_the_last_picture(every: int) -> None:
    model = small(every=every)
    assert sorted(model.layers) == [str(i) for i in range(0, 2, every)]
    prompts = [{name: item for name, item in sample.items() if name != "text"} for sample in SAMPLES]
    prompts += [{"a": RED, "b": GREEN, "c": Text("big")}, {}]
    begins, options = [*QUESTIONS, "a", ""], [["red", "blue square"]] * 6
    found = model.log_likelihood(prompts, begins, options)
    for row, (prompt, begin) in enumerate(zip(prompts, begins, strict=True)):
        for way, option in enumerate(options[row]):
            text = Text(f"{begin} {option}".strip())
            logits = slow_logits(model, [*prompt.values(), text])
            ids, first = WORDS.encode(text.text), len(WORDS.encode(begin)) - 1
            costs = logits[-len(ids) : -1].log_softmax(dim=1)
            expected = sum(float(costs[at - 1, ids[at]]) for at in range(first, len(ids)))
            assert float(found[row, way]) == pytest.approx(expected, abs=2e-4)


def test_the_loss_is_the_mean_cost_of_all_texts() -> None:
    model = small()
    sample = SAMPLES[0]
    logits = slow_logits(model, list(sample.values()))
    total, at, count = 0.0, 0, 0
    for item in (sample["text_1"], sample["text"]):
        ids = WORDS.encode(item.text)  # type: ignore[attr-defined]
        total -= sum(float(logits[at + i].log_softmax(0)[ids[i + 1]]) for i in range(len(ids) - 1))
        at, count = at + len(ids), count + len(ids) - 1
    loss = model.losses(batches(model, [sample]))["image text"].detach()
    assert float(loss) == pytest.approx(total / count, abs=1e-4)


def test_writing_with_memory_equals_writing_without() -> None:
    model = small()
    prompts = [{name: item for name, item in sample.items() if name != "text"} for sample in SAMPLES]
    found = model.answers(prompts, QUESTIONS)
    for prompt, question, words in zip(prompts, QUESTIONS, found, strict=True):
        ids = WORDS.encode(question)[:-1]
        begun = len(ids)
        while len(ids) < 7 and (len(ids) == begun or ids[-1] != WORDS.end_id):
            ids.append(int(slow_logits(model, [*prompt.values(), ids])[-1].argmax()))
        assert words == WORDS.decode(ids[begun:])
    assert len(set(found)) > 1
    assert found == [model.answer(prompt, q) for prompt, q in zip(prompts, QUESTIONS, strict=True)]


@pytest.mark.parametrize("sees", ["last", "all"])
@torch.no_grad()
def test_a_word_sees_no_picture_but_the_last_unless_it_is_built_to(sees: str) -> None:
    model = small(sees=sees)
    prompts = [{"a": first, "b": Text("big"), "c": GREEN} for first in (RED, BLUE)]
    slots = [model._prompted([prompt], model.language.begun(["a"])) for prompt in prompts]
    slot = streamed(slots[0].texts).slot
    x = torch.randn(1, slot.shape[1], 16)
    red, blue = (model._looking(one, slot)(0, x) for one in slots)  # type: ignore[misc]
    behind = slot[0] == 1
    assert not torch.allclose(red[:, ~behind], blue[:, ~behind])
    assert torch.allclose(red[:, behind], blue[:, behind]) == (sees == "last")


def test_shut_gates_and_texts_alone_are_the_language_model_to_the_last_bit() -> None:
    shut, wide = small(gate=0.0), small(gate=2.0)
    texts = [{"a": Text("a red square"), "b": Text("big ?")}, {"a": Text("blue")}]
    likely, _ = wide.language.log_likelihood(texts)
    for model in (shut, wide):
        stream = streamed(model.language.texts(texts))
        batch = {"text_1": TEXT([t["a"] for t in texts]), "text": TEXT([t.get("b") for t in texts])}
        with torch.no_grad():
            alone, own = model.losses(batch)["image text"], model.language.losses(batch)["words"]
            costs = model.language.costs(stream)
        assert torch.equal(alone, own)
        assert torch.equal(-(costs * stream.told).sum(dim=1), likely)
    seen_too = shut.log_likelihood([{"image": RED, **texts[0]}], [""], [["red"]])
    assert torch.equal(seen_too, shut.log_likelihood([texts[0]], [""], [["red"]]))
    open_to = wide.log_likelihood([{"image": RED, **texts[0]}], [""], [["red"]])
    assert not torch.equal(open_to, wide.log_likelihood([texts[0]], [""], [["red"]]))


def test_training_moves_neither_reader_nor_language() -> None:
    model = small(gate=0.0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        torch.stack(list(model.losses(batches(model, SAMPLES)).values())).sum().backward()
        optimizer.step()
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"layers", "resampler"}
    assert not model.reader.training
    assert not model.language.training


def test_frames_of_a_clip_go_through_the_resampler_together_and_in_order() -> None:
    model = small()
    clips = [CLIP, Video(CLIP.frames[::-1].copy(), 4.0)]
    with torch.no_grad():
        found = model.look(model.preprocessors["video"](clips))
        torch.testing.assert_close(found, torch.cat([seen(model, one) for one in clips]))
        picture = model.look(model.preprocessors["image"]([None, GREEN]))
    assert float((found[0] - found[1]).abs().max()) > 1e-4
    assert float(picture[0].abs().max()) == 0.0
    torch.testing.assert_close(picture[1:], seen(model, GREEN).detach())


def test_candidates_and_translations() -> None:
    model = small()
    (row,) = model.candidates([SAMPLES[0]], "text", count=4, sampling=Sampling(temperature=99.0, seed=1), begins=["a"])
    assert [c.score for c in row] == sorted((c.score for c in row), reverse=True)
    assert all(c.item.text.startswith("a") for c in row)  # type: ignore[attr-defined]
    assert len({c.item.text for c in row}) > 1  # type: ignore[attr-defined]
    whole = {"image_1": RED, "text_1": Text("red ?"), "image": GREEN}
    assert model.candidates([whole], "text") == model.candidates([SAMPLES[0]], "text")  # its own text is not read
    made = model.translate([RED, CLIP, GREEN], "text")
    assert [item.modality for item in made] == ["text"] * 3
    assert made[1] == model.translate([CLIP], "text")[0]


def test_saved_and_loaded_it_answers_the_same(tmp_path: Any) -> None:
    model = small()
    save_model(tmp_path / "m", model)
    assert load_model(tmp_path / "m").answers(SAMPLES[:2], ["a", "a"]) == model.answers(SAMPLES[:2], ["a", "a"])
    assert from_dict(Config, to_dict(model.config)) == model.config


def test_bad_requests_are_refused_in_a_sentence() -> None:
    model = small()
    with pytest.raises(InvalidValue, match="5 pictures and texts takes 5 places and the model has 4"):
        model.answer({str(i): RED for i in range(5)}, "a")
    with pytest.raises(Unsupported, match="this one has audio"):
        model.answer({"sound": Audio(np.zeros((1, 8), np.float32), 8000)}, "a")
    with pytest.raises(Unsupported, match="'image' is no field of text"):
        model.candidates([SAMPLES[0]], "image")
    with pytest.raises(InvalidValue, match="0 candidates"):
        model.candidates([SAMPLES[0]], "text", count=0)
    with pytest.raises(Unsupported, match="tells of pictures and clips, not of text"):
        model.translate([Text("a")], "text")


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"reader": None}, InvalidValue, "needs a reader"),
        ({"tower": "photo"}, UnknownName, "tower of the reader named 'photo'"),
        ({"tower": "text"}, InvalidValue, "reads text; give one of pictures"),
        ({"prompts": ()}, InvalidValue, "no prompts to learn from"),
        ({"prompts": (("image", "words"),)}, UnknownName, "field of flamingo named 'words'"),
        ({"prompts": (("text_1", "text"),)}, InvalidValue, "a prompt of text, text is none"),
        ({"sees": "none"}, UnknownName, "way to see pictures"),
        ({"queries": 0}, InvalidValue, "are at least 1"),
    ],
)
def test_a_bad_config_is_refused_in_a_sentence(changes: dict[str, Any], kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        config(**changes)


def test_sizes() -> None:
    made = sized("tiny", {"text": "text", "image": "image", "audio": "audio", "video": "video"}, WORDS)
    assert made.prompts == (("image", "text"), ("video", "text"))
    assert made.language.fields == ("text",)
    with pytest.raises(UnknownName, match="size of flamingo"):
        sized("huge", {"text": "text", "image": "image"}, WORDS)
    with pytest.raises(Unsupported, match="learns from texts with pictures"):
        sized("tiny", {"text": "text", "audio": "audio"}, WORDS)
