"""``intermodal ask``: questions about a picture, a sound, a clip, a series or a text, answered in words."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intermodal.cli.console import JSON, finish, settings
from intermodal.errors import InvalidValue, Unsupported

if TYPE_CHECKING:
    from intermodal.types import Item, Sample, Talks


def command(
    about: Annotated[str, typer.Argument(help="A file of any modality, or words.")],
    questions: Annotated[
        list[str] | None, typer.Argument(help="Questions; without any they are read line by line, as they come.")
    ] = None,
    model: Annotated[str, typer.Option(help="Saved or shipped model that answers.")] = "diorama",
    field: Annotated[str, typer.Option(help="The field that it is of; default: by its modality.")] = "",
    beside: Annotated[
        list[str] | None, typer.Option("--with", help="FIELD=FILE or FIELD=WORDS: what is known besides.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Ask questions about a picture, a sound, a clip, a series or a text."""
    from intermodal import runtime
    from intermodal.cli.items import item_of
    from intermodal.saving import load_model
    from intermodal.types import Answers, Talks

    runtime.threads()
    answering = load_model(model)
    if not isinstance(answering, Answers):
        raise Unsupported(
            f"the model {model!r} does not answer questions; give --model one that does, such as lxmert trained on "
            "data with a question and an answer"
        )
    item = item_of(about, answering)
    sample = {field or field_for(answering, item): item}
    for name, words in settings(beside or [], "--with", "audio=sound.wav").items():
        if name in sample:
            raise InvalidValue(f"--with gives the field {name!r}, which is asked about already; give another field")
        sample[name] = item_of(words)
    found: list[dict[str, str]] = []
    heard = None if json else partial(print, end="", flush=True)
    talking = _conversation(answering, sample, heard) if isinstance(answering, Talks) else None
    for question in questions or _typed():
        answer = talking(question) if talking else answering.answer(sample, question)
        found.append({"question": question, "answer": answer})
        if not json:
            print("" if talking else answer, flush=True)
    if not found:
        raise InvalidValue("no question was asked; give one behind the file, or one per line on the standard input")
    if json:
        finish({"about": about, "model": model, "answers": found}, json, "")


def _conversation(model: "Talks", sample: "Sample", heard: Callable[[str], None] | None) -> Callable[[str], str]:
    """Returns what answers questions one after the other, each with those before it in mind.

    Args:
        model: that talks.
        sample: what the first question is about.
        heard: called with each piece of an answer as it is written.
    """
    from intermodal.modalities.text import Text
    from intermodal.types import Turn

    turns: list[Turn] = []

    def ask(question: str) -> str:
        parts = () if turns else tuple(sample.values())
        turns.append(Turn("user", (*parts, Text(question))))
        words = model.talk(turns, heard=heard).words
        turns.append(Turn("assistant", (Text(words),)))
        return words

    return ask


def field_for(model: Any, item: "Item") -> str:
    """Returns the field that a model reads an item as: the first of its modality that is no question and no answer."""
    known = getattr(model, "preprocessors", None) or {}
    names = [name for name, one in known.items() if one.modality == item.modality]
    return next((name for name in names if name not in ("question", "answer")), item.modality)


def _typed() -> Iterator[str]:
    """Yields the questions that are typed, until there are no more."""
    shown = sys.stdin.isatty()
    while True:
        if shown:
            print("? ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
