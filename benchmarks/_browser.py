"""A server of its own with media of Diorama, and one reader with one browser: what ``page.py`` is made of."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from intermodal.diorama.source import Diorama
from intermodal.types import MODALITIES

SCENES = 12
PATIENCE_MS = 120_000  # with a page that is loading, on a busy machine
SUFFIX = {"text": "txt", "image": "png", "audio": "wav", "video": "mp4", "timeseries": "csv"}

DROP = """([base, name, type]) => {
  const bytes = Uint8Array.from(atob(base), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type }));
  const told = { bubbles: true, cancelable: true, dataTransfer: data };
  window.dispatchEvent(new DragEvent("dragenter", told));
  document.querySelector("[data-drop=search]").dispatchEvent(new DragEvent("drop", told));
}"""


def files(folder: Path) -> list[Path]:
    """Writes the scenes in every modality and returns the paths."""
    source = Diorama("test", size=SCENES)
    made = []
    for n, sample in enumerate(source.samples(range(SCENES))):
        for field in MODALITIES:
            made.append(sample[field].save(folder / f"{field}-{n}.{SUFFIX[field]}"))
    return made


@contextmanager
def serving(model: str, library: Path, key: str = "") -> Iterator[str]:
    """Returns a context with the address of a server of its own, which asks for a key where one is given."""
    command = [sys.executable, "-m", "intermodal", "serve", "--model", model, "--library", str(library)]
    with (library.parent / "log").open("w") as log:
        environment = {**os.environ, **({"INTERMODAL_KEYS": key} if key else {})}
        running = subprocess.Popen(
            [*command, "--port", "0", "--json"], stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        try:
            assert running.stdout is not None
            told = running.stdout.readline()
            if not told:
                sys.exit(f"the server did not start:\n{(library.parent / 'log').read_text()}")
            yield str(json.loads(told)["url"])
        finally:
            running.terminate()
            running.wait(60)


class Visit:
    """One reader with one browser: what was tried, and what went wrong."""

    def __init__(self, page: Any, url: str, shots: Path | None) -> None:
        """Watches the requests and the console of a page."""
        self.page, self.url, self.shots = page, url, shots
        self.told: dict[str, str] = {}
        self.left: list[str] = []
        self.errors: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", self._request)
        page.on("console", lambda line: line.type == "error" and self.errors.append(line.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.left.append(request.url)

    def check(self, name: str, work: Callable[[], Any]) -> None:
        """Does something and keeps how it went."""
        began = time.perf_counter()
        try:
            said = work()
        except Exception as error:
            self.told[name] = f"FAILED: {str(error).strip()[:600]}"
            self.shot(f"failed-{len(self.told)}")
        else:
            self.told[name] = str(said or f"{time.perf_counter() - began:.1f} s")
        print(f"{name:<44}{self.told[name]}", flush=True)

    def shot(self, name: str) -> None:
        """Photographs the window."""
        if self.shots is not None:
            self.page.screenshot(path=str(self.shots / f"{name}.png"))

    def home(self) -> None:
        """Opens the page anew."""
        self.page.goto(self.url)
        self.page.wait_for_selector(".hit .view.ready")

    def wait(self, script: str, timeout: float = PATIENCE_MS) -> None:
        """Waits until a script gives true; the page's rules forbid playwright's own way of it."""
        until = time.monotonic() + timeout / 1000
        while not self.page.evaluate(script):
            assert time.monotonic() < until, f"never became true: {script}"
            self.page.wait_for_timeout(50)

    def found(self) -> int:
        """Returns how many results are shown, once a search is done."""
        self.page.wait_for_selector('#told:has-text("result")')
        self.wait("document.querySelector('#results').getAttribute('aria-busy') === 'false'")
        count: int = self.page.locator(".hit").count()
        assert count, "nothing was found"
        return count

    def drop(self, path: Path, media_type: str) -> None:
        """Drops a file as the query."""
        data = base64.b64encode(path.read_bytes()).decode()
        self.page.evaluate(DROP, [data, path.name, media_type])
        self.page.wait_for_selector(".chip .view.ready")
