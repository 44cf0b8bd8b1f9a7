"""Published BLIP folders, made with random weights, against the library that wrote them."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pillow

import intermodal as im
from intermodal.cli.app import run
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.sampling.autoregressive import Sampling
from intermodal.types import Answers, Translates
from tests import published

SIDE, LONGEST = 32, 20
PICTURES = [published.picture(60, 90), published.picture(133, 57, 1), published.picture(32, 32, 2)]


def build(folder: Path, kind: str) -> Any:
    """Writes a folder and returns the network in it."""
    library = published.library()
    folder.mkdir(exist_ok=True)
    vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *published.WORDS, "[DEC]", "[ENC]")
    tokenizer = library.BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)})
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text: dict[str, Any] = {**sizes, "intermediate_size": 24, "encoder_hidden_size": 16, "vocab_size": len(vocabulary)}
    text |= {"max_position_embeddings": 24, "bos_token_id": len(vocabulary) - 2, "sep_token_id": 3, "pad_token_id": 0}
    text |= {"eos_token_id": 3, "projection_dim": 16}
    image = {**sizes, "intermediate_size": 24, "image_size": SIDE, "patch_size": 8, "projection_dim": 16}
    config = library.BlipConfig(text_config=text, vision_config=image, projection_dim=16)
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
    return folder, build(folder, "BlipForConditionalGeneration")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("published") / "answers"
    return folder, build(folder, "BlipForQuestionAnswering")


def theirs(folder: Path, words: str | None, count: int = 3, **how: Any) -> list[str]:
    """Returns what the library itself writes about the pictures, loaded from the folder."""
    library = published.library()
    kind = library.BlipConfig.from_pretrained(folder).architectures[0]
    network = getattr(library, kind).from_pretrained(folder).eval()
    tokenizer = library.BertTokenizer.from_pretrained(folder)
    given = processor(library).from_pretrained(folder)(
        [Pillow.fromarray(p) for p in PICTURES[:count]], return_tensors="pt"
    )
    if words is not None:
        given |= tokenizer([words] * count, return_tensors="pt", return_token_type_ids=False)
    return [
        str(t).strip()
        for t in tokenizer.batch_decode(
            network.generate(**given, max_new_tokens=LONGEST, **how), skip_special_tokens=True
        )
    ]


@pytest.mark.peer
def test_captions_are_those_of_transformers(captions: tuple[Path, Any]) -> None:
    folder, _ = captions
    ours = im.load(folder)
    assert isinstance(ours, Translates)
    assert not isinstance(ours, Answers)
    items = [Image(p) for p in PICTURES]
    expected = theirs(folder, None)
    assert all(expected)
    assert [item.text for item in ours.translate(items, "text")] == expected
    assert [ours.translate([item], "text")[0].text for item in items] == expected
    assert [item.text for item in ours.translate(items, "text", count=3)] == theirs(folder, None, num_beams=3)
    ours.begin = "a photo of"
    assert [item.text for item in ours.translate(items, "text")] == theirs(folder, "a photo of")


@pytest.mark.peer
def test_what_is_drawn_depends_on_the_seed_alone(captions: tuple[Path, Any]) -> None:
    ours = im.load(captions[0])
    items, how = [Image(p) for p in PICTURES], Sampling(1.5, seed=5)
    drawn = ours.translate(items, "text", sampling=how)
    assert drawn == [ours.translate([item], "text", sampling=how)[0] for item in items]
    assert drawn != ours.translate(items, "text", sampling=Sampling(1.5, seed=6))


@pytest.mark.peer
def test_answers_are_those_of_transformers(answers: tuple[Path, Any]) -> None:
    folder, _ = answers
    ours = im.load(folder)
    assert isinstance(ours, Answers)
    assert not isinstance(ours, Translates)
    for question in ("what is the dog", "is the house red"):
        assert ours.answer({"image": Image(PICTURES[0])}, question) == theirs(folder, question, 1)[0]
    with pytest.raises(im.Unsupported, match="answers about one image, not about text"):
        ours.answer({"text": Text("a dog")}, "what is it")


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
    other = published.rewritten(folder, tmp_path / "other", "config.json", architectures=["BlipForImageTextRetrieval"])
    assert "was written by BlipForImageTextRetrieval; of BLIP this package reads" in published.refused(other)


@pytest.mark.peer
def test_the_command_captions_a_folder(captions: tuple[Path, Any], tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i, pixels in enumerate(PICTURES):
        Image(pixels).save(tmp_path / "photos" / f"{i}.png")
    out = tmp_path / "captions"
    command = ["translate", str(tmp_path / "photos"), "--to", "text", "--model", str(captions[0]), "--out", str(out)]
    assert run(command) == 0
    expected = im.load(captions[0]).translate([Image(p) for p in PICTURES], "text")
    assert [(out / f"{i}.txt").read_text().strip() for i in range(3)] == [item.text for item in expected]
