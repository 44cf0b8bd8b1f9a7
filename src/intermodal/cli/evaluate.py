"""``intermodal evaluate``: a model and a split to figures and a report."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from intermodal.cli.console import JSON, bar, finish, say, table
from intermodal.errors import InvalidValue

MEASURED = 2_000
"""Samples, at most and evenly spaced, that subsets of fields are measured on, unless told otherwise."""


def command(
    model: Annotated[str, typer.Argument(help="Folder of a saved model, or a shipped one's name.")],
    data: Annotated[str, typer.Option(help="diorama, a folder, wds:SHARDS or hf:NAME.")] = "diorama",
    split: Annotated[str, typer.Option(help="Which split of the data.")] = "test",
    fields: Annotated[str, typer.Option(help="Only these fields, with commas.")] = "",
    classify: Annotated[str, typer.Option(help="Name each item of this field by its label, from words alone.")] = "",
    probe: Annotated[str, typer.Option(help="Name each item of this field by a linear probe on its train split.")] = "",
    label_field: Annotated[str, typer.Option(help="The text field that holds the labels.")] = "text",
    prompt: Annotated[
        list[str] | None, typer.Option(help="Sentence with {} for the label; several are averaged.")
    ] = None,
    alignment: Annotated[bool, typer.Option("--alignment", help="Also say how the fields' vectors lie.")] = False,
    translate: Annotated[
        bool, typer.Option("--translate", help="Translate every field into every other and read the results back.")
    ] = False,
    samples: Annotated[int, typer.Option(help="Only so many samples (diorama, subsets of fields); 0 for all.")] = 0,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="Of a model that joins fields: one that was trained on fewer of them; repeatable."),
    ] = None,
    singles: Annotated[
        Path | None,
        typer.Option(help="Of a model that joins fields: train one for each field into this folder, tuned on dev."),
    ] = None,
    minutes: Annotated[float, typer.Option(help="With --singles: of each training.")] = 1.0,
    candidates: Annotated[int, typer.Option(help="With --translate: how many to choose the best from.")] = 1,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML report here.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the figures with the model, to be shown.")] = False,
    json: bool = JSON,
) -> None:
    """Measure a model: every field searched with every other or translated into it, names, subsets of fields."""
    from intermodal import runtime
    from intermodal.data.sources import open_source
    from intermodal.saving import load_model
    from intermodal.types import Codes, Embeds, Predicts, Translates

    _one(bool(classify), bool(probe), bool(alignment or (report and not translate)), translate)
    runtime.threads()
    loaded = load_model(model)
    if keep:
        _keeps(loaded, model, bool(classify or probe))
    asked = _names(fields)
    size = {"size": samples} if samples else {}
    other = classify or probe or alignment
    if translate or (isinstance(loaded, Translates) and not isinstance(loaded, Embeds) and not other):
        found = _translations(loaded, model, _rendered(loaded, data, split, size), asked, candidates, report, json)
        _kept(keep, model, found)
        return
    if isinstance(loaded, Predicts) and not other:
        _subsets(loaded, model, (data, split, samples), asked, list(beside or []), (singles, minutes), json)
        return
    source = open_source(data, split, **size)
    if isinstance(loaded, Codes) and not isinstance(loaded, Embeds):
        _codec(model, loaded, source, data, json)
    elif other and not alignment:
        ways = (classify, probe, label_field, prompt or ["{}"])
        _names_told(loaded, model, source, (data, split), ways, json)
    else:
        _kept(keep, model, _search(loaded, model, source, asked, alignment, report, json))


def _one(*asked: bool) -> None:
    """Raises InvalidValue where several measurements are asked for."""
    if sum(asked) > 1:
        raise InvalidValue(
            "give --classify, or --probe, or --alignment, or --translate, the last two with --report if it is wanted; "
            "they are different measurements"
        )


def _keeps(model: Any, name: str, named: bool) -> None:
    """Raises InvalidValue where what is to be measured is nothing that is kept with a model."""
    from intermodal.types import Embeds, Translates

    if named or not isinstance(model, Embeds | Translates):
        raise InvalidValue(f"--keep keeps figures of searching and translating with {name}; leave it out for others")


def _kept(keep: bool, name: str, result: dict[str, Any]) -> None:
    """Keeps what was measured with the model where that was asked for."""
    from intermodal.evaluation.kept import kept

    if keep:
        say(f"kept: {kept(name, result)}")


def _names_told(
    model: Any,
    name: str,
    source: Any,
    where: tuple[str, str],
    ways: tuple[str, str, str, list[str]],
    json: bool,
) -> None:
    """Measures how often items of a field get their label's name: from words alone, or by a linear probe."""
    from intermodal.data.sources import open_source
    from intermodal.evaluation.protocols import probe as linear
    from intermodal.evaluation.protocols import zero_shot

    (data, split), (classify, probe, label_field, prompts) = where, ways
    if classify:
        result = {"model": name, **zero_shot(model, source, classify, label_field, prompts)}
        finish(result, json, f"{_named(result)} from words alone ({data}, {split})")
        return
    with bar("embedding") as progress:
        found = linear(model, open_source(data, "train"), source, probe, label_field, progress=progress.update)
    result = {"model": name, **found}
    trained = f"by a linear probe on {found['train_items']} training items"
    finish(result, json, f"{_named(result)} {trained} ({data}, {split})")


