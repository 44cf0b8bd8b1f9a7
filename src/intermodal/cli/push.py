"""``intermodal push``: a saved model to the hub, where others load it by ``hub:owner/name``."""

from typing import Annotated

import typer

from intermodal.cli.console import JSON, finish, say, table


def command(
    model: Annotated[str, typer.Argument(help="Folder of a saved model, or a shipped one's name.")],
    name: Annotated[str, typer.Argument(help="owner/name on the hub; made if absent.")],
    private: Annotated[bool, typer.Option("--private", help="Only its owner sees it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go up, and send nothing.")] = False,
    revision: Annotated[str, typer.Option(help="Branch, made if absent; default: the main one.")] = "",
    license_: Annotated[
        str, typer.Option("--license", help="Of the weights, such as apache-2.0; default: what the card says.")
    ] = "",
    json: bool = JSON,
) -> None:
    """Upload a saved model to the hub: its config, weights, figures and card, and nothing else."""
    from intermodal.publishing import push

    result = push(model, name, private=private, revision=revision, licence=license_, dry_run=dry_run)
    rows = [[one["path"], f"{one['bytes']:,}"] for one in result["files"]]
    say(table(rows, ["file", "bytes"]))
    where = f"{name} ({result['revision']}{', private' if private else ''})"
    count = f"{len(rows)} files, {result['bytes']:,} bytes"
    if dry_run:
        finish(result, json, f"would go to {where}: {count}; nothing was sent", f"intermodal push {model} {name}")
        return
    loaded = f"hub:{name}@{result['commit']}"
    finish(result, json, f"sent to {where}: {count}\n{result['url']}", f"intermodal embed {loaded} INPUT")
