"""What published chat models have in common, over one of them: words as they come, captions, the server, mistakes."""

import asyncio
import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import intermodal as im
from intermodal.adapters._chat import Listener
from intermodal.cli.app import run
from intermodal.sampling.autoregressive import Sampling
from intermodal.types import Answers, Talks, Translates, Turn
from tests import published, talkers

WIDE, HIGH = im.Image(published.picture(30, 70)), im.Image(published.picture(50, 40, 1))
QUESTION = im.Text("what is this?")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    folder = tmp_path_factory.mktemp("published") / "smolvlm"
    network = talkers.smolvlm(folder)
    return folder, network, im.load(folder)


@pytest.mark.peer
def test_captions_and_answers_are_what_is_said_when_asked(made: tuple[Path, Any, Any]) -> None:
    folder, network, ours = made
    prepared = talkers.processor(folder, "SmolVLMProcessor", image_seq_len=4)
    for verb in (Talks, Answers, Translates):
        assert isinstance(ours, verb)
    expected = [
        talkers.theirs(prepared, network, [Turn("user", (item, im.Text(ours.prompt)))]) for item in (WIDE, HIGH)
    ]
    assert [item.text for item in ours.translate([WIDE, HIGH], "text")] == expected
    beams = talkers.theirs(prepared, network, [Turn("user", (HIGH, im.Text(ours.prompt)))], num_beams=3)
    assert ours.translate([HIGH], "text", count=3)[0].text == beams
    both = [Turn("user", (WIDE, im.Text("beside"), HIGH, QUESTION))]
    answer = ours.answer({"image": WIDE, "text": im.Text("beside"), "other": HIGH}, QUESTION.text)
    assert answer == talkers.theirs(prepared, network, both)
    short = ours.talk(both, longest=2)
    assert (short.written, short.ended) == (2, False)
    with pytest.raises(im.Unsupported, match="it translates image to text"):
        ours.translate([WIDE], "speech")


@pytest.mark.peer
def test_words_are_heard_as_they_are_written(made: tuple[Path, Any, Any]) -> None:
    ours = made[2]
    for seed in range(2):
        pieces: list[str] = []
        how = Sampling(1.5, seed=seed)
        reply = ours.talk([Turn("user", (WIDE, QUESTION))], sampling=how, longest=30, heard=pieces.append)
        assert "".join(pieces) == reply.words
        assert reply == ours.talk([Turn("user", (WIDE, QUESTION))], sampling=how, longest=30)
    pieces = []
    listener = Listener(ours.tokenizer, pieces.append)
    listener.put(torch.tensor([[1, 2, 3]]))  # the conversation
    for ids in ours.tokenizer.made("  a näive cat \n", add_special_tokens=False)["input_ids"]:
        listener.put(torch.tensor([ids]))
    listener.end()
    assert pieces == ["a", " n", "ä", "i", "v", "e", " c", "a", "t"]


