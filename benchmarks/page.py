"""Whether the page of the server does what it should, in a real browser.

    python benchmarks/page.py --shots shots/
    python benchmarks/page.py --model runs/unified/model --axe axe.min.js

Starts the server with a small library of Diorama and asks the page as a reader would: searches by words, by a dropped
picture, by a dropped sound and by a picture with words; walks, opens and goes back by keys; turns a picture into a
sound and words into a picture; asks a question; adds files, one of them damaged, with progress; records by a microphone
that the browser plays. No request may leave the server, and the console may hold no error. Then the page is looked at
by axe-core, where its file is given, and photographed: light, dark, as a phone.

Needs ``pip install playwright`` and a Chromium: Debian's (``apt-get install chromium``) is found by itself, another is
named by ``--browser``; without one: ``playwright install chromium``. axe-core: ``npm pack axe-core`` and take
``package/axe.min.js`` out of the archive. What the model cannot do is said to be left out.
"""

import argparse
import json
import shlex
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from _browser import Visit, files, serving

from figures import machine, record
from intermodal.diorama.source import Diorama

WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
KEY = "a-key-for-this-benchmark-alone"
SLOW_MS = 240_000  # of something that is made, on a slow machine

TIMED = """() => {
  const seen = () => { window.drawn ??= performance.now(); };
  new MutationObserver(seen).observe(document.querySelector("#hits"), { childList: true });
}"""
LATE = """() => window.drawn
  - performance.getEntriesByType("resource").find((one) => one.name.endsWith("/v1/search")).responseEnd"""


def searches(visit: Visit, folder: Path) -> None:
    """Searches by words, by a picture, by both, and by a sound."""
    page = visit.page

    def words() -> str:
        page.evaluate(TIMED)
        page.fill("#words", "a red circle")
        page.press("#words", "Enter")
        count = visit.found()
        assert "q=a+red+circle" in page.url, page.url
        late = page.evaluate(LATE)
        return f"{count} results, there and back {page.inner_text('#status').split()[-2]} ms, cards {late:.0f} ms later"

    def narrowed() -> str:
        page.click("#among label:has-text('audio')")
        visit.wait("[...document.querySelectorAll('.hit')].every((hit) => hit.dataset.modality === 'audio')")
        page.click("#among label:has-text('all')")
        visit.wait("[...document.querySelectorAll('.hit')].some((hit) => hit.dataset.modality !== 'audio')")
        return f"{visit.found()} results"

    def dropped(name: str, kind: str) -> Callable[[], str]:
        def work() -> str:
            visit.home()
            visit.drop(folder / name, kind)
            count = visit.found()
            first = page.inner_text(".hit >> nth=0")
            assert name.rpartition(".")[0] in page.inner_html("#hits"), f"{name} does not find itself"
            return f"{count} results, first {first.splitlines()[0]}"

        return work

    def both() -> str:
        before = page.inner_text("#hits")
        page.fill("#words", "a large blue star")
        visit.wait("performance.getEntriesByType('resource').filter((r) => r.name.endsWith('/v1/search')).length > 1")
        visit.wait(f"document.querySelector('#hits').innerText !== {json.dumps(before)}")
        return f"{visit.found()} results, in another order"

    def back() -> None:
        page.go_back()
        visit.wait("document.querySelector('#words').value === ''")
        assert page.locator(".chip").count() == 1, "the picture is gone"

    visit.check("search by words", words)
    visit.check("find in one modality", narrowed)
    visit.check("search by a dropped picture", dropped("image-3.png", "image/png"))
    visit.check("a picture and words together", both)
    visit.check("back gives the picture alone", back)
    visit.shot("picture-as-query")
    visit.check("search by a dropped sound", dropped("audio-3.wav", "audio/wav"))


def by_keys(visit: Visit) -> None:
    """Walks, opens, closes and goes back without a pointer."""
    page = visit.page

    def keys() -> None:
        visit.home()
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("/")
        page.keyboard.type("a blue square")
        page.keyboard.press("Enter")
        visit.found()
        for key in ("ArrowDown", "ArrowRight", "ArrowDown"):
            page.keyboard.press(key)
        at = page.evaluate("[...document.querySelectorAll('.open')].indexOf(document.activeElement)")
        assert at > 1, f"the arrows went to {at}"
        page.keyboard.press("Enter")
        page.wait_for_selector("#item .large .view.ready")
        assert "item=" in page.url
        page.keyboard.press("Escape")
        visit.wait("!location.search.includes('item=')")
        again = page.evaluate("[...document.querySelectorAll('.open')].indexOf(document.activeElement)")
        assert again == at, "Esc does not give the place in the results back"
        page.go_back()
        page.wait_for_selector("#item .large .view.ready")

    def shared() -> None:
        address = page.url
        page.goto(address)
        page.wait_for_selector("#item .large .view.ready")
        assert page.input_value("#words") == "a blue square"

    visit.check("keys: / arrows Enter Esc, and back", keys)
    visit.check("an address gives the same page", shared)


