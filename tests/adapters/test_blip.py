"""Published BLIP folders, made with random weights, against the library that wrote them."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow

import intermodal as im
from intermodal.adapters._files import read_object
from intermodal.cli.app import run
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.sampling.autoregressive import Sampling
from intermodal.saving import load_model, save_model
from intermodal.systems.blip import Blip
from intermodal.types import Answers, Embeds, Scores, Translates
from tests import published

SIDE, LONGEST = 32, 20
PICTURES = [published.picture(60, 90), published.picture(133, 57, 1), published.picture(32, 32, 2)]
ITEMS = [Image(pixels) for pixels in PICTURES]
TEXTS = ["a red house", "the dog barks", "what is a photo of two cat"]
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


def build(folder: Path, kind: str, width: int = 16) -> Any:
    """Writes a folder and returns the network in it."""
    library = published.library()
    folder.mkdir(exist_ok=True)
    vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *published.WORDS, "[DEC]", "[ENC]")
    tokenizer = library.BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)})
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    text: dict[str, Any] = {**sizes, "hidden_size": 16, "encoder_hidden_size": width, "vocab_size": len(vocabulary)}
    text |= {"max_position_embeddings": 24, "bos_token_id": len(vocabulary) - 2, "sep_token_id": 3, "pad_token_id": 0}
    text |= {"eos_token_id": 3, "projection_dim": 16}
    image = {**sizes, "hidden_size": width, "image_size": SIDE, "patch_size": 8, "projection_dim": 16}
    config = library.BlipConfig(text_config=text, vision_config=image, projection_dim=16, image_text_hidden_size=12)
    torch.manual_seed(0)
    network = published.shaken(getattr(library, kind)(config), 0.3)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor(library)(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return network


def processor(library: Any) -> Any:
    """Returns the library's preparation of pictures that needs no torchvision."""
    return library.models.blip.image_processing_pil_blip.BlipImageProcessorPil


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("published") / "captions"
    return folder, build(folder, "BlipForConditionalGeneration", 20)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("published") / "answers"
    return folder, build(folder, "BlipForQuestionAnswering")


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("published") / "retrieval"
    return folder, build(folder, "BlipForImageTextRetrieval", 20)


def given(folder: Path, words: list[str] | None, count: int = 3) -> Any:
    """Returns what the library's own preparation makes of pictures and words."""
    library = published.library()
    found = processor(library).from_pretrained(folder)(
        [Pillow.fromarray(p) for p in PICTURES[:count]], return_tensors="pt"
    )
    if words is not None:
        tokenizer = library.BertTokenizer.from_pretrained(folder)
        found |= tokenizer(words, return_tensors="pt", return_token_type_ids=False, padding=True)
    return found


def theirs(folder: Path, words: str | None, count: int = 3, **how: Any) -> list[str]:
    """Returns what the library itself writes about the pictures, loaded from the folder, in our spelling."""
    library = published.library()
    network = getattr(library, library.BlipConfig.from_pretrained(folder).architectures[0])
    rows = network.from_pretrained(folder).generate(
        **given(folder, None if words is None else [words] * count, count), max_new_tokens=LONGEST, **how
    )
    return [item.text for item in im.load(folder).model.config.text.invert(rows[:, 1:])]


@pytest.mark.peer
def test_captions_are_those_of_transformers(captions: tuple[Path, Any]) -> None:
    folder, _ = captions
    ours = im.load(folder)
    assert isinstance(ours, Translates)
    assert not isinstance(ours, Answers | Embeds)
    expected = theirs(folder, None)
    assert all(expected)
    assert [item.text for item in ours.translate(ITEMS, "text")] == expected
    assert [ours.translate([item], "text")[0].text for item in ITEMS] == expected
    for beams in (2, 3, 5):
        assert [item.text for item in ours.translate(ITEMS, "text", count=beams)] == theirs(
            folder, None, num_beams=beams
        )
    ours.begin = "a photo of"
    assert [item.text for item in ours.translate(ITEMS, "text")] == theirs(folder, "a photo of")


@pytest.mark.peer
def test_logits_of_captions_are_those_of_transformers(captions: tuple[Path, Any]) -> None:
    folder, network = captions
    ours = im.load(folder).model
    asked = given(folder, TEXTS)
    pictures, texts = ours.config.image(ITEMS), ours.config.text([Text(words) for words in TEXTS])
    asked["input_ids"][:, 0] = ours.writes_from
    with torch.no_grad():
        told = network(**asked)
        seen = ours.eyes(pictures)
        logits, wanted = ours.texts["writes"].told(texts, ours.writes_from, seen)
    real = asked["attention_mask"].bool()
    torch.testing.assert_close(seen.tokens, told.last_hidden_state, **CLOSE)
    torch.testing.assert_close(logits, told.logits[:, :-1][real[:, 1:]], **CLOSE)
    assert torch.equal(wanted, asked["input_ids"][:, 1:][real[:, 1:]])
    assert float(logits.std()) > 0.1


@pytest.mark.peer
def test_what_is_drawn_depends_on_the_seed_alone(captions: tuple[Path, Any]) -> None:
    ours = im.load(captions[0])
    how = Sampling(1.5, seed=5)
    drawn = ours.translate(ITEMS, "text", sampling=how)
    assert drawn == [ours.translate([item], "text", sampling=how)[0] for item in ITEMS]
    assert drawn != ours.translate(ITEMS, "text", sampling=Sampling(1.5, seed=6))