@pytest.mark.peer
def test_the_server_talks(made: tuple[Path, Any, Any]) -> None:
    openai = pytest.importorskip("openai")
    places = pytest.importorskip("tests.serving.places")
    folder, _, ours = made
    data = base64.b64encode(places.picture()).decode()
    seen = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    messages: Any = [{"role": "user", "content": [seen, {"type": "text", "text": "what is this?"}]}]

    async def ask() -> tuple[Any, list[str]]:
        async with places.client(places.server({"smolvlm": im.load(folder)})) as asked:
            told = await asked.chat.completions.create(model="gpt-4o", messages=messages)
            stream = await asked.chat.completions.create(model="smolvlm", messages=messages, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            sound = {"data": base64.b64encode(places.tone()).decode(), "format": "wav"}
            wrong: Any = [{"role": "user", "content": [{"type": "input_audio", "input_audio": sound}]}]
            with pytest.raises(openai.BadRequestError, match="reads image and text, not audio"):
                await asked.chat.completions.create(model="smolvlm", messages=wrong)
            return told, pieces

    told, pieces = asyncio.run(ask())
    reply = ours.talk([Turn("user", (im.Image.open(places.picture()), QUESTION))])
    assert told.choices[0].message.content == reply.words == "".join(pieces)
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (reply.read, reply.written)
    assert len([piece for piece in pieces if piece]) > 1


@pytest.mark.peer
def test_the_command_keeps_earlier_questions_in_mind(
    made: tuple[Path, Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, ours = made
    WIDE.save(tmp_path / "photo.png")
    asked = ["ask", str(tmp_path / "photo.png"), "what is this?", "and here?", "--model", str(folder)]
    assert run([*asked, "--json"]) == 0
    told = [one["answer"] for one in json.loads(capsys.readouterr().out)["answers"]]
    first = [Turn("user", (WIDE, QUESTION))]
    assert told[0] == ours.talk(first).words
    later = [*first, Turn("assistant", (im.Text(told[0]),)), Turn("user", (im.Text("and here?"),))]
    assert told[1] == ours.talk(later).words
    assert run(asked) == 0
    assert capsys.readouterr().out == "".join(f"{words}\n" for words in told)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("turns", "error", "told"),
    [
        ([], im.InvalidValue, "the turns are of nobody"),
        ([Turn("user", (QUESTION,)), Turn("assistant", (QUESTION,))], im.InvalidValue, "the last of a user"),
        ([Turn("robot", (QUESTION,)), Turn("user", (QUESTION,))], im.InvalidValue, "use system, user, assistant"),
        ([Turn("user", (im.Text("an <image> in words"),))], im.InvalidValue, "the words hold '<image>'"),
        ([Turn("user", (im.Text("<end_of_utterance>"),))], im.InvalidValue, "the words hold '<end_of_utterance>'"),
        ([Turn("user", (WIDE,) * 40)], im.InvalidValue, "with its 40 pictures has"),
    ],
)
def test_what_is_no_conversation_is_told(
    made: tuple[Path, Any, Any], turns: list[Turn], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told) as caught:
        made[2].talk(turns)
    assert "\n" not in str(caught.value)


@pytest.mark.peer
def test_folders_that_cannot_be_followed_are_told(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    folder = made[0]
    published.check_strict(folder, tmp_path)

    def without(file: str) -> Path:
        copy = shutil.copytree(folder, tmp_path / f"without {file}")
        (copy / file).unlink()
        return copy

    assert "no chat template" in published.refused(without("chat_template.jinja"))
    assert "tokenizer" in published.refused(without("tokenizer.json"))
    assert "how pictures are prepared" in published.refused(without("preprocessor_config.json"))
    file = "preprocessor_config.json"
    other = published.rewritten(folder, tmp_path / "kind", file, image_processor_type="CLIPImageProcessor")
    assert "followed are SmolVLMImageProcessorPil" in published.refused(other)
    other = published.rewritten(folder, tmp_path / "size", file, max_image_size={"longest_edge": 24})
    assert "parts of pictures become (24, 24), not 32 x 32" in published.refused(other)
    blind = shutil.copytree(folder, tmp_path / "blind")
    (blind / "chat_template.jinja").write_text("{{ messages[0]['role'] }}")
    assert "places 0 of 1 pictures" in published.refused(blind)
    (blind / "chat_template.jinja").write_text("{{ raise_exception('no pictures here') }}")
    assert "takes no such conversation: no pictures here" in published.refused(blind)


@pytest.mark.peer
def test_a_template_may_lie_in_a_file_of_its_own_as_it_used_to(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    folder, _, ours = made
    older = shutil.copytree(folder, tmp_path / "older")
    words = (older / "chat_template.jinja").read_text()
    (older / "chat_template.jinja").unlink()
    (older / "chat_template.json").write_text(json.dumps({"chat_template": words}))
    turns = [Turn("user", (HIGH, QUESTION))]
    assert im.load(older).talk(turns) == ours.talk(turns)
