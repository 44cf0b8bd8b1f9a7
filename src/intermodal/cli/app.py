"""The command line as a whole: its verbs, and how errors end it."""

import importlib
import sys
import traceback
from collections.abc import Sequence

import typer

from intermodal.errors import IntermodalError

VERBS = (
    *("demo", "train", "connect", "evaluate", "embed", "index", "search", "translate", "ask", "serve"),
    *("export", "push", "list"),
)
"""In the order in which a new user meets them; ``cli/<verb>.py`` holds each as ``command`` (list: ``listing.py``)."""

INTERRUPTED = 130
_FILES = {"list": "listing"}  # a module named list would shadow the type


def app() -> typer.Typer:
    """Returns the application with every verb."""
    main = typer.Typer(
        name="intermodal",
        help="Connect text, images, audio, video and time series: search, translate and measure any with any.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog="Start with:  intermodal demo",
    )
    main.callback()(_options)
    for verb in VERBS:
        module = importlib.import_module(f"intermodal.cli.{_FILES.get(verb, verb)}")
        main.command(verb)(module.command)
    return main


def _options(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
    """Options before the verb."""


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns the exit status.

    0 done, 1 done but for inputs that were reported and skipped, 2 a mistake that was explained, 130 interrupted.
    """
    debug = "--debug" in arguments
    try:
        app()(args=[a for a in arguments if a != "--debug"], prog_name="intermodal")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if code == INTERRUPTED:
            print("interrupted; what was finished is kept", file=sys.stderr)
        return code
    except IntermodalError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
