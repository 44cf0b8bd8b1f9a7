"""``intermodal evaluate``: a model and a split to figures and a report."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from intermodal.cli.console import JSON, bar, finish, say, table


def command(
    model: Annotated[str, typer.Argument(help="Folder of a saved model, or a shipped one's name.")],
    data: Annotated[str, typer.Option(help="diorama, or a folder with metadata.jsonl.")] = "diorama",
    split: Annotated[str, typer.Option(help="Which split of the data.")] = "test",
    fields: Annotated[str, typer.Option(help="Only these fields, with commas.")] = "",
    classify: Annotated[str, typer.Option(help="Name each item of this field by its label, from words alone.")] = "",
    probe: Annotated[str, typer.Option(help="Name each item of this field by a linear probe on its train split.")] = "",
    label_field: Annotated[str, typer.Option(help="The text field that holds the labels.")] = "text",
    prompt: Annotated[
        list[str] | None, typer.Option(help="Sentence with {} for the label; several are averaged.")
    ] = None,
    alignment: Annotated[bool, typer.Option("--alignment", help="Also say how the fields' vectors lie.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML report here.")] = None,
    json: bool = JSON,
) -> None:
    """Measure a model: every field searched with every other, or names: zero-shot, or by a linear probe."""
    from intermodal import runtime
    from intermodal.data.sources import open_source
    from intermodal.errors import InvalidValue
    from intermodal.evaluation.protocols import alignments, any_to_any, embed_source, zero_shot
    from intermodal.evaluation.protocols import probe as linear
    from intermodal.saving import load_model
    from intermodal.types import Codes, Embeds

    if bool(classify) + bool(probe) + (alignment or report is not None) > 1:
        raise InvalidValue("give --classify, or --probe, or --alignment and --report; they are different measurements")
    runtime.threads()
    loaded = load_model(model)
    source = open_source(data, split)
    if isinstance(loaded, Codes) and not isinstance(loaded, Embeds):
        _codec(model, loaded, source, data, json)
        return
    if classify:
        result = {"model": model, **zero_shot(loaded, source, classify, label_field, prompt or ["{}"])}
        finish(result, json, f"{_named(result)} from words alone ({data}, {split})")
        return
    if probe:
        with bar("embedding") as progress:
            found = linear(loaded, open_source(data, "train"), source, probe, label_field, progress=progress.update)
        result = {"model": model, **found}
        finish(
            result,
            json,
            f"{_named(result)} by a linear probe on {found['train_items']} training items ({data}, {split})",
        )
        return
    with bar("embedding") as progress:
        vectors = embed_source(loaded, source, [f for f in fields.split(",") if f] or None, progress=progress.update)
    result = {"model": model, **any_to_any(loaded, source, vectors)}
    text = matrix_text(result)
    if alignment:
        result["alignment"] = alignments(vectors)
        text += f"\n\n{alignment_text(result['alignment'])}"
    if report:
        from intermodal.evaluation.report import write_report

        write_report(report, f"{model} on {data}", result, vectors, source)
        say(f"report: {report}")
    finish(result, json, text, f"intermodal index my-library FOLDER --model {model}")


def _codec(name: str, model: Any, source: Any, data: str, json: bool) -> None:
    """Measures what a codec keeps and prints it."""
    from intermodal.evaluation.codes import keeps

    with bar("there and back") as progress:
        result = {"model": name, **keeps(model, source, progress=progress.update)}
    lines = [
        f"{result['items']} items of {result['field']} in {result['ids_per_item']} ids each and back ({data}, "
        f"{result['split']})",
        f"variance lost {result['variance_lost']:.2%}, absolute error {result['absolute_error']:.3f}; "
        f"{result['share_used']:.1%} of the codes used, perplexity {result['perplexity']:.0f}",
    ]
    if "read" in result:
        before, after = result["originals_read"], result["read"]
        lines.append(
            f"read right: {after['attribute_accuracy']:.2%} of the attributes, {after['scene_accuracy']:.2%} of the "
            f"scenes (in the originals {before['attribute_accuracy']:.2%} and {before['scene_accuracy']:.2%})"
        )
    finish(result, json, "\n".join(lines))


def _named(result: dict[str, Any]) -> str:
    """Returns how many items were named right, in words."""
    many = f"{result['items']} items of {result['field']}"
    return f"{result['accuracy']:.2%} of {many} named right among {result['labels']} labels"


def matrix_text(result: dict[str, Any]) -> str:
    """Returns the any-to-any matrix of Recall@1 (and its ceiling where known) as text."""
    names = list(dict.fromkeys(name for pair in result["pairs"] for name in pair.split(">")))
    rows = []
    for a in names:
        cells = [a]
        for b in names:
            pair = result["pairs"].get(f"{a}>{b}")
            cells.append("-" if pair is None else f"{100 * pair['recall_at_1']:.1f} of {100 * pair['ceiling']:.1f}")
        rows.append(cells)
    title = "Recall@1 in % of its ceiling in %, row finds column"
    return f"{title}: {result['name']} {result['split']}, {result['count']} samples\n\n{table(rows, ['', *names])}"


def alignment_text(pairs: dict[str, dict[str, float]]) -> str:
    """Returns how the vectors of each two fields lie to each other, as text."""
    rows = [
        [
            name,
            f"{pair['canonical_correlation']:.3f}",
            f"{pair['canonical_correlation_shuffled']:.3f}",
            f"{pair['cka']:.3f}",
            f"{pair['gap']:.3f}",
            f"{pair['mutual_information_bound']:.2f}",
            f"{math.log(pair['candidates']):.2f}",
        ]
        for name, pair in pairs.items()
    ]
    header = ["", "correlation", "by chance", "CKA", "gap", "information, nats", "at most"]
    return f"Alignment of the vectors of each two fields\n\n{table(rows, header)}"