def explained(visit: Visit, reads: set[str]) -> None:
    """Opens a result of each kind and looks for what decided that it matched."""
    page = visit.page
    drawn = {"image": ".heat svg rect", "video": ".heat svg rect", "audio": ".strip rect", "timeseries": ".thin rect"}

    def why(kind: str) -> str:
        visit.home()
        page.fill("#words", "a red circle")
        page.press("#words", "Enter")
        visit.found()
        page.check(f"#among input[value={kind}]", force=True)
        page.wait_for_selector(f".hit[data-modality={kind}] .open")
        page.click(f".hit[data-modality={kind}] .open >> nth=0")
        page.wait_for_selector(".reasons:not([aria-busy])", timeout=SLOW_MS)
        count = page.locator(f".reasons {drawn[kind]}").count()
        assert count > 1, page.inner_text(".reasons")
        assert "Your words" in page.inner_text(".reasons"), page.inner_text(".reasons")
        visit.shot(f"why-{kind}")
        return f"{count} parts"

    for kind in sorted(reads & drawn.keys()):
        visit.check(f"why: {kind}", lambda kind=kind: why(kind))


def making(visit: Visit, folder: Path, verbs: set[str], ways: set[tuple[str, str]]) -> None:
    """Turns one thing into another, and asks."""
    page = visit.page

    def turned(to: str) -> str:
        page.click(f".turn .pill:has-text('{to}')")
        page.wait_for_selector("#item figure[aria-busy=false]", timeout=SLOW_MS)
        assert not page.locator("figure [role=alert]").count(), page.inner_text("figure")
        page.wait_for_selector("figure .view.ready")
        assert "generated" in page.inner_text("figure")
        return page.inner_text("figure .facts >> nth=0").replace("\n", ", ")

    def sound() -> str:
        visit.home()
        visit.drop(folder / "image-3.png", "image/png")
        visit.found()
        return turned("audio")

    def picture() -> str:
        visit.home()
        page.fill("#words", "a small red circle")
        visit.found()
        said = turned("image")
        page.click("figure >> text=Again")
        visit.wait("document.querySelectorAll('#item figure').length === 2")
        page.wait_for_selector("#item figure:has-text('seed 1')", timeout=SLOW_MS)
        return said

    def question() -> str:
        visit.home()
        page.click(".hit[data-modality=image] .open >> nth=0")
        page.fill(".ask input", "what colour is the circle?")
        page.press(".ask input", "Enter")
        page.wait_for_selector(".log .answer:not(:has-text('…')), .log .refused", timeout=SLOW_MS)
        assert not page.locator(".log .refused").count(), page.inner_text(".log")
        return page.inner_text(".log .answer")

    for name, able, work in (
        ("a picture into a sound", ("image", "audio") in ways, sound),
        ("words into a picture, and again", ("text", "image") in ways, picture),
        ("a question about a picture", "answer" in verbs, question),
    ):
        if able:
            visit.check(name, work)
            visit.shot(name.replace(" ", "-").replace(",", ""))
        else:
            print(f"{name:<44}left out: no model here does that")


def adding(visit: Visit, folder: Path) -> None:
    """Adds files, one of which is damaged, and records a sound."""
    page = visit.page

    def upload() -> str:
        visit.home()
        broken = folder / "broken.png"
        broken.write_bytes((folder / "image-1.png").read_bytes()[:90])
        new = folder / "new"
        new.mkdir(exist_ok=True)
        given = [broken]
        for n, sample in enumerate(Diorama("dev", size=6).samples(range(6))):
            given.append(sample["image"].save(new / f"new-{n}.png"))
        before = json.loads(urllib.request.urlopen(f"{visit.url}/v1/library").read())["items"]
        page.set_input_files("#files", [str(path) for path in given])
        page.wait_for_selector("#adding h2:has-text('done')", timeout=SLOW_MS)
        failed = page.locator("#adding [data-kind=failed]")
        assert failed.count() == 1, page.inner_text("#adding")
        assert "broken.png" in failed.inner_text()
        visit.wait(f"document.querySelector('#status').innerText.includes('{before + 6} items')")
        visit.shot("added")
        return failed.inner_text().replace("\n", ": ")[:100]

    def recorded() -> str:
        visit.home()
        page.click("#record")
        page.wait_for_timeout(1500)
        page.click("#record")
        page.wait_for_selector(".chip .view.ready")
        return f"{visit.found()} results"

    visit.check("files added with progress, one refused", upload)
    visit.check("search by a recorded sound", recorded)


def keyed(page: Any, url: str, key: str) -> Visit:
    """Gives a server its key, a wrong one first, and returns the visit; the refusals are no errors here."""
    visit = Visit(page, url, None)

    def asked() -> None:
        page.goto(url)
        for words in ("a-wrong-key-as-long-as-one", key):
            page.wait_for_selector("#key[open]")
            page.fill("#key input", words)
            page.press("#key input", "Enter")
        page.wait_for_selector(".hit[data-modality=image] .view.ready img")

    visit.check("a key is asked for, and media come with it", asked)
    visit.errors = [words for words in visit.errors if "401" not in words]
    return visit


