"""The unified transformer: any fields in, any field out, the same alone and in company."""

import copy
import dataclasses

import pytest
import torch

from intermodal.config import from_dict, override, to_dict
from intermodal.decoders.spelling import Spelt
from intermodal.decoders.vocabulary import TEXT, Writer
from intermodal.diorama.source import Diorama
from intermodal.errors import InvalidValue, UnknownName, Unsupported
from intermodal.layers.packing import Asked, Given, side_by_side
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.sampling.autoregressive import Sampling
from intermodal.sampling.plan import Plan
from intermodal.systems import codec, unified
from intermodal.tokenizers.codebook import Codebook
from intermodal.tokenizers.word import WordTokenizer
from intermodal.types import Answers, Batch, Classifies, Completes, Embeds, Scores, Trains, Translates

FIELDS = ("text", "image", "timeseries")
SOURCE = Diorama("train", FIELDS, size=8)
SAMPLES = SOURCE.samples(range(8))


def small(plan: Plan | None = None, fields: dict[str, str] | None = None, contrast: float = 0.0) -> unified.Unified:
    """Returns a model of text, pictures and series with codecs of 4 x 2 and 2 x 2 ids."""
    torch.manual_seed(0)
    book = Codebook(levels=(4, 4), groups=2)
    tokenizer = WordTokenizer(words=tuple(Diorama.vocabulary))
    whole = unified.sized("tiny", fields or SOURCE.fields, tokenizer)
    codecs = {
        kind: dataclasses.replace(codec.sized("tiny", {kind: kind}), width=32, codebook=book, channels=(8, 8, 8))
        for kind in whole.codecs
    }
    if "timeseries" in codecs:
        codecs["timeseries"] = dataclasses.replace(codecs["timeseries"], channels=(), depth=1)
    whole = dataclasses.replace(whole, plan=plan or whole.plan, contrast=contrast)
    changed = dataclasses.replace(whole, codecs=codecs, width=32, depth=2, heads=2, longest=6)
    return unified.build(changed)


def test_it_can_do_what_it_says() -> None:
    model = small()
    for contract in (Trains, Embeds, Scores, Classifies, Translates, Completes):
        assert isinstance(model, contract)
    assert not isinstance(model, Answers)  # it has learnt no questions
    assert set(model.directions) == {(a, b) for a in FIELDS for b in FIELDS if a != b}
    assert from_dict(unified.Config, to_dict(model.config)) == model.config


def test_codecs_and_a_finished_reader_are_not_trained_and_every_field_is() -> None:
    model = small().train()
    assert not model.codecs["image"].training
    assert not model.reader.training
    assert not any(p.requires_grad for part in (model.codecs, model.reader) for p in part.parameters())
    losses = model.losses(model.batches(SAMPLES))
    assert set(losses) == set(FIELDS)
    assert all(bool(loss.isfinite()) and float(loss.detach()) > 0 for loss in losses.values())
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_reader_with_a_weight_is_trained_along_by_what_is_written_and_by_contrast() -> None:
    model = small(contrast=0.5).train()
    assert model.reader.training
    batch = model.batches(SAMPLES)
    losses = model.losses(batch)
    assert set(losses) == {*FIELDS, "contrast"}
    model.eval()
    own = model.reader.losses(batch)
    torch.testing.assert_close(model.losses(batch)["contrast"], 0.5 * torch.stack([*own.values()]).sum())
    (grad,) = torch.autograd.grad(losses["text"], model.reader.encoders["image"].norm.weight)
    assert float(grad.abs().max()) > 0
    assert all(
        torch.autograd.grad(losses["contrast"], head.weight, retain_graph=True)[0].abs().max() > 0
        for head in model.reader.heads.values()
    )


@torch.no_grad()
@pytest.mark.parametrize("to", FIELDS)
def test_writing_with_a_memory_is_what_the_loss_looks_at(to: str) -> None:
    check_memory(small().eval(), to)


def reading(model: unified.Unified, name: str, batch: Batch) -> Given:
    """Returns a field as it enters the blocks when it is given."""
    return model.vocabulary.tokens(name, batch, model.vocabulary.read(name, batch))


