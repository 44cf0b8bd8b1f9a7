"""DALL-E 1: one stream of ids, drawn with a cache as without one, the same alone and in company."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from intermodal.config import from_dict, to_dict
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.modalities.image import Image, ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.modalities.timeseries import TimeSeriesPreprocessor
from intermodal.sampling.autoregressive import Sampling
from intermodal.saving import load_model, save_model
from intermodal.systems import codec
from intermodal.systems.dalle1 import Config, DallE, build, sized
from intermodal.testing import batches
from intermodal.tokenizers.codebook import Codebook
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import Completes, Scores, Trains, Translates

WORDS = WordTokenizer(words=("red", "green", "blue", "a", "big", "square"))
TEXTS = [Text("red"), Text("a big green square"), Text("a blue square")]
GREEDY = Sampling()


def flat(red: int, green: int, blue: int) -> Image:
    return Image(np.full((16, 16, 3), (red, green, blue), np.uint8))


PICTURES = [flat(200, 20, 20), flat(20, 200, 20), flat(20, 20, 200)]
SAMPLES: list[dict[str, Any]] = [{"text": t, "image": p} for t, p in zip(TEXTS, PICTURES, strict=True)]


def codec_config(groups: int = 2, **changes: Any) -> codec.Config:
    """Returns a codec of four positions and 25 codes."""
    shape = ImagePreprocessor(16, 16, 8)
    made = codec.Config("image", shape, (2, 2), (4, 4), (16, 24), 32, 1, 2, Codebook("fsq", (5, 5), groups), -0.4, 0.4)
    return dataclasses.replace(made, **changes)


def small(groups: int = 2, seed: int = 0, **changes: Any) -> DallE:
    torch.manual_seed(seed)
    numbers: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, **changes}
    model = build(Config({"image": codec_config(groups)}, text=TextPreprocessor(WORDS, 12), **numbers))
    with torch.no_grad():  # fresh vectors are so small that all ids are about as likely
        model.table.weight.mul_(20)
    return model.eval()


def drawn(model: DallE, texts: list[Text], sampling: Sampling = GREEDY, candidate: int = 0) -> Tensor:
    """Returns the ids that are drawn for texts."""
    with torch.no_grad():
        cache = model._read(model.preprocessors["text"](texts))
        return model._written(cache, torch.full((len(texts),), candidate), sampling)[0]


def next_logits(model: DallE, text: Text, before: list[int]) -> Tensor:
    """Returns the logits of the id after some of a picture: the whole stream anew, one row, without mask or cache."""
    known = model.preprocessors["text"]([text]).values[0].tolist()
    group = [model.begin + 1 + (i % model.groups) * model.codes for i in range(len(before))]
    stream = [*known, model.begin, *(i + start for i, start in zip(before, group, strict=True))]
    places = torch.cat((model.places_text((len(known),)), model.places_picture(model.grid)[: len(before) + 1]))
    x = (model.table(torch.tensor(stream)) + places)[None]
    for block in model.blocks:
        x = block(x, causal=True)
    start = model.begin + 1 + len(before) % model.groups * model.codes
    return (model.norm(x)[0, -1] @ model.table.weight[start : start + model.codes].T).detach()


def test_it_does_what_it_says() -> None:
    model = small()
    for protocol in (Trains, Translates, Completes, Scores):
        assert isinstance(model, protocol)
    assert model.directions == (("text", "image"),)
    made = model.translate(TEXTS, "image")
    assert [item.pixels.shape for item in made] == [(16, 16, 3)] * 3


@pytest.mark.parametrize("groups", [1, 2])
def test_drawing_with_a_cache_equals_drawing_without(groups: int) -> None:
    model = small(groups)
    expected = []
    for text in TEXTS:
        ids: list[int] = []
        for _ in range(4 * groups):
            ids.append(int(next_logits(model, text, ids).argmax()))
        expected.append(ids)
    found = drawn(model, TEXTS)
    assert found.tolist() == expected
    assert len({tuple(row) for row in expected}) > 1  # what is said makes a difference


@pytest.mark.parametrize("groups", [1, 2])
def test_log_likelihood_equals_a_slow_loop(groups: int) -> None:
    model = small(groups)
    found = model.log_likelihood(SAMPLES)
    ids = model.codecs["image"].tokens(PICTURES).values.flatten(1).tolist()
    for sample, row, value in zip(SAMPLES, ids, found.tolist(), strict=True):
        slow = 0.0
        for place, chosen in enumerate(row):
            slow += float(next_logits(model, sample["text"], row[:place]).double().log_softmax(0)[chosen])
        assert value == pytest.approx(slow, abs=1e-4)


def test_score_is_the_likelihood_of_every_pair() -> None:
    model = small()
    table = model.score(TEXTS, PICTURES[:2])
    assert table.shape == (3, 2)
    pairs = [{"text": text, "image": picture} for text in TEXTS for picture in PICTURES[:2]]
    torch.testing.assert_close(table.flatten(), model.log_likelihood(pairs))
    alone = torch.cat([model.log_likelihood([pair]) for pair in pairs])
    torch.testing.assert_close(table.flatten(), alone, atol=1e-4, rtol=1e-5)


def test_a_candidate_has_the_likelihood_of_its_ids() -> None:
    model = small()
    sampling = Sampling(1.0, seed=3)
    texts = model.preprocessors["text"](TEXTS)
    with torch.no_grad():
        ids, total = model._written(model._read(texts), torch.tensor([0, 1, 2]), sampling)
        costs = model._costs(texts, ids, torch.ones(3, dtype=torch.bool))[1].sum(dim=1)
    torch.testing.assert_close(total, -costs, atol=1e-4, rtol=1e-5)


def test_what_is_drawn_is_the_same_alone_and_in_company(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    sampling = Sampling(1.0, top_p=0.95, seed=5)
    samples = [{"text": text} for text in TEXTS]
    together = model.candidates(samples, "image", sampling=sampling, count=5)
    monkeypatch.setattr("intermodal.systems.dalle1.ROWS", 4)  # rows of one sample fall into several parts
    parts = model.candidates(samples, "image", sampling=sampling, count=5)
    for sample, row, again in zip(samples, together, parts, strict=True):
        alone = model.candidates([sample], "image", sampling=sampling, count=5)[0]
        few = model.candidates([sample], "image", sampling=sampling, count=2)[0]
        assert [c.score for c in row] == sorted((c.score for c in row), reverse=True)
        for other in (again, alone):
            assert [c.score for c in other] == pytest.approx([c.score for c in row], abs=1e-4)
            assert all(np.array_equal(a.item.pixels, b.item.pixels) for a, b in zip(row, other, strict=True))
        kept = {c.item.pixels.tobytes() for c in row}
        assert {c.item.pixels.tobytes() for c in few} <= kept
        assert len(kept) > 1
    other = model.candidates(samples, "image", sampling=dataclasses.replace(sampling, seed=6), count=5)
    assert any(a.score != b.score for a, b in zip(together[0], other[0], strict=True))
    first = model.translate(TEXTS, "image", sampling=sampling, count=5)
    assert all(np.array_equal(a.pixels, row[0].item.pixels) for a, row in zip(first, together, strict=True))


def test_little_is_left_to_chance_when_it_is_cut_off() -> None:
    model = small()
    greedy = drawn(model, TEXTS)
    assert torch.equal(drawn(model, TEXTS, Sampling(1.0, top_k=1, seed=9)), greedy)
    assert torch.equal(drawn(model, TEXTS, Sampling(1.0, top_p=1e-6, seed=9)), greedy)
    assert not torch.equal(drawn(model, TEXTS, Sampling(1.0, seed=9)), greedy)
    assert not torch.equal(drawn(model, TEXTS, Sampling(1.0), 1), drawn(model, TEXTS, Sampling(1.0), 0))


def test_losses_are_weighed_means_over_all_ids_of_a_kind() -> None:
    model = small(text_weight=0.25, picture_weight=0.5)
    batch = batches(model, SAMPLES)
    found = model.losses(batch)
    per_picture = -model.log_likelihood(SAMPLES) / 8
    assert float(found["image"].detach()) == pytest.approx(0.5 * float(per_picture.mean()), rel=1e-4)
    without = [{"image": PICTURES[0]}, SAMPLES[1], {"text": TEXTS[2]}]
    part = model.losses(batches(model, without))
    assert all(bool(value.isfinite()) for value in part.values())
    one = model.losses(batches(model, [SAMPLES[1]]))["image"]
    blind = model.losses(batches(model, [{"image": PICTURES[0]}]))
    assert set(blind) == {"image"}
    assert float(part["image"].detach()) == pytest.approx(float((one + blind["image"]).detach()) / 2, rel=1e-4)
    assert set(model.losses(batches(model, [{"text": TEXTS[0]}]))) == {"text"}


def test_the_codec_stays_as_it_is() -> None:
    model = small()
    before = {name: value.clone() for name, value in model.codecs.state_dict().items()}
    model.train()
    assert model.training
    assert not any(module.training for module in model.codecs.modules())
    sum(model.losses(batches(model, SAMPLES)).values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is None and not p.requires_grad for p in model.codecs.parameters())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert all(torch.equal(value, before[name]) for name, value in model.codecs.state_dict().items())
    batch = model.preprocessors["image"]([*PICTURES, None])
    with torch.autocast("cpu", torch.bfloat16):
        ids = model.ids(batch)
    assert torch.equal(ids[:3], model.codecs["image"].tokens(PICTURES).values.flatten(1))
    assert not ids[3].any()


def test_what_was_learnt_is_drawn_told_apart_and_kept(tmp_path: Any) -> None:
    """Three sentences and their pictures, by heart: the right picture is drawn and the likeliest, saved or not."""
    model = small(depth=1).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    batch = batches(model, SAMPLES)
    for _ in range(80):
        optimizer.zero_grad()
        loss = torch.stack(list(model.losses(batch).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    wanted = model.codecs["image"].tokens(PICTURES).values.flatten(1)
    assert len({tuple(row) for row in wanted.tolist()}) == 3
    assert torch.equal(drawn(model.eval(), TEXTS), wanted)
    assert model.score(TEXTS, PICTURES).argmax(dim=1).tolist() == [0, 1, 2]
    save_model(tmp_path / "m", model)
    loaded = load_model(tmp_path / "m")
    assert loaded.config == model.config
    assert not any(p.requires_grad for p in loaded.codecs.parameters())
    assert torch.equal(loaded.score(TEXTS, PICTURES), model.score(TEXTS, PICTURES))
    same = zip(loaded.translate(TEXTS, "image"), model.translate(TEXTS, "image"), strict=True)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in same)


def test_nothing_asked_nothing_made() -> None:
    model = small()
    assert model.candidates([], "image") == []
    assert model.log_likelihood([]).shape == (0,)


@pytest.mark.parametrize(
    ("samples", "to", "count", "kind", "message"),
    [
        ([{"text": TEXTS[0]}], "video", 1, Unsupported, "draws image from text; it makes no video"),
        ([{"text": TEXTS[0]}], "image", 0, InvalidValue, "0 candidates were asked for"),
        ([{"image": PICTURES[0]}], "image", 1, Unsupported, r"the sample has image \(image\): give it a text"),
        ([{"text": PICTURES[0]}], "image", 1, Unsupported, r"the sample has text \(image\)"),
        ([{}], "image", 1, Unsupported, "the sample has no field"),
    ],
)
def test_what_cannot_be_drawn_is_explained(
    samples: list[Any], to: str, count: int, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        small().candidates(samples, to, count=count)


def test_other_directions_and_halves_of_pairs_are_refused() -> None:
    model = small()
    with pytest.raises(Unsupported, match="not from caption; give text"):
        model.translate(TEXTS, "image", source="caption")
    assert len(model.translate(TEXTS[:1], "image", source="text")) == 1
    with pytest.raises(Unsupported, match="a sample has text; give text and image of each"):
        model.log_likelihood([{"text": TEXTS[0]}])


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"codecs": {}}, InvalidValue, "draws one field, not none"),
        ({"codecs": {"a": codec_config(), "b": codec_config()}}, InvalidValue, "draws one field, not a, b"),
        ({"text": None}, InvalidValue, "'text' of dalle1 is nothing"),
        ({"text": ImagePreprocessor()}, InvalidValue, "'text' of dalle1 is image; give a preprocessor of texts"),
        ({"text_field": "image"}, InvalidValue, "under a name that no codec has"),
        ({"depth": 0}, InvalidValue, "depth of dalle1 is 0"),
        ({"heads": 5}, InvalidValue, "no multiple of its 5 heads"),
        ({"dropout": 1.0}, InvalidValue, "dropout 1.0 is below 1"),
        ({"text_weight": -1.0}, InvalidValue, "weights -1.0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        build(dataclasses.replace(small().config, **changes))


def test_a_codec_of_anything_but_pictures_of_one_size_is_refused() -> None:
    series = codec.Config("trace", TimeSeriesPreprocessor(patch=4), (0,))
    for wrong in (series, codec_config(sizes=(0, 2))):
        with pytest.raises(Unsupported, match="draws pictures of one size"):
            Config({"image": wrong}, text=TextPreprocessor(WORDS))


def test_sizes_take_one_field_of_each() -> None:
    many = {"text": "text", "question": "text", "photo": "image", "audio": "audio"}
    made = sized("tiny", many, WORDS)
    assert (made.text_field, made.picture_field) == ("text", "photo")
    assert from_dict(Config, to_dict(made)) == made
    blocks = sum(p.numel() for p in build(made).blocks.parameters())
    assert 2e6 < blocks < 3e6
    with torch.device("meta"):
        paper = build(sized("paper", many, WORDS))
    assert 12.0e9 < sum(p.numel() for p in paper.blocks.parameters()) < 12.2e9
    assert (paper.grid, paper.codes) == ((32, 32, 1), 8192)
    with pytest.raises(UnknownName, match="size of dalle1"):
        sized("huge", many, WORDS)
    for fields, found in (({"a": "text"}, "of image the data has none"), ({"a": "text", "b": "text"}, "has a, b")):
        with pytest.raises(Unsupported, match=found):
            sized("tiny", fields, WORDS)
