"""``intermodal embed``: files and words to unit vectors."""

from pathlib import Path
from typing import Annotated

import typer

from intermodal.cli.console import JSON, bar, finish, say


def command(
    model: Annotated[str, typer.Argument(help="Folder of a saved model, or a shipped one's name.")],
    inputs: Annotated[
        list[str], typer.Argument(help="Files of any modality; anything that is no file is taken as text.")
    ],
    out: Annotated[Path, typer.Option(help="npz file for `vectors`, `names` and `modalities`.")] = Path("vectors.npz"),
    json: bool = JSON,
) -> None:
    """Turn files and words into unit vectors of one space."""
    import numpy as np

    from intermodal import runtime
    from intermodal.cli.items import item_of
    from intermodal.errors import IntermodalError, InvalidData
    from intermodal.saving import load_model

    runtime.threads()
    loaded = load_model(model)
    names, kinds, rows, failed = [], [], [], []
    with bar("embedding") as progress:
        for start in range(0, len(inputs), 64):
            items = []
            for name in inputs[start : start + 64]:
                try:
                    item = item_of(name)
                    loaded.field_of(item.modality)
                except IntermodalError as error:
                    failed.append({"source": name, "reason": str(error)})
                    continue
                items.append(item)
                names.append(name)
                kinds.append(item.modality)
            if items:
                rows.append(loaded.embed(items).float().cpu().numpy())
            progress.update(min(1.0, (start + 64) / len(inputs)))
    for problem in failed:
        say(f"skipped {problem['source']}: {problem['reason']}")
    if not rows:
        raise InvalidData(f"none of the {len(inputs)} inputs could be embedded; the reasons stand above")
    vectors = np.concatenate(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, vectors=vectors, names=np.array(names), modalities=np.array(kinds))
    result = {"out": str(out), "count": len(vectors), "width": int(vectors.shape[1]), "failed": failed}
    text = f"{len(vectors)} vectors of {vectors.shape[1]} dimensions in {out}; {len(failed)} inputs skipped"
    finish(result, json, text, f"intermodal index my-library FOLDER --model {model}")