def _search(
    model: Any, name: str, source: Any, fields: list[str] | None, alignment: bool, report: Path | None, json: bool
) -> dict[str, Any]:
    """Measures every field searched with every other, prints the matrix, writes the report and returns all of it."""
    from intermodal.evaluation.protocols import alignments, any_to_any, embed_source
    from intermodal.types import Translates

    with bar("embedding") as progress:
        vectors = embed_source(model, source, fields, progress=progress.update)
    result = {"model": name, **any_to_any(model, source, vectors)}
    text = matrix_text(result)
    if alignment:
        result["alignment"] = alignments(vectors)
        text += f"\n\n{alignment_text(result['alignment'])}"
    if report:
        from intermodal.evaluation.report import write_report

        write_report(report, f"{name} on {result['name']}", result, vectors, source)
        say(f"report: {report}")
    index = f"intermodal index my-library FOLDER --model {name}"
    finish(result, json, text, f"intermodal evaluate {name} --translate" if isinstance(model, Translates) else index)
    return result


def _names(given: str) -> list[str] | None:
    """Returns the names in a list with commas; None for none."""
    return [name for name in given.split(",") if name] or None


def _rendered(model: Any, data: str, split: str, size: dict[str, int]) -> Any:
    """Returns the data; of diorama all fields that the model translates from, as far as they can be rendered here."""
    from intermodal.data.sources import open_source
    from intermodal.diorama import speech
    from intermodal.diorama.scene import CARRIES

    starts = dict.fromkeys(a for a, _ in getattr(model, "directions", ()) if a in CARRIES)
    fields = [name for name in starts if name != "speech" or speech.available()]
    return open_source(data, split, **size, **({"fields": fields} if fields and data == "diorama" else {}))


def _translations(
    model: Any, name: str, source: Any, fields: list[str] | None, candidates: int, report: Path | None, json: bool
) -> dict[str, Any]:
    """Measures every direction, and every field made from all others; prints, reports and returns what was found."""
    from intermodal.evaluation.translation_report import write_translation_report
    from intermodal.evaluation.translations import completions, examples, translations
    from intermodal.types import MODALITIES, Completes

    with bar("translating") as progress:
        result = {
            "model": name,
            **translations(model, source, fields, count=candidates, progress=progress.update),
        }
    texts = [translations_text(result)]
    whole = [n for n in (fields or source.fields) if n in MODALITIES and n in source.fields]
    if isinstance(model, Completes) and len(whole) > 2:  # of two fields the other alone is a translation
        with bar("completing") as progress:
            result["completions"] = completions(model, source, whole, candidates, progress=progress.update)
        texts.append(completions_text(result["completions"]))
    if report:
        shown = examples(model, source, list(result["directions"]))
        write_translation_report(report, f"{name} on {result['name']}", result, shown, result.get("completions"))
        say(f"report: {report}")
    first = next(iter(result["directions"])).split(">")
    finish(result, json, "\n\n".join(texts), f"intermodal translate INPUT --to {first[1]} --model {name}")
    return result