def check_memory(model: unified.Unified, to: str) -> None:
    """Writes a field of two samples and looks whether one pass over all of it gives the same likelihood."""
    torch.nn.init.normal_(model.vocabulary.speller.look.out.weight)  # fresh, it does not look
    for i, sample in enumerate(SAMPLES[:2]):
        given = {n: item for n, item in sample.items() if n != to and n in model.config.fields}
        *_, last = model.writing([given], to, Sampling(temperature=1.0, seed=i))
        reads = {n: reading(model, n, part) for n, part in model.batches([given]).items()}
        real = torch.ones_like(last.choices, dtype=torch.bool)
        real[:, int(last.lengths) :, 1:] = False
        spelt = Spelt(last.choices, real)
        seen = {n: torch.ones(1, dtype=torch.bool) for n in reads}
        found = side_by_side(model.blocks, reads, {to: Asked(model.vocabulary.begun(to, spelt), seen)})
        hidden = model.norm(found[to])
        x = torch.zeros(1)
        source = model.vocabulary.source(reads, 1)
        writer = model.vocabulary.writer(to, last.choices.shape[1], source)
        for place in range(last.choices.shape[1]):
            chosen = torch.zeros(1, 1, hidden.shape[2])
            for group in range(int(real[0, place].sum())):
                start, size = writer.spelling.starts[group], writer.spelling.sizes[group]
                mark = writer.speller.marks[writer.spelling.first + group, None]
                spelled = writer.speller(hidden[:, place, None], chosen, mark, source)
                logits = spelled[:, 0] @ writer.table[start : start + size].T
                if group == 0 and place == 0 and writer.spelling.end is not None:
                    logits[:, writer.spelling.end] = -torch.inf
                x = x + logits.log_softmax(-1)[0, last.choices[0, place, group]]
                chosen = chosen + writer.table[start + last.choices[:, place, group]]
        torch.testing.assert_close(last.log_likelihood, x, atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_a_weight_is_that_of_its_field_alone() -> None:
    plain = small().eval()
    weighed = unified.build(override(plain.config, {"weights.image": "2.5"})).eval()
    weighed.load_state_dict(plain.state_dict())
    torch.manual_seed(1)
    one = plain.losses(plain.batches(SAMPLES))
    torch.manual_seed(1)
    other = weighed.losses(weighed.batches(SAMPLES))
    torch.testing.assert_close(other.pop("image"), 2.5 * one.pop("image"))
    torch.testing.assert_close(other, one)


@torch.no_grad()
def test_the_loss_of_a_field_is_its_likelihood() -> None:
    model = small(Plan(FIELDS, single=0.0, alone=0.0)).eval()
    torch.manual_seed(1)
    whole = float(model.losses(model.batches(SAMPLES))["image"])
    torch.manual_seed(1)
    (sees,) = [model.config.plan.drawn(n, model.batches(SAMPLES)) for n in FIELDS][FIELDS.index("image")]
    rows = [{n: item for n, item in s.items() if n == "image" or bool(sees[n][i])} for i, s in enumerate(SAMPLES)]
    likely = torch.cat([model.likelihood([row], "image") for row in rows])
    assert whole == pytest.approx(-float(likely.mean()) / len(FIELDS), rel=1e-4)


@torch.no_grad()
def test_a_field_may_be_written_from_each_other_one() -> None:
    model = small(Plan(FIELDS, targets=("text",), each=True)).eval()
    (found,) = model.losses(model.batches(SAMPLES)).values()
    pairs = [{"text": s["text"], name: s[name]} for name in FIELDS if name != "text" for s in SAMPLES]
    likely = torch.cat([model.likelihood([pair], "text") for pair in pairs])
    assert float(found) == pytest.approx(-float(likely.mean()), rel=1e-4)
    assert set(model.directions) == {(name, "text") for name in FIELDS if name != "text"}


def test_a_sample_gets_the_same_alone_and_in_company() -> None:
    model = small()
    samples = [{n: s[n] for n in FIELDS[i % 3 :] if n != "image"} for i, s in enumerate(SAMPLES[:4])]
    samples = [s or {"text": SAMPLES[i]["text"]} for i, s in enumerate(samples)]
    together = model.candidates(samples, "image", sampling=Sampling(1.0, seed=2), count=2)
    for sample, found in zip(samples, together, strict=True):
        (alone,) = model.candidates([sample], "image", sampling=Sampling(1.0, seed=2), count=2)
        assert [c.score for c in alone] == pytest.approx([c.score for c in found], rel=1e-4)
        assert all(a.item == b.item for a, b in zip(alone, found, strict=True))
        assert found[0].score >= found[1].score
    assert isinstance(together[0][0].item, Image)


@torch.no_grad()
@pytest.mark.parametrize("to", FIELDS)
def test_from_an_empty_sample_a_field_is_drawn_from_nothing(to: str) -> None:
    model = small().eval()
    (found,) = model.candidates([{}], to, sampling=Sampling(1.0, seed=1), count=4)
    assert len({round(c.score, 6) for c in found}) == 4
    *_, last = model.writing([{}], to, Sampling(1.0, seed=1), 4)
    spelt = Spelt(last.choices, torch.ones_like(last.choices, dtype=torch.bool))
    alone = side_by_side(model.blocks, {}, {to: Asked(model.vocabulary.begun(to, spelt), {})})
    source = model.vocabulary.source({}, 4)
    first = model.vocabulary.writer(to, 6, source)
    x, mark = model.norm(alone[to])[:, :1], first.speller.marks[first.spelling.first, None]
    logits = first.speller(x, torch.zeros_like(x), mark, source)[:, 0] @ first.table[first.spelling.starts[0] :].T
    single = next(iter(model.writing([{}], to, Sampling())))
    assert int(single.choices[0, 0, 0]) == int(masked(logits[0, : first.spelling.sizes[0]], first).argmax())
    given = {n: SAMPLES[0][n] for n in FIELDS if n != to}
    beside = model.candidates([{}, given], to, sampling=Sampling(1.0, seed=1), count=4)
    assert [c.score for c in beside[0]] == pytest.approx([c.score for c in found], rel=1e-4)
    assert [c.score for c in beside[1]] != pytest.approx([c.score for c in found], rel=1e-4)
    with pytest.raises(Unsupported, match="the sample has nothing"):
        small(Plan(FIELDS, alone=0.0)).candidates([{}], to)


def masked(logits: torch.Tensor, writer: Writer) -> torch.Tensor:
    """Returns the logits of a first id: none is the end."""
    end = writer.spelling.end
    return logits if end is None else logits.index_fill(0, torch.tensor([end]), -torch.inf)


def test_a_caption_is_written_from_regions_which_are_only_read() -> None:
    tokenizer = WordTokenizer(words=("a", "dog"))
    whole = unified.sized("tiny", {"regions": "timeseries", "caption": "text"}, tokenizer)
    assert whole.plan == Plan((), {"caption": (("regions",),)})
    assert whole.codecs == {}
    assert whole.preprocessor("regions") == whole.towers["timeseries"].preprocessor
    assert set(whole.towers) == {"timeseries", "text"}
    assert (whole.tower("regions"), whole.tower("caption")) == ("timeseries", "text")


def test_one_candidate_is_the_likeliest_and_translating_takes_it() -> None:
    model = small()
    (only,) = model.candidates([{"image": SAMPLES[0]["image"]}], "text")
    assert [only[0].item] == model.translate([SAMPLES[0]["image"]], "text")
    assert isinstance(only[0].item, Text)
    assert len(model.translate([s["text"] for s in SAMPLES], "timeseries")) == 8


def test_of_several_candidates_the_one_is_first_from_which_the_given_is_likeliest() -> None:
    model = small()
    sample = {"text": SAMPLES[0]["text"]}
    (found,) = model.candidates([sample], "image", count=4)
    scores = [c.score for c in found]
    assert scores == sorted(scores, reverse=True)
    back = [float(model.likelihood([{"image": c.item, **sample}], "text")) for c in found]
    assert scores == pytest.approx(back, rel=1e-4)


def test_the_rows_that_are_written_together_do_not_change_them() -> None:
    model = small()
    samples = [{"text": s["text"]} for s in SAMPLES]
    many, few = (model.candidates(samples, "image", rows=rows) for rows in (32, 3))
    assert [c[0].score for c in many] == pytest.approx([c[0].score for c in few], rel=1e-4)


def test_tasks_are_written_from_their_own_fields() -> None:
    fields = {"image": "image", "question": "text", "answer": "text", "timeseries": "timeseries"}
    model = small(fields=fields)
    assert model.config.plan == Plan(("image", "timeseries"), {"answer": (("image", "question"),)})
    sample = {"image": SAMPLES[0]["image"], "question": Text("what colour is the star?"), "answer": Text("red")}
    losses = model.train().losses(model.batches([sample] * 4))
    assert set(losses) == {"image", "answer"}
    assert isinstance(model, Answers)
    assert copy.deepcopy(model).answer.__self__ is not model  # type: ignore[attr-defined]
    assert isinstance(model.answer({"image": sample["image"]}, "what colour is the star?"), str)
    with pytest.raises(Unsupported, match="not learnt to answer questions about timeseries"):
        model.answer({"timeseries": SAMPLES[0]["timeseries"]}, "what colour is the star?")
    with pytest.raises(Unsupported, match="image with question"):
        model.candidates([{"image": sample["image"]}], "answer")


@torch.no_grad()
def test_fields_of_one_kind_differ_by_what_leads_from_the_tower_and_by_their_mark_alone() -> None:
    model = small(fields={"image": "image", "text": "text", "question": "text", "answer": "text"})
    assert set(model.vocabulary.spellings) == {"image", TEXT}
    assert set(model.vocabulary.bridges) == {"image", "text", "question"}
    batch = model.batches([{"question": Text("red"), "text": Text("red")}])
    model.vocabulary.bridges["text"].load_state_dict(model.vocabulary.bridges["question"].state_dict())
    a, b = (reading(model, n, batch[n]).tokens for n in ("question", "text"))
    marks = model.vocabulary.marks
    torch.testing.assert_close(a - marks["question"][0], b - marks["text"][0])


@torch.no_grad()
def test_words_that_the_reader_does_not_know_are_read_by_the_blocks() -> None:
    config = small(fields={"image": "image", "text": "text"}).config
    towers = dict(config.reader.towers)
    other = dataclasses.replace(towers["text"].preprocessor, tokenizer=WordTokenizer(words=("red",)))
    towers["text"] = dataclasses.replace(towers["text"], preprocessor=other)
    model = unified.build(dataclasses.replace(config, reader=dataclasses.replace(config.reader, towers=towers))).eval()
    assert set(model.vocabulary.towers) == {"image"}
    batch = model.batches([{"text": s["text"]} for s in SAMPLES[:2]])
    assert not reading(model, "text", batch["text"]).still
    check_memory(model, "image")
    (losses,) = {frozenset(model.train().losses(model.batches(SAMPLES)))}
    assert losses == {"image", "text"}
    towers["image"] = dataclasses.replace(
        towers["image"], preprocessor=dataclasses.replace(towers["image"].preprocessor, height=32)
    )
    with pytest.raises(InvalidValue, match="the reader takes image as"):
        unified.build(dataclasses.replace(config, reader=dataclasses.replace(config.reader, towers=towers)))


@torch.no_grad()
def test_a_tower_may_cut_media_of_one_size_into_other_patches() -> None:
    model = small(fields={"image": "image", "text": "text"}).eval()
    towers = dict(model.config.reader.towers)
    coarse = dataclasses.replace(towers["image"].preprocessor, patch=32)
    towers["image"] = dataclasses.replace(towers["image"], preprocessor=coarse, sizes=(2, 2))
    reader = dataclasses.replace(model.config.reader, towers=towers)
    other = unified.build(dataclasses.replace(model.config, reader=reader)).eval()
    batch = other.batches([SAMPLES[0], {"text": SAMPLES[1]["text"]}])["image"]
    given = reading(other, "image", batch)
    assert given.mask.tolist() == [[True] * 4, [False] * 4]
    torch.testing.assert_close(
        given.tokens[0] - other.vocabulary.marks["image"][0],
        other.vocabulary.bridges["image"](other.reader.encoders["image"](coarse([SAMPLES[0]["image"]])).tokens)[0],
    )


def test_vectors_are_those_of_the_reader() -> None:
    model = small(fields={"image": "image", "question": "text", "answer": "text", "timeseries": "timeseries"})
    items = [SAMPLES[0]["image"], SAMPLES[0]["timeseries"], SAMPLES[1]["image"]]
    torch.testing.assert_close(model.embed(items), model.reader.embed(items))
    torch.testing.assert_close(model.score(items, items[:1]), model.reader.score(items, items[:1]))
    pictures, labels = items[::2], ["red", "blue", "green"]
    torch.testing.assert_close(model.classify(pictures, labels), model.reader.classify(pictures, labels))
    model.precision = "bf16"
    assert model.reader.precision == model.precision == "bf16"
    with pytest.raises(Unsupported, match="no tower for audio"):
        model.embed([Audio(torch.zeros(1, 4000).numpy(), 8000)])
    with pytest.raises(Unsupported, match="does not read audio"):
        model.translate([Audio(torch.zeros(1, 4000).numpy(), 8000)], "image")


def test_rows_without_a_field_train_the_others() -> None:
    model = small().train()
    holes = [{n: item for n, item in s.items() if i % 2 or n != "image"} for i, s in enumerate(SAMPLES)]
    losses = model.losses(model.batches(holes))
    assert set(losses) == set(FIELDS)
    assert all(bool(loss.isfinite()) for loss in losses.values())
    part = model.batches(holes)
    assert not bool(part["image"].present.all())
    none = {n: Batch(p.values, p.mask & (n != "image")) for n, p in part.items()}
    assert "image" not in model.losses(none)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan": Plan(("image",))}, "at least two fields, not 1"),
        ({"plan": Plan(("image", "smell"))}, "smell"),
        ({"fields": {"image": "image", "text": "words"}}, "words"),
        ({"text": None}, "no preprocessor of texts"),
        ({"contrast": -1.0}, "contrast -1.0"),
        ({"weights": {"image": -2.0}}, "and weights"),
        ({"weights": {"smell": 2.0}}, "smell"),
        ({"reader": None, "plan": Plan(("image", "text"))}, "no reader"),
    ],
)
def test_configs_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    config = small().config
    with pytest.raises((InvalidValue, UnknownName), match=message):
        dataclasses.replace(config, **{"plan": Plan(("image", "text")), **changes})  # type: ignore[arg-type]