def looked_at(visit: Visit, axe: Path | None, series: bool) -> int:
    """Photographs the page in both themes and as a phone, lets axe-core look; returns its serious findings."""
    page, serious = visit.page, 0

    def judged(name: str) -> None:
        nonlocal serious
        visit.shot(name)
        if axe is None:
            return
        page.evaluate(axe.read_text("utf-8"))
        options = json.dumps({"runOnly": TAGS})
        for one in page.evaluate(f"axe.run(document, {options})")["violations"]:
            serious += one["impact"] in ("serious", "critical")
            where = "; ".join(" ".join(map(str, node["target"])) for node in one["nodes"][:3])
            print(f"  axe, {name}: {one['impact']}: {one['id']}: {one['help']} ({where})")

    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size(WIDE)
        visit.home()
        judged(f"{theme}-start")
        page.goto(f"{visit.url}/?q=a+small+red+circle")
        visit.found()
        page.click(".hit[data-modality=audio] .open >> nth=0")
        page.wait_for_selector("#item .large .view.ready")
        page.wait_for_timeout(800)
        judged(f"{theme}-search")
        page.click("#status button")
        judged(f"{theme}-model")
        page.keyboard.press("Escape")
        page.set_viewport_size(PHONE)
        page.wait_for_timeout(300)
        judged(f"{theme}-phone-item")
        page.click("#item .close")
        page.wait_for_timeout(300)
        judged(f"{theme}-phone")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(WIDE)
    if series:
        page.goto(f"{visit.url}/?q=a+small+red+circle&in=timeseries")
        visit.found()
        page.wait_for_timeout(500)
        judged("series")
    return serious


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Returns what was found."""
    from playwright.sync_api import sync_playwright

    media = folder / "media"
    media.mkdir()
    given = files(media)
    with serving(arguments.model, folder / "library") as url, sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
        flags += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        flags += ["--autoplay-policy=no-user-gesture-required", "--mute-audio"]
        browser = driver.chromium.launch(executable_path=arguments.browser or shutil.which("chromium"), args=flags)
        page = browser.new_page(viewport=WIDE)
        visit = Visit(page, url, arguments.shots)
        models = json.loads(urllib.request.urlopen(f"{url}/v1/models").read())["data"]
        reads = {kind for model in models for kind in model["intermodal"]["modalities"]}
        fill(page, url, [path for path in given if path.name.partition("-")[0] in reads])
        verbs = {verb for model in models for verb in model["intermodal"]["verbs"]}
        ways = {(a, b) for model in models for a, b in model["intermodal"]["directions"]}
        searches(visit, media)
        by_keys(visit)
        explained(visit, reads)
        making(visit, media, verbs, ways)
        adding(visit, media)
        serious = looked_at(visit, arguments.axe, "timeseries" in reads)
        with serving(arguments.model, folder / "library", KEY) as other:
            late = keyed(browser.new_page(viewport=WIDE), other, KEY)
        browser.close()
    visit.told |= late.told
    visit.left += late.left
    visit.errors += late.errors
    failed = [name for name, said in visit.told.items() if said.startswith("FAILED")]
    return {"checks": visit.told, "failed": failed, "left": visit.left, "errors": visit.errors, "serious": serious}


def fill(page: Any, url: str, given: list[Path]) -> None:
    """Fills the library through the page, so that the empty one is seen too."""
    page.goto(url)
    page.wait_for_selector("#empty:has-text('The library is empty')")
    page.set_input_files("#files", [str(path) for path in given])
    page.wait_for_selector("#adding h2:has-text('done')", timeout=SLOW_MS)
    assert not page.locator("#adding [data-kind=failed]").count(), page.inner_text("#adding")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="diorama", help="a shipped model, or the folder of one")
    parser.add_argument("--browser", help="a Chromium; default: the one on the path, else playwright's own")
    parser.add_argument("--axe", type=Path, help="axe.min.js")
    parser.add_argument("--shots", type=Path, help="folder for photographs")
    parser.add_argument("--record", action="store_true", help="keep the figures")
    arguments = parser.parse_args()
    try:
        import playwright  # noqa: F401
    except ImportError:
        sys.exit("playwright is absent: pip install playwright, and apt-get install chromium")
    if arguments.shots is not None:
        arguments.shots.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", *sys.argv])
    print(f"{command}\n{machine()}")
    with tempfile.TemporaryDirectory(prefix="intermodal-page-") as folder:
        result = measure(arguments, Path(folder))
    axe = f"{result['serious']} serious findings" if arguments.axe else "not asked: give --axe axe.min.js"
    print(f"requests that left the server: {result['left'] or 'none'}")
    print(f"errors in the console: {result['errors'] or 'none'}")
    print(f"axe-core: {axe}")
    bad = result["failed"] or result["left"] or result["errors"] or result["serious"]
    if arguments.record and arguments.axe:
        done = f"{len(result['checks']) - len(result['failed'])} of {len(result['checks'])} checks"
        outside = f"{len(result['left'])} requests left, {len(result['errors'])} console errors"
        record("serving.page", f"{done}, {outside}, {axe}", "", "all, none, none, none serious", command)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