def translations_text(result: dict[str, Any]) -> str:
    """Returns the table of directions as text: attributes right and scenes right, in %; rows give, columns are made."""
    from intermodal.evaluation.translation_report import mean_text, misshapen_texts

    pairs = [name.split(">") for name in result["directions"]]
    starts, ends = (list(dict.fromkeys(pair[k] for pair in pairs)) for k in (0, 1))
    rows = [[a, *(_arrived(result["directions"].get(f"{a}>{b}")) for b in ends)] for a in starts]
    title = "Attributes right and scenes right in %, from row to column, read back"
    lines = [f"{title}: {result['name']} {result['split']}, {result['count']} samples", "", table(rows, ["", *ends])]
    lines += ["", mean_text(result), *misshapen_texts(result["directions"])]
    lines += [f"not measured: {name}: {why}" for name, why in result["left_out"].items()]
    return "\n".join(lines)


def completions_text(result: dict[str, Any]) -> str:
    """Returns as text how well each field is made from all the others."""
    from intermodal.evaluation.translation_report import misshapen_texts

    rows = [[name, _arrived(figures)] for name, figures in result["fields"].items()]
    shown = table(rows, ["made from all the others", "attributes, scenes right in %"])
    return "\n".join([shown, *misshapen_texts(result["fields"])])


def _arrived(figures: dict[str, Any] | None) -> str:
    """Returns a cell of these tables."""
    if figures is None:
        return "-"
    return f"{100 * figures['attribute_accuracy']:.1f}, {100 * figures['scene_accuracy']:.1f}"


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


def _subsets(
    model: Any,
    name: str,
    where: tuple[str, str, int],
    fields: list[str] | None,
    beside: list[str],
    singles: tuple[Path | None, float],
    json: bool,
) -> None:
    """Measures what is told from every subset of the fields and in noise, beside models of fewer fields."""
    from intermodal.data.sources import open_source
    from intermodal.evaluation.subsets import against, by_subset, told
    from intermodal.saving import load_model
    from intermodal.training.singles import train_singles

    data, split, limit = where
    read = [field for field in model.preprocessors if field not in model.tasks and (not fields or field in fields)]
    folder, minutes = singles
    if folder:
        with bar("training for single fields") as progress:
            beside = beside + list(map(str, train_singles(model, data, folder, minutes, say, progress.update)))
    others = [load_model(folder) for folder in beside]
    result: dict[str, Any] = {"model": name, "tasks": {}}
    for of, task in model.tasks.items():
        wanted = (read, of, task, limit or MEASURED)
        test = told(open_source(data, split, fields=[*read, of]), *wanted)
        with bar("subsets") as progress:
            found = by_subset(model, test, read, of, progress=progress.update)
        if others:
            dev = told(open_source(data, "dev", fields=[*read, of]), *wanted)
            models = {tuple(f for f in read if f in other.preprocessors): other for other in others}
            found |= against(models, dev, test, of)
        result["tasks"][of] = found | {"about": dict(test.about)}
    finish(result, json, "\n\n".join(subsets_text(of, found) for of, found in result["tasks"].items()))


def subsets_text(name: str, found: dict[str, Any]) -> str:
    """Returns as text what is told of a task from each subset of the fields, and in noise."""
    metric, beside = found["metric"], found.get("alone", {})
    rows = []
    for subset, figures in found["subsets"].items():
        other = beside.get(subset)
        rows.append([subset, f"{100 * figures[metric]:.1f}", f"{100 * other[metric]:.1f}" if other else "-"])
    if "late" in found:
        late = found["late"]
        weights = ", ".join(f"{field} {weight:g}" for field, weight in late["weights"].items())
        rows.append([f"late fusion, {late['rule']} of {weights}", "-", f"{100 * late[metric]:.1f}"])
    about = found["about"]
    title = f"{name}: {metric} in %, {about['name']} {about['split']}, {found['count']} samples"
    lines = [title, "", table(rows, ["read", "this model", "trained on it alone"])]
    if found["noise"]:
        shares = list(next(iter(found["noise"].values()))["all"])
        noisy = [
            [field if kind == "all" else f"{field}, alone", *(f"{100 * each[kind][share]:.1f}" for share in shares)]
            for field, each in found["noise"].items()
            for kind in ("all", "alone")
        ]
        lines += ["", "The same of all fields, with so much noise in one:", ""]
        lines += [table(noisy, ["noise in", *(f"{100 * float(share):g} %" for share in shares)])]
    if "changes_without" in found:
        shown = ", ".join(f"{field} {100 * share:.1f} %" for field, share in found["changes_without"].items())
        lines += ["", f"Another class is told without: {shown}"]
    return "\n".join(lines)


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
