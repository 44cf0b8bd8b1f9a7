"""The language model: what it tells depends on what stands before alone, and written with memory equals without."""

import pytest
import torch

from intermodal.config import from_dict, to_dict
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.layers.attention import attend
from intermodal.layers.stream import streamed
from intermodal.modalities.image import ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.sampling.autoregressive import Sampling, beam_search
from intermodal.systems.language import Config, Language, _Writing, build, sized
from intermodal.testing import batches
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import Answers, Sample, Trains
from tests.streams import seen_by_heads

WORDS = WordTokenizer(words=("red", "green", "blue", "a", "big", "square", "?"))
SAMPLES: list[Sample] = [
    {"one": Text("a red square"), "two": Text("big ?"), "three": Text("blue")},
    {"one": Text("green")},
    {"one": Text("a ?"), "three": Text("big blue square a")},
]


def small(**changes: int) -> Language:
    torch.manual_seed(0)
    model = build(Config(("one", "two", "three"), TextPreprocessor(WORDS, 8), 4, 16, 2, 2, **changes))
    with torch.no_grad():  # fresh vectors are so small that places make no difference
        for table in (model.table, model.numbers, model.places):
            table.weight.mul_(20)
    return model.eval()


def slow(model: Language, texts: list[list[int]]) -> list[torch.Tensor]:
    """Returns the logits after each id of texts that follow each other: the stream anew for each, without padding."""
    found = []
    flat = [(n, p, i) for n, text in enumerate(texts) for p, i in enumerate(text)]
    for stop in range(1, len(flat) + 1):
        number, place, ids = (torch.tensor([row[k] for row in flat[:stop]])[None] for k in range(3))
        x = model.table(ids) + model.numbers(number) + model.places(place)
        seen = seen_by_heads(number[0].tolist(), model.config.heads)
        for block, smear in zip(model.blocks, model.smears, strict=True):
            x = block.extend(x, lambda q, k, v, smear=smear, seen=seen: attend(q, smear(k), v, seen))
        found.append((model.norm(x)[0, -1] @ model.table.weight.T).detach())
    return found


def test_it_does_what_it_says() -> None:
    assert isinstance(small(), Trains)
    assert isinstance(small(), Answers)


def test_likelihood_equals_a_slow_loop() -> None:
    model = small()
    likely, count = model.log_likelihood(SAMPLES)
    for sample, value, number in zip(SAMPLES, likely.tolist(), count.tolist(), strict=True):
        texts = [WORDS.encode(item.text) for item in sample.values()]  # type: ignore[attr-defined]
        logits = slow(model, texts)
        total, at = 0.0, 0
        for text in texts:
            for before, wanted in enumerate(text[1:]):
                total += float(logits[at + before].log_softmax(0)[wanted])
            at += len(text)
        assert value == pytest.approx(total, abs=1e-4)
        assert number == sum(len(text) - 1 for text in texts)


def test_the_loss_is_the_mean_cost_of_an_id() -> None:
    model = small()
    likely, count = model.log_likelihood(SAMPLES)
    loss = model.losses(batches(model, SAMPLES))["words"].detach()
    assert float(loss) == pytest.approx(float(-likely.sum() / count.sum()), abs=1e-5)
    assert model.losses(batches(model, [{}, {}])) == {}


def test_writing_with_memory_equals_writing_without() -> None:
    model = small()
    samples, questions = [*SAMPLES, {}], ["a big", "", "red", ""]
    found = model.answers(samples, questions)
    for sample, question, words in zip(samples, questions, found, strict=True):
        texts = [WORDS.encode(item.text) for item in sample.values()]  # type: ignore[attr-defined]
        last = WORDS.encode(question)[:-1]
        begun = len(last)
        while len(last) < 8 - 1 and (not last[begun:] or last[-1] != WORDS.end_id):
            last.append(int(slow(model, [*texts, last])[-1].argmax()))
        assert words == WORDS.decode(last[begun:])
    assert len(set(found)) > 1


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model = small()
    together, _ = model.log_likelihood(SAMPLES)
    alone = torch.cat([model.log_likelihood([sample])[0] for sample in SAMPLES])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-5)
    questions = ["a big", "", "red"]
    assert model.answers(SAMPLES, questions) == [model.answer(s, q) for s, q in zip(SAMPLES, questions, strict=True)]


