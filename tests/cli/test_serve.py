"""``intermodal serve``: started by a person, stopped by a signal."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from intermodal.cli.app import run
from intermodal.saving import save_model
from intermodal.serving.keys import from_file, who
from tests.serving.places import small


def test_a_key_is_made_and_its_hash_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    assert run(["serve", "--keys", str(path), "--new-key", "alice", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert who(from_file(path), f"Bearer {told['key']}") == "alice"
    assert run(["serve", "--new-key", "alice"]) == 2
    assert "--keys" in capsys.readouterr().err


def test_an_open_address_without_keys_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_model(tmp_path / "tiny", small())
    assert run(["serve", "--model", str(model), "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "keys are needed" in capsys.readouterr().err


def test_it_serves_a_model_and_a_library_until_it_is_told_to_stop(tmp_path: Path) -> None:
    model = save_model(tmp_path / "tiny", small())
    command = [sys.executable, "-m", "intermodal", "serve", "--model", str(model), "--library", str(tmp_path / "lib")]
    with subprocess.Popen(
        [*command, "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "INTERMODAL_THREADS": "1"},
    ) as process:
        try:
            assert process.stdout
            told = json.loads(process.stdout.readline())
            assert told["models"] == ["tiny"]
            with urllib.request.urlopen(f"{told['url']}/v1/library", timeout=60) as answer:
                assert json.loads(answer.read())["items"] == 0
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode in (0, -signal.SIGTERM), errors
    assert "Traceback" not in errors
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert [line["route"] for line in lines] == ["/v1/library"]
