"""What published chat models that see have in common: a conversation of words and pictures goes on in words.

    turns ──── the folder's chat template ─ words with a mark for each picture ─┐
                                                                                ├─ ids ─ network ─ words, one by one
    pictures ─ the folder's preparation ─── pixels, and what each mark becomes ─┘

A family says which network it is, and what a mark becomes. Templates are filled in by the library, within a sandbox.
Left out: clips, whose preparation in the library needs torchvision (give their frames as pictures), and tools.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from intermodal.adapters import _tokens, _transformers
from intermodal.adapters._files import read_object
from intermodal.errors import InvalidCheckpoint, InvalidValue, Unsupported
from intermodal.media.source import printable
from intermodal.modalities.image import Image
from intermodal.modalities.text import Text
from intermodal.types import SPEAKERS, Item, Reply, Sample, Turn

PROMPT = "Describe this picture."
"""What is asked for a caption."""

LONGEST = 256
"""Ids of a reply at most, where the folder does not say."""


@dataclass(frozen=True, eq=False)
class Eyes:
    """Pictures as a network reads them.

    Attributes:
        made: the library's preparation.
        config: of the network.
        mark: what the chat template writes for a picture.
        family: says how they are read.
    """

    modality: ClassVar[str] = "image"
    made: Any
    config: Any
    mark: str
    family: "Family"

    def __call__(self, items: Sequence[Any]) -> tuple[dict[str, Tensor], list[str]]:
        """Returns tensors for the network, and for each picture the symbols that its mark becomes.

        Raises:
            InvalidValue: a picture cannot be prepared.
            InvalidCheckpoint: the preparation does not fit the network.
        """
        if not items:
            return {}, []
        try:
            return self.family.see(self, [Pillow.fromarray(item.pixels) for item in items])
        except ValueError as error:  # such as one that is 300 times as wide as high
            sizes = ", ".join(f"{item.pixels.shape[1]} x {item.pixels.shape[0]}" for item in items)
            raise InvalidValue(f"pictures of {sizes} cannot be prepared: {' '.join(str(error).split())}") from error


@dataclass(frozen=True)
class Family:
    """What one architecture does in its own way.

    Attributes:
        network: the library's class.
        see: pictures -> tensors for the network, and what the mark of each becomes.
        known: classes of the library that prepare its pictures.
        marked: the network is told which ids are of pictures.
    """

    network: str
    see: Callable[[Eyes, list[Any]], tuple[dict[str, Tensor], list[str]]]
    known: tuple[str, ...]
    marked: bool = False


class Listener:
    """Gives words on as they are written; stands where the library expects a streamer."""

    def __init__(self, tokenizer: _tokens.Tokens, heard: Callable[[str], None]) -> None:
        """Keeps what the words are made by and who hears them."""
        self._tokenizer, self._heard = tokenizer, heard
        self._ids: list[int] | None = None
        self._given = ""

    def put(self, ids: Tensor) -> None:
        """Takes further ids; the first are those of the conversation."""
        if self._ids is None:
            self._ids = []
            return
        self._ids += ids.flatten().tolist()
        # a letter that lacks bytes shows as U+FFFD, and a blank may be the last, which is cut off
        self._give(self._words().rstrip("\ufffd").rstrip())

    def end(self) -> None:
        """Takes that this was all."""
        self._give(self._words())

    def _words(self) -> str:
        return said(self._tokenizer, self._ids or [])

    def _give(self, words: str) -> None:
        if words.startswith(self._given) and len(words) > len(self._given):
            self._heard(words[len(self._given) :])
            self._given = words


class Talker(_transformers.Published):
    """Talks, Answers, and Translates: image to text.

    ``prompt`` is what is asked for a caption, ``longest`` how many ids a reply has at most; both may be set.
    """

    directions = (("image", "text"),)

    def __init__(self, folder: Path, network: Any, eyes: Eyes, texts: _tokens.Texts, template: str) -> None:
        """Assembles built parts.

        Args:
            folder: they come from.
            network: of the library.
            eyes: reads pictures.
            texts: reads and writes words.
            template: of conversations.
        """
        super().__init__(folder, network, {"image": eyes, "text": texts})
        self.eyes, self.tokenizer, self.template = eyes, texts.tokenizer, template
        self.tokens_max = texts.tokens_max
        self.prompt = PROMPT
        self.longest = int(network.generation_config.max_new_tokens or LONGEST)
        added = self.tokenizer.made.added_tokens_decoder.values()
        self._kept = [t.content for t in added if t.content == eyes.mark or (t.special and t.content in template)]

    def talk(
        self,
        turns: Sequence[Turn],
        *,
        sampling: Any = None,
        longest: int | None = None,
        heard: Callable[[str], None] | None = None,
    ) -> Reply:
        """Returns what is said next.

        Args:
            turns: of words and pictures; a picture costs as many ids as the model sees of it.
            sampling: how ids are chosen; default: as the folder says, with seed 0.
            longest: ids that are written at most; default: ``self.longest``.
            heard: called with each piece of the words as it is written.

        Raises:
            Unsupported: a part is neither words nor a picture.
            InvalidValue: the turns do not make a conversation, or it is too long for the model.
        """
        how: dict[str, Any] = {**_transformers.writing(sampling, 1), "num_beams": 1}
        if heard is not None:
            how["streamer"] = Listener(self.tokenizer, heard)
        return self._reply(turns, how, sampling, longest)

    def answer(self, sample: Sample, question: str) -> str:
        """Returns the answer to a question about all pictures and texts of a sample, in their order.

        Raises:
            Unsupported: the sample has something else.
        """
        return self.talk([Turn("user", (*sample.values(), Text(question)))]).words

    def translate(
        self, items: Sequence[Item], to: str, *, source: str | None = None, sampling: Any = None, count: int = 1
    ) -> list[Item]:
        """Returns what is said of each picture when ``prompt`` is asked, each by itself.

        Args:
            items: pictures.
            to: "text".
            source: "image", if anything.
            sampling: how ids are chosen; default: as the folder says, with seed 0.
            count: beams.

        Raises:
            Unsupported: another direction.
        """
        self.check(items, to, source)
        how = _transformers.writing(sampling, count)
        asked = [[Turn("user", (item, Text(self.prompt)))] for item in items]
        return [Text(self._reply(turns, how, sampling, None).words) for turns in asked]

    @torch.no_grad()
    def _reply(self, turns: Sequence[Turn], how: dict[str, Any], sampling: Any, longest: int | None) -> Reply:
        given = self.given(turns)
        read = int(given["input_ids"].shape[1])
        if longest is not None and longest < 1:
            raise InvalidValue(f"longest is {longest}; a reply has at least 1 token")
        how = {**how, "max_new_tokens": min(longest or self.longest, self.tokens_max - read)}
        settings = self.network.generation_config
        if settings.pad_token_id is None:
            how["pad_token_id"] = self.tokenizer.pad_id
        with _transformers.drawing(sampling):
            row = self.network.generate(**given, **how)[0, read:].tolist()
        ends = settings.eos_token_id
        ended = bool(row) and row[-1] in (ends if isinstance(ends, list) else [ends])
        return Reply(said(self.tokenizer, row), read, len(row), ended)

    def given(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        """Returns a conversation as the network reads it.

        Raises:
            Unsupported: a part is neither words nor a picture.
            InvalidValue: the turns do not make a conversation, or it is too long for the model.
        """
        messages = [{"role": turn.speaker, "content": [self._part(one) for one in turn.parts]} for turn in turns]
        speakers = [turn.speaker for turn in turns]
        if speakers[-1:] != ["user"] or not set(speakers) <= set(SPEAKERS):
            raise InvalidValue(
                f"the turns are of {', '.join(map(repr, speakers)) or 'nobody'}; use {', '.join(SPEAKERS)}, the last "
                "of a user"
            )
        pictures = [part for turn in turns for part in turn.parts if isinstance(part, Image)]
        tensors, symbols = self.eyes(pictures)
        words = self._words(messages).split(self.eyes.mark)
        if len(words) != len(symbols) + 1:
            raise InvalidValue(
                f"the chat template places {len(words) - 1} of {len(symbols)} pictures; give them in turns of a user"
            )
        whole = words[0] + "".join(a + b for a, b in zip(symbols, words[1:], strict=True))
        ids = self._ids(whole)
        if len(ids) >= self.tokens_max:
            raise InvalidValue(
                f"the conversation with its {len(pictures)} pictures has {len(ids):,} tokens, and this model reads "
                f"less than {self.tokens_max:,}; give fewer or smaller pictures, or fewer words"
            )
        row = torch.tensor([ids], device=self.device)
        given = {"input_ids": row, "attention_mask": torch.ones_like(row)}
        given |= {name: value.to(self.device) for name, value in tensors.items()}
        if self.eyes.family.marked and pictures:
            given["mm_token_type_ids"] = (row == self.network.config.image_token_id).int()
        return given

    def _part(self, item: Any) -> dict[str, str]:
        """Returns a part as templates know it."""
        if isinstance(item, Image):
            return {"type": "image"}
        if not isinstance(item, Text):
            raise Unsupported(f"this model reads image and text, not {item.modality}")
        for symbol in self._kept:
            if symbol in item.text:
                raise InvalidValue(
                    f"the words hold {symbol!r}, by which this model knows pictures and turns; leave it out"
                )
        return {"type": "text", "text": item.text}

    def _words(self, messages: list[dict[str, Any]]) -> str:
        """Returns the conversation by the template, with the beginning of a reply."""
        made = self.tokenizer.made
        try:
            with self.tokenizer.lock:
                return str(
                    made.apply_chat_template(
                        messages, chat_template=self.template, tokenize=False, add_generation_prompt=True
                    )
                )
        except Exception as error:  # what a template raises is up to whoever wrote it
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise InvalidValue(f"the chat template of this model takes no such conversation: {reason}") from error

    def _ids(self, words: str) -> list[int]:
        """Returns the ids of a conversation, with those around a text unless the template wrote them."""
        made = self.tokenizer.made
        begun = made.bos_token is not None and words.startswith(made.bos_token)
        with self.tokenizer.lock:
            return list(made(words, add_special_tokens=not begun)["input_ids"])


def said(tokenizer: _tokens.Tokens, ids: Sequence[int]) -> str:
    """Returns the words of ids."""
    return printable(tokenizer.decode(ids)).strip()


def fits(condition: bool, what: str) -> None:
    """Checks that the preparation of pictures fits the network.

    Raises:
        InvalidCheckpoint: it does not; says what.
    """
    if not condition:
        raise InvalidCheckpoint(f"{what}; use the preprocessor_config.json that belongs to the weights")


def load(folder: Path, family: Family) -> Talker:
    """Returns the published chat model in ``folder``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: files are missing, damaged, or do not fit each other; lists what is wrong.
    """
    network = _transformers.load(folder, family.network)
    config = network.config
    words = config.get_text_config()
    tokens = _tokens.load(folder, "AutoTokenizer", words.vocab_size)
    mark = tokens.made.convert_ids_to_tokens(int(config.image_token_id))
    if not isinstance(mark, str):
        raise InvalidCheckpoint(
            f"the tokenizer in {folder} has no token {config.image_token_id}, which stands for a picture; use the one "
            "that belongs to the weights"
        )
    made = _transformers.preparation(folder, family.known)
    texts = _tokens.Texts(tokens, int(words.max_position_embeddings))
    talker = Talker(folder, network, Eyes(made, config, mark, family), texts, _template(folder, tokens.made))
    blank = Image(np.zeros((64, 64, 3), np.uint8))
    try:
        talker.given([Turn("user", (blank, Text("?")))])  # so that what does not fit is told now
    except InvalidValue as error:
        raise InvalidCheckpoint(f"{folder} cannot be talked to about a picture: {error}") from error
    return talker


def _template(folder: Path, made: Any) -> str:
    """Returns the chat template of a folder: of its own file, as the library takes it, else of the tokenizer.

    Raises:
        InvalidCheckpoint: there is none.
    """
    found = made.chat_template
    if (folder / "chat_template.json").exists() and not (folder / "chat_template.jinja").exists():
        found = read_object(folder / "chat_template.json").get("chat_template")
    found = found.get("default") if isinstance(found, dict) else found
    if not isinstance(found, str):
        raise InvalidCheckpoint(
            f"{folder} holds no chat template, so it is no model to talk to; download chat_template.jinja or "
            "chat_template.json too, or take a folder that was tuned on conversations"
        )
    return found