@pytest.mark.peer
def test_answers_are_those_of_transformers(answers: tuple[Path, Any]) -> None:
    folder, _ = answers
    ours = im.load(folder)
    assert isinstance(ours, Answers)
    assert not isinstance(ours, Translates | Embeds)
    for question in ("what is the dog", "is the house red"):
        assert ours.answer({"image": ITEMS[0]}, question) == theirs(folder, question, 1)[0]
    with pytest.raises(im.Unsupported, match="answers about one image, not about text"):
        ours.answer({"text": Text("a dog")}, "what is it")


@pytest.mark.peer
def test_vectors_and_matching_are_those_of_transformers(retrieval: tuple[Path, Any]) -> None:
    folder, network = retrieval
    ours = im.load(folder)
    for protocol in (Embeds, Scores):
        assert isinstance(ours, protocol)
    assert not isinstance(ours, Translates | Answers)
    texts, asked = [Text(words) for words in TEXTS], given(folder, TEXTS)
    with torch.no_grad():
        match, cosines = network(**asked).itm_score, network(**asked, use_itm_head=False).itm_score
        read = ours.model.match(ours.model.read(ours.model.config.text(texts), _seen(ours)).pooled)
    torch.testing.assert_close(read, match, **CLOSE)
    torch.testing.assert_close(ours.matches(ITEMS, texts), match[:, 1] - match[:, 0], **CLOSE)
    torch.testing.assert_close(ours.embed(ITEMS) @ ours.embed(texts).T, cosines, **CLOSE)
    table = ours.score(ITEMS, texts)
    torch.testing.assert_close(table.diagonal(), match[:, 1] - match[:, 0], **CLOSE)
    assert ours.score(texts, ITEMS, nearest=1).shape == (3, 3)


def _seen(ours: Any) -> Any:
    return ours.model.eyes(ours.model.config.image(ITEMS))


@pytest.mark.peer
def test_what_is_inside_trains_and_is_saved_like_any_other(
    captions: tuple[Path, Any], retrieval: tuple[Path, Any], tmp_path: Path
) -> None:
    texts = [Text(words) for words in TEXTS]
    for (folder, _), terms in ((captions, {"writing"}), (retrieval, {"contrast", "matching"})):
        model = im.load(folder).model
        assert isinstance(model, Blip)
        losses = model.train().losses({"image": model.config.image(ITEMS), "text": model.config.text(texts)})
        assert set(losses) == terms
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None for p in model.parameters())
        save_model(tmp_path / "m", model.eval())
        loaded = load_model(tmp_path / "m")
        assert loaded.config == model.config
        with torch.no_grad():
            assert torch.equal(_seen_by(loaded), _seen_by(model))


def _seen_by(model: Any) -> torch.Tensor:
    tokens: torch.Tensor = model.eyes(model.config.image(ITEMS)).tokens
    return tokens


@pytest.mark.peer
def test_the_server_answers_and_describes(captions: tuple[Path, Any], answers: tuple[Path, Any]) -> None:
    pytest.importorskip("openai")
    places = pytest.importorskip("tests.serving.places")
    writer, answerer = im.load(captions[0]), im.load(answers[0])
    data = places.picture(40)
    shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}

    async def ask() -> list[str]:
        async with places.client(places.server({"captions": writer, "answers": answerer})) as asked:
            said = []
            for words in ("is the house red", "describe this"):
                parts = [{"type": "text", "text": words}, shown]
                messages = [{"role": "user", "content": parts}]
                told = await asked.chat.completions.create(model="gpt-4o", messages=messages)
                said.append(told.choices[0].message.content)
            return said

    item = Image.open(data)
    expected = [answerer.answer({"image": item}, "is the house red"), writer.translate([item], "text")[0].text]
    assert asyncio.run(ask()) == expected


@pytest.mark.peer
def test_folders_that_do_not_fit_are_told(captions: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = captions
    published.check_strict(folder, tmp_path)
    other = published.rewritten(folder, tmp_path / "other", "config.json", architectures=["BlipModel"])
    assert "was written by BlipModel; of BLIP this package reads" in published.refused(other)
    for part, change, told in (
        ("text_config", {"layer_norm_eps": 1e-3}, "layer_norm_eps 0.001"),
        ("vision_config", {"hidden_act": "relu"}, "hidden_act 'relu'"),
        ("text_config", {"num_attention_heads": 0}, "num_attention_heads 0; expected a whole number"),
        ("text_config", {"num_attention_heads": 5}, "width 16 is no multiple of its 5 heads"),
        ("text_config", {"sep_token_id": 2}, "ends texts with 3"),
        ("text_config", {"vocab_size": 9}, "weights for 9"),
    ):
        settings = read_object(folder / "config.json")
        spoilt = {part: {**settings[part], **change}}
        name = "-".join(change)
        place = tmp_path / f"{name}-{next(iter(change.values()))}"
        assert told in published.refused(published.rewritten(folder, place, "config.json", **spoilt))


@pytest.mark.peer
def test_the_command_captions_a_folder(captions: tuple[Path, Any], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i, pixels in enumerate(PICTURES):
        Image(pixels).save(tmp_path / "photos" / f"{i}.png")
    out = tmp_path / "captions"
    command = ["translate", str(tmp_path / "photos"), "--to", "text", "--model", str(captions[0]), "--out", str(out)]
    assert run(command) == 0
    expected = im.load(captions[0]).translate(ITEMS, "text")
    assert [(out / f"{i}.txt").read_text().strip() for i in range(3)] == [item.text for item in expected]
