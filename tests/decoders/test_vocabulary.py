"""Fields of several kinds in one vocabulary."""

import pytest
import torch

from intermodal.decoders.vocabulary import TEXT, Vocabulary
from intermodal.diorama.source import Diorama
from intermodal.encoders.tower import TowerConfig, encoder
from intermodal.modalities.image import Image
from intermodal.modalities.text import TextPreprocessor
from intermodal.modalities.timeseries import TimeSeriesPreprocessor
from intermodal.systems import codec
from intermodal.tokenizers.codebook import Codebook
from intermodal.tokenizers.word import WordTokenizer

WIDTH = 16
TOKENIZER = WordTokenizer(words=tuple(Diorama.vocabulary))
TEXTS = TextPreprocessor(TOKENIZER, 40)
FIELDS = {"text": TEXT, "answer": TEXT, "image": "image", "trace": "timeseries"}
SAMPLES = Diorama("train", ("text", "image", "timeseries"), size=3).samples(range(3))


def vocabulary() -> Vocabulary:
    torch.manual_seed(0)
    book = Codebook(levels=(4, 4), groups=2)
    configs = {
        "image": codec.sized("tiny", {"image": "image"}),
        "timeseries": codec.Config("trace", TimeSeriesPreprocessor(channels=9, patch=16), (0,), width=32),
    }
    codecs = {
        kind: codec.build(codec.Config(kind, c.preprocessor, c.sizes, c.first, c.channels, 32, 1, 2, book)).eval()
        for kind, c in configs.items()
    }
    sizes = {TEXT: (40,), "image": (4, 4), "timeseries": (0,)}
    towers = {
        name: (encoder(TowerConfig(configs[kind].preprocessor, width=8, depth=1, heads=2, sizes=sizes[kind])), 0)
        for name, kind in FIELDS.items()
        if kind != TEXT
    }
    return Vocabulary(WIDTH, FIELDS, sizes, codecs, towers, TOKENIZER)


def test_its_weights_are_those_of_the_table_and_not_of_the_codecs() -> None:
    own = vocabulary()
    assert own.table.weight.shape == (1 + TOKENIZER.vocab_size + (1 + 16 + 16) + (2 + 16 + 16), WIDTH)
    assert not any("codec" in name or "tower" in name for name, _ in own.named_parameters())
    assert own.ends("image") is False
    assert own.ends("timeseries") is own.ends(TEXT) is True


@torch.no_grad()
def test_given_texts_are_looked_up_where_written_ones_are_chosen() -> None:
    own = vocabulary()
    batch = TEXTS([s["text"] for s in SAMPLES])
    tokens = own.tokens("text", batch, own.read("text", batch)).tokens
    start = own.spellings[TEXT].starts[0]
    place = own.read_places((batch.values.shape[1],)) + own.marks["text"][0]
    torch.testing.assert_close(tokens - place, own.table.weight[batch.values + start])
    spelt = own.spelt("text", batch)
    begun = own.begun("text", spelt) - own.places("text", spelt.choices.shape[1])
    torch.testing.assert_close(begun[:, 0], own.table.weight[own.spellings[TEXT].begin].expand(3, -1))
    torch.testing.assert_close(begun[:, 1:], own.table.weight[start + batch.values[:, 1:-1]])


@torch.no_grad()
@pytest.mark.parametrize("name", ["image", "trace"])
def test_media_are_written_as_codes_and_read_back(name: str) -> None:
    own = vocabulary()
    kind = FIELDS[name]
    items = [s["image" if name == "image" else "timeseries"] for s in SAMPLES]
    made = own.codecs[kind].tokens(items)
    spelt = own.spelt(name, own.codecs[kind].config.preprocessor(items))
    longest = made.mask.shape[1]
    back = own.read_back(name, spelt.choices[:, :longest], made.mask)
    assert torch.equal(back, made.values)
    assert spelt.choices.shape[1] == longest + (name == "trace")
    assert own.begun(name, spelt).shape == (3, spelt.choices.shape[1], WIDTH)
    batch = own.codecs[kind].config.preprocessor(items)
    assert own.tokens(name, batch, own.read(name, batch)).tokens.shape[1] == longest


@torch.no_grad()
def test_what_is_written_does_not_depend_on_padding() -> None:
    own = vocabulary()
    short, both = TEXTS([SAMPLES[1]["text"]]), TEXTS([SAMPLES[1]["text"], SAMPLES[0]["text"]])
    count = short.values.shape[1] - 1
    assert both.values.shape[1] - 1 > count
    alone, among = own.spelt("text", short), own.spelt("text", both)
    hidden = torch.randn(2, both.values.shape[1] - 1, WIDTH)
    source = own.source({}, 2)
    one = own.log_likelihood("text", hidden[:1, :count], alone, source.rows(torch.tensor([0])))
    torch.testing.assert_close(one[0], own.log_likelihood("text", hidden, among, source)[0])
    torch.testing.assert_close(own.begun("text", alone)[0], own.begun("text", among)[0, :count])


@torch.no_grad()
def test_what_is_looked_at_is_what_is_seen_in_a_row() -> None:
    own = vocabulary()
    batch = own.codecs["image"].config.preprocessor([s["image"] for s in SAMPLES])
    given = {"image": own.tokens("image", batch, own.read("image", batch))}
    count = given["image"].tokens.shape[1]
    source = own.source(given, 3, {"image": torch.tensor([True, False, True])})
    assert source.mask.sum(dim=1).tolist() == [count + 1, 1, count + 1]
    assert own.source({}, 3).mask.tolist() == [[True]] * 3
    picked = source.rows(torch.tensor([2, 2, 1]))
    assert picked.mask.sum(dim=1).tolist() == [count + 1, count + 1, 1]
    torch.testing.assert_close(picked.keys[0], source.keys[2])


def test_the_writer_has_room_for_what_is_asked() -> None:
    own = vocabulary()
    source = own.source({}, 1)
    writer = own.writer("trace", 9, source)
    assert writer.places.shape == (9, WIDTH)
    assert writer.spelling.end == 0
    assert own.writer("image", 16, source).spelling == own.spellings["image"]
    assert isinstance(SAMPLES[0]["image"], Image)
