"""Small shards and parquet files for the tests, written by hand."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from intermodal.modalities.image import Image

FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(level: int, side: int = 8) -> Image:
    """Returns a picture of one level."""
    return Image(np.full((side, side, 3), level, np.uint8))


def png(level: int, folder: Path) -> bytes:
    """Returns a picture of one level as a file."""
    return picture(level).save(folder / "made.png").read_bytes()


def write_shard(path: Path, members: Iterable[tuple[str, bytes | str]], form: int = tarfile.PAX_FORMAT) -> Path:
    """Writes a tar file of members (path, content)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_parquet(
    path: Path, columns: Mapping[str, Sequence[Any]], types: Mapping[str, Any], features: Any = None, rows: int = 4
) -> Path:
    """Writes a parquet file of row groups of ``rows`` rows, with features in its schema where they are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    schema = pa.schema(list(types.items()), metadata=told)
    pa.parquet.write_table(pa.table(dict(columns), schema=schema), path, row_group_size=rows)
    return path