def test_an_absent_text_takes_no_place() -> None:
    model = small()
    short = {"one": SAMPLES[2]["one"], "two": SAMPLES[2]["three"]}
    loss = [model.losses(batches(model, [sample]))["words"] for sample in (SAMPLES[2], short)]
    torch.testing.assert_close(*loss)


def test_rows_can_be_kept_while_writing() -> None:
    model = small()
    stream = streamed([*model.texts(SAMPLES), model.begun(["", "", ""])])
    before, last = stream.begun()
    with torch.no_grad():
        found = beam_search(_Writing(model, before, last, None), last.ids, WORDS.end_id, 4, 3)
    assert len(found.ids) == 9
    for row, sample in enumerate(sample for sample in SAMPLES for _ in range(3)):
        texts = [WORDS.encode(item.text) for item in sample.values()]  # type: ignore[attr-defined]
        ids = found.ids[row].tolist()
        ids = ids[: ids.index(WORDS.end_id) + 1] if WORDS.end_id in ids else ids
        logits = slow(model, [*texts, [WORDS.begin_id, *ids]])[-len(ids) - 1 : -1]
        likely = [float(each.log_softmax(0)[i]) for each, i in zip(logits, ids, strict=True)]
        assert float(found.score[row]) == pytest.approx(sum(likely) / len(ids), abs=1e-4)


def test_what_is_drawn_is_drawn_alike_alone() -> None:
    model = small()
    sampling = Sampling(temperature=2.0, seed=3)
    stream = streamed([*model.texts(SAMPLES), model.begun(["", "", ""])])
    candidates = torch.tensor([0, 1, 2])
    with torch.no_grad():
        many, scores = model.written(stream, sampling, candidates)
        one, score = model.written(stream.rows(torch.tensor([1])), sampling, candidates[1:2])
    assert many[1] == one[0]
    assert scores[1] == pytest.approx(score[0], abs=1e-5)
    assert all(row[-1] == WORDS.end_id for row in many)


def test_bad_requests_are_refused_in_a_sentence() -> None:
    model = small()
    with pytest.raises(InvalidValue, match="a prompt of 5 texts is more than the 4"):
        model.log_likelihood([{str(i): Text("red") for i in range(5)}])
    with pytest.raises(InvalidValue, match="begins with 8 ids and has at most 8"):
        model.answer({}, "a a a a a a a")
    with pytest.raises(Unsupported, match="the sample has image"):
        model.answer({"image": ImagePreprocessor(8, 8, 8).invert(torch.zeros(1, 3, 8, 8))[0]}, "a")
    with pytest.raises(InvalidValue, match="texts_max is 2"):
        Config(("a", "b", "c"), TextPreprocessor(WORDS), 2)
    with pytest.raises(InvalidValue, match="at least one field"):
        Config((), TextPreprocessor(WORDS))
    with pytest.raises(InvalidValue, match="at least 1, dropout"):
        Config(text=TextPreprocessor(WORDS), depth=0)
    with pytest.raises(UnknownName, match="size of language"):
        sized("huge", {"text": "text"}, WORDS)
    with pytest.raises(Unsupported, match="learns from texts"):
        sized("tiny", {"image": "image"}, WORDS)


def test_config_survives_json() -> None:
    config = sized("tiny", {"b": "text", "image": "image", "a": "text"}, WORDS)
    assert config.fields == ("b", "a")
    assert from_dict(Config, to_dict(config)) == config
