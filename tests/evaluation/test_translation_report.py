"""The report on translations: the table of directions, and items made beside items asked."""

from html.parser import HTMLParser
from pathlib import Path

from intermodal.diorama.source import Diorama
from intermodal.evaluation.translation_report import (
    completed_html,
    directions_html,
    mean_text,
    misshapen_texts,
    translation_parts,
    write_translation_report,
)
from intermodal.evaluation.translations import completions, examples, translations
from tests.translators import Completer, recolour

FIGURES = {
    "attributes": ["shape", "cell"],
    "attribute_accuracy": 0.981,
    "shape_accuracy": 0.962,
    "cell_accuracy": 1.0,
    "scene_accuracy": 0.904,
    "scene_accuracy_low": 0.8,
    "scene_accuracy_high": 0.95,
    "unreadable_share": 0.02,
    "seconds_per_item": 0.25,
    "misshapen": 0,
    "misshapen_why": "",
}


class Tags(HTMLParser):
    """Collects the tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def classes(self, name: str) -> int:
        return sum(name == attributes.get("class") for _, attributes in self.tags)


def test_each_cell_shows_attributes_scenes_and_on_pointing_the_rest() -> None:
    page = directions_html({"directions": {"text>image": FIGURES, "<b>text": {**FIGURES, "attribute_accuracy": 0.4}}})
    assert "98.1<small>90.4</small>" in page
    assert "shape 96.2, cell 100.0; scenes 80.0 to 95.0; unreadable 2.0; 0.250 s" in page
    assert "&lt;b" in page
    assert page.count("<td>·</td>") == 2  # two rows, two columns, two directions
    grounds = {a["style"] for tag, a in Tags(page).tags if tag == "td" and a.get("style")}
    assert len(grounds) == 2
    assert completed_html({"fields": {"audio": FIGURES}}).count("98.1<small>90.4") == 1


def test_means_are_told_in_words() -> None:
    mean = {"attribute_accuracy": 0.98765, "scene_accuracy": 0.9, "unreadable_share": 0.0, "seconds_per_item": 0.12}
    assert mean_text({"mean": mean}).startswith(
        "mean: 98.77% of the attributes, 90.00% of the scenes as a whole, 0.00%"
    )


def test_results_in_another_format_are_told() -> None:
    odd = {**FIGURES, "misshapen": 3, "misshapen_why": "too long"}
    (text,) = misshapen_texts({"a>b": FIGURES, "b>a": odd})
    assert text == "b>a: 3 results in another format, counted as unreadable: too long"
    result = {"directions": {"b>a": odd}, "mean": FIGURES, "left_out": {}}
    assert "b&gt;a: 3 results in another format" in "".join(translation_parts(result, {}))


def test_page_shows_what_was_made_beside_what_was_asked(tmp_path: Path) -> None:
    source, model = Diorama("test", size=4), Completer(spoil=recolour)
    result = translations(model, source, directions=[("text", "image"), ("image", "audio"), ("audio", "video")])
    result["left_out"] = {"text>speech": "no <recogniser>"}
    shown = examples(model, source, list(result["directions"]), count=2)
    done = completions(model, source, fields=["text", "image"])
    path = write_translation_report(tmp_path / "new" / "r.html", "a <title>", result, shown, done, ["1 < 2"])
    page = path.read_text("utf-8")
    read = Tags(page)
    assert read.classes("row") == read.classes("card query") == 6
    assert read.classes("card") == 12
    assert sum(tag == "img" for tag, _ in read.tags) == 2 * 2 + 2
    assert sum(tag == "audio" for tag, _ in read.tags) == 2 * 2 + 2
    assert sum(tag == "video" for tag, _ in read.tags) == 2 * 2
    assert "4 samples of diorama, split test" in page
    assert "text&gt;speech: no &lt;recogniser&gt;" in page
    assert "1 &lt; 2" in page
    assert "<h2>Completed</h2>" in page
    assert "75.0<small>0.0</small>" in page  # a colour in four attributes is wrong everywhere
    for _, attributes in read.tags:
        for name in ("src", "href", "data"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "Completed" not in "".join(translation_parts({**result, "left_out": {}}, {}))
