"""``intermodal serve``: models and a library behind the API that clients already speak, and a page to look at."""

from pathlib import Path
from typing import Annotated, Any

import typer

from intermodal.cli.console import JSON, finish, say


def command(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Folder of a saved model, or a shipped one's name; may be repeated."),
    ] = None,
    library: Annotated[
        Path | None, typer.Option(help="Folder of the library to search and to add to; made if absent.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any other needs keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any that is free.")] = 8000,
    keys: Annotated[Path | None, typer.Option(help="File of keys, of which a request needs one.")] = None,
    new_key: Annotated[
        str | None, typer.Option(help="Make a key of this name, add its hash to --keys, print it once, and end.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Requests per second of one key; 0 for no limit.")] = 50.0,
    name: Annotated[
        list[str] | None, typer.Option(help="Further names under which this machine is asked, such as a proxy's.")
    ] = None,
    json: bool = JSON,
) -> None:
    """Serve models and a library over HTTP: the OpenAI API, our own routes, and a page."""
    from intermodal.errors import InvalidValue, MissingExtra

    if new_key is not None:
        if keys is None:
            raise InvalidValue("--new-key was given without --keys; say which file it is added to")
        _make_key(keys, new_key, json)
        return
    try:
        import fastapi  # noqa: F401
        import httptools  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtra(error.name or "fastapi", "serve", "serving") from error
    from intermodal import runtime
    from intermodal.serving.app import build
    from intermodal.serving.keys import from_file, from_words
    from intermodal.serving.settings import Settings

    known = (*(from_file(keys) if keys else ()), *from_words(runtime.serving_keys()))
    if keys and not known:
        raise InvalidValue(f"{keys} holds no key; make one with: intermodal serve --keys {keys} --new-key NAME")
    settings = Settings(host=host, port=port, rate=rate, hosts=tuple(name or ()))
    runtime.threads()
    models = _models(model or ["diorama"])
    app = build(settings, models, _library(library, models), known)
    listening = _listening(settings)
    address = f"[{host}]" if ":" in host else host
    url = f"http://{address}:{listening.getsockname()[1]}"
    told = {"url": url, "models": list(models), "library": library and str(library), "keys": len(known)}
    text = f"{url} serves {', '.join(models)}" + (f" and the library {library}" if library else "")
    finish(told, json, f"{text}; stop it with Ctrl+C", f"curl {url}/v1/models")
    _run(app, settings, listening)


def _make_key(path: Path, name: str, json: bool) -> None:
    """Makes a key and prints it."""
    from intermodal.serving.keys import new_key

    key = new_key(path, name)
    say("this key is shown once; only its hash is kept")
    finish({"name": name, "key": key, "file": str(path)}, json, key, f"intermodal serve --keys {path}")


def _models(names: list[str]) -> dict[str, Any]:
    """Returns loaded models by the names that clients ask for: the last part of each path.

    Raises:
        InvalidValue: two have the same.
    """
    from intermodal.errors import InvalidValue
    from intermodal.saving import load_model

    found: dict[str, Any] = {}
    for name in names:
        path = Path(name)
        short = path.resolve().name if path.is_dir() else name
        if short == "model" and path.resolve().parent.name:  # training writes RUN/model
            short = path.resolve().parent.name
        if short in found:
            raise InvalidValue(f"two models are called {short!r}; rename the folder of one")
        found[short] = load_model(name)
    return found


def _library(folder: Path | None, models: dict[str, Any]) -> Any:
    """Returns the library in a folder, made there if absent; None where none is wanted.

    Raises:
        Unsupported: it has to be made, and no model embeds.
    """
    from intermodal.errors import Unsupported
    from intermodal.library.library import Library
    from intermodal.types import Embeds

    if folder is None:
        return None
    if folder.exists() and any(folder.iterdir()):
        return Library.open(folder)
    model = next((one for one in models.values() if isinstance(one, Embeds)), None)
    if model is None:
        raise Unsupported(f"the library {folder} cannot be made: none of {', '.join(models)} embeds; add a --model")
    return Library.create(folder, model)


def _listening(settings: Any) -> Any:
    """Returns a socket that listens where the settings say.

    Raises:
        InvalidValue: it cannot, such as where another program does.
    """
    import socket

    from intermodal.errors import InvalidValue

    kind = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(kind, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host, settings.port))
        listening.listen(2048)  # whoever reads the address and asks at once waits instead of being refused
    except OSError as error:
        listening.close()
        raise InvalidValue(
            f"{settings.host} port {settings.port} cannot be listened on: {error.strerror}; take another --port"
        ) from error
    return listening


def _run(app: Any, settings: Any, listening: Any) -> None:
    """Serves until it is told to stop; then what runs is finished."""
    import logging

    from intermodal.serving.wire import server

    log = logging.getLogger("intermodal.serving")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    server(app, settings.drain_s).run(sockets=[listening])
