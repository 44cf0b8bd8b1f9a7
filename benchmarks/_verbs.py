"""The verbs of the command line, as a user runs them, for scripts that measure them."""

import json
import os
import subprocess
import sys
from typing import Any


def intermodal(*arguments: str, threads: int | None = None) -> dict[str, Any]:
    """Returns what one verb printed as JSON; it computes in so many threads, by default as many as it would choose."""
    command = [sys.executable, "-m", "intermodal", *arguments, "--json"]
    chosen = {} if threads is None else {"INTERMODAL_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | chosen)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
