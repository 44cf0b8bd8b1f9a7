"""The page: its files are sent as what they are, need no key, and name nothing that is not there or is elsewhere."""

import asyncio
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest

from intermodal.serving.app import ASSETS, PAGE
from intermodal.serving.keys import from_words
from intermodal.serving.settings import Settings
from tests.serving.places import plain, server

FILES = sorted(PAGE.iterdir())
MODULES = [path for path in FILES if path.suffix == ".js"]
LINES_MAX, WIDTH_MAX = 300, 160
IMPORT = re.compile(r'^import [^;]*?"([^"]+)";', re.MULTILINE)
NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'  # the name of a vocabulary; nothing fetches it


def got(*paths: str, app: Any = None, **options: Any) -> list[httpx2.Response]:
    async def main() -> list[httpx2.Response]:
        async with plain(app or server({})) as client:
            return [await client.get(path, **options) for path in paths]

    return asyncio.run(main())


class Names(HTMLParser):
    """What a page asks for, and what its rules forbid in it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.ids: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.asked += [str(told[name]) for name in ("src", "href") if name in told]
        self.ids += [str(told["id"])] if "id" in told else []
        self.inside += [name for name, _ in attrs if name == "style" or name.startswith("on")]
        self.inside += [tag] if tag == "style" or (tag == "script" and "src" not in told) else []


def test_every_file_is_sent_as_what_it_is_and_under_the_rules() -> None:
    answers = got("/", *(f"/page/{path.name}" for path in FILES))
    for path, answer in zip([PAGE / "index.html", *FILES], answers, strict=True):
        assert answer.status_code == 200
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"] == ASSETS[path.suffix]
        assert answer.headers["cache-control"] == "no-cache"
        rules = answer.headers["content-security-policy"]
        assert rules.startswith("default-src 'self'; img-src 'self' blob:; media-src 'self' blob:;")
        assert "unsafe" not in rules
        assert "*" not in rules
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_browser_that_has_a_file_is_told_so() -> None:
    (first,) = got("/page/main.js")
    (again,) = got("/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    (other,) = got("/page/main.js", headers={"If-None-Match": '"another"'})
    assert other.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/page/..",
        "/page/../app.py",
        "/page/..%2fapp.py",
        "/page/%2e%2e/app.py",
        "/page/%2e%2e%2fapp.py",
        "/page/..%5capp.py",
        "/page//etc/passwd",
        "/page/%2fetc%2fpasswd",
        "/page/main.js%00.png",
        "/page/MAIN.JS",
        "/page/sub/main.js",
        "/app.py",
        "/index.html",
    ],
)
def test_nothing_outside_the_folder_is_sent(path: str) -> None:
    status, body = bare(path)
    assert status == 404
    assert json.loads(body)["error"]["code"] == "not_found"


def bare(path: str) -> tuple[int, bytes]:
    """Returns what is answered to a path as it is, which a client would tidy before it asks."""
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    async def main() -> None:
        scope = {"type": "http", "method": "GET", "path": unquote(path), "raw_path": path.encode(), "query_string": b""}
        scope |= {"headers": [(b"host", b"127.0.0.1")], "http_version": "1.1", "scheme": "http", "root_path": ""}
        ends = iter([{"type": "http.request", "body": b""}])

        async def receive() -> Any:
            for message in ends:
                return message
            await asyncio.Event().wait()

        await server({})(scope, receive, send)

    asyncio.run(main())
    return told[0]["status"], b"".join(message.get("body", b"") for message in told[1:])


def test_the_page_needs_no_key_and_the_routes_do() -> None:
    app = server({}, Settings(host="0.0.0.0", wait_s=0.0), keys=from_words(["a-key-for-the-tests"]))
    paths = ("/", "/page/main.js", "/v1/models", "/v1/library/items", "/v1/library/items/x/preview")
    assert [answer.status_code for answer in got(*paths, app=app)] == [200, 200, 401, 401, 401]


def test_the_page_holds_no_script_and_no_style_and_asks_for_what_is_there() -> None:
    names = Names()
    names.feed((PAGE / "index.html").read_text("utf-8"))
    assert names.inside == []
    assert len(set(names.ids)) == len(names.ids)
    assert {"/page/main.js", "/page/page.css"} <= set(names.asked)
    for asked, answer in zip(names.asked, got(*names.asked), strict=True):
        assert answer.status_code == 200, asked


def test_every_module_is_there_and_reached_and_every_element_too() -> None:
    known = {path.name for path in MODULES}
    names = Names()
    names.feed((PAGE / "index.html").read_text("utf-8"))
    reached, ahead = set[str](), ["main.js"]
    while ahead:
        module = ahead.pop()
        if module in reached:
            continue
        reached.add(module)
        text = (PAGE / module).read_text("utf-8")
        imports = IMPORT.findall(text)
        assert all(name.startswith("./") and name[2:] in known for name in imports), (module, imports)
        ahead += [name[2:] for name in imports]
        asked = set(re.findall(r'getElementById\("([^"]+)"\)', text))
        assert asked <= set(names.ids), (module, asked - set(names.ids))
    assert reached == known


def test_the_imported_names_are_exported() -> None:
    exports = {
        path.name: set(re.findall(r"^export (?:async )?(?:const|let|function|class) (\w+)", path.read_text(), re.M))
        for path in MODULES
    }
    for path in MODULES:
        for names, module in re.findall(r'^import \{([^}]+)\} from "\./([^"]+)";', path.read_text("utf-8"), re.M):
            wanted = {name.split(" as ")[0].strip() for name in names.split(",") if name.strip()}
            assert wanted <= exports[module], (path.name, module, wanted - exports[module])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_names_no_other_place_and_is_short(path: Path) -> None:
    text = path.read_text("utf-8")
    if path.suffix == ".svg":
        text = text.replace(NAMESPACE, "")
    assert not re.search(r"https?:|[\"'(]//|@import|wss?://", text)
    assert not re.search(r"\beval\(|innerHTML|document\.write|new Function", text)
    assert text.count("\n") <= LINES_MAX
    assert max(map(len, text.split("\n"))) <= WIDTH_MAX


def test_the_routes_that_the_page_asks_are_those_of_the_server() -> None:
    told = json.loads(got("/openapi.json")[0].content)["paths"]
    asked = re.findall(r"[\"`](/v1/[^\"`?]*)", (PAGE / "api.js").read_text("utf-8"))
    assert len(asked) > 8
    for path in asked:
        assert re.sub(r"\$\{[^}]*\}", "{id}", path) in told, path


@pytest.mark.skipif(shutil.which("node") is None, reason="node is absent: the modules are not parsed")
@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_parses(path: Path) -> None:
    command = ["node", "--input-type=module", "--check"]
    done = subprocess.run(command, input=path.read_text("utf-8"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_stand_out_from_what_they_stand_on(theme: str) -> None:
    css = (PAGE / "page.css").read_text("utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", css, re.S)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", light if theme == "light" else dark))
    for words, ground in (
        *((words, ground) for words in ("ink", "soft", "accent", "wrong") for ground in ("ground", "raised", "sunk")),
        ("on-accent", "accent"),
    ):
        assert contrast(colours[words], colours[ground]) >= 4.5, (words, ground)


def contrast(one: str, other: str) -> float:
    """Returns the ratio of luminances as WCAG 2 has it."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
