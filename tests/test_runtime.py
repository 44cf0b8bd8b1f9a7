"""Device, number format, threads, seed and cache folder: as asked, as the environment says, or as there is."""

import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from intermodal import runtime
from intermodal.errors import InvalidValue

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEVICE", "PRECISION", "THREADS", "CACHE", "COMPILER"):
        monkeypatch.delenv(f"INTERMODAL_{name}", raising=False)


def test_the_device_is_what_is_asked_then_the_environments_then_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setenv("INTERMODAL_DEVICE", "meta")
    assert runtime.device().type == "meta"
    assert runtime.device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("INTERMODAL_DEVICE")
    assert runtime.device() == torch.device("cuda")


def test_a_device_that_is_none_or_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidValue, match="'gpu' is no device; use cpu, cuda"):
        runtime.device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidValue, match="'cuda:1' was asked for, but this machine has no CUDA device; use 'cpu'"):
        runtime.device("cuda:1")
    monkeypatch.setenv("INTERMODAL_DEVICE", "cuda")
    with pytest.raises(InvalidValue, match="no CUDA device"):
        runtime.device()


def test_the_number_format_follows_the_processor_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has)
        assert runtime.has_bf16(CPU) is has
        assert runtime.precision(where=CPU) == expected
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert runtime.has_bf16(CPU) is False
    assert runtime.has_bf16(torch.device("meta")) is False
    monkeypatch.setenv("INTERMODAL_PRECISION", "bf16")
    assert runtime.precision(where=CPU) == "bf16"
    assert runtime.precision("fp32", CPU) == "fp32"
    with pytest.raises(InvalidValue, match="precision 'fp16' is not known; use one of: fp32, bf16, int8"):
        runtime.precision("fp16")
    with pytest.raises(InvalidValue, match="precision 'int8' is for embedding alone; train in one of: fp32, bf16"):
        runtime.precision("int8")


def test_embedding_is_in_bf16_where_the_processor_and_the_width_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, width, expected in ((True, 256, "bf16"), (True, 255, "fp32"), (False, 768, "fp32")):
        monkeypatch.setattr(runtime, "has_bf16", lambda _, has=has: has)
        assert runtime.embedding_precision(None, CPU, width) == expected
    monkeypatch.setenv("INTERMODAL_PRECISION", "int8")
    assert runtime.embedding_precision(None, CPU, 64) == "int8"
    assert runtime.embedding_precision("fp32", CPU, 64) == "fp32"
    with pytest.raises(InvalidValue, match="train in one of"):
        runtime.precision()
    with pytest.raises(InvalidValue, match="precision 'half' is not known; use one of: fp32, bf16, int8"):
        runtime.embedding_precision("half", CPU, 64)


def test_autocast_runs_products_in_bf16_and_only_when_asked() -> None:
    x = torch.ones(2, 2)
    with runtime.autocast("bf16", CPU):
        assert (x @ x).dtype == torch.bfloat16
    with runtime.autocast("fp32", CPU):
        assert (x @ x).dtype == torch.float32
    assert (x @ x).dtype == torch.float32


def test_threads_are_set_to_what_is_asked_then_the_environments_then_all(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        assert runtime.threads(1) == 1 == torch.get_num_threads()
        monkeypatch.setenv("INTERMODAL_THREADS", "2")
        assert runtime.threads() == 2 == torch.get_num_threads()
        assert runtime.threads(1) == 1
        monkeypatch.delenv("INTERMODAL_THREADS")
        assert runtime.threads() == runtime.cores() == torch.get_num_threads()
        assert runtime.threads(beside=1) == max(1, runtime.cores() - 1) == torch.get_num_threads()
        assert runtime.threads(beside=10**6) == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("text", ["many", "1.5", "-1", "0"])
def test_threads_that_are_no_count_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_THREADS", text)
    with pytest.raises(InvalidValue, match="at least 1"):
        runtime.threads()


def test_the_place_among_processes_is_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert runtime.place() is None
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert runtime.place() == runtime.Place(5, 8, 1, 4)
    monkeypatch.setattr(runtime, "cores", lambda: 12)
    before = torch.get_num_threads()
    try:
        assert runtime.threads() == 3  # the cores are shared by those of this machine
        monkeypatch.setattr(runtime, "cores", lambda: 2)
        assert runtime.threads() == 1
    finally:
        torch.set_num_threads(before)
    monkeypatch.setenv("LOCAL_RANK", "one")
    with pytest.raises(InvalidValue, match="LOCAL_RANK.*torchrun"):
        runtime.place()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert runtime.place() is None


def test_no_threads_at_all_are_refused() -> None:
    with pytest.raises(InvalidValue, match="0 threads were asked for"):
        runtime.threads(0)


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= runtime.cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert runtime.cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert runtime.cores() == 1


def affinity_of_threads(parts: int) -> list[set[int]]:
    """Returns the cores of as many threads, each of which stays on its part."""
    found: list[set[int]] = [set() for _ in range(parts)]

    def run(part: int) -> None:
        runtime.stay(part, parts)
        found[part] = os.sched_getaffinity(0)

    threads = [threading.Thread(target=run, args=(part,)) for part in range(parts)]
    for thread in threads:
        thread.start()
        thread.join()
    return found


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads choose no cores here")
def test_a_thread_stays_on_its_share_of_the_cores() -> None:
    here = os.sched_getaffinity(0)
    first, second = affinity_of_threads(2)
    if len(here) > 1:
        assert first | second == here
        assert not first & second
    assert affinity_of_threads(len(here) + 1) == [here] * (len(here) + 1)  # fewer cores than threads
    assert os.sched_getaffinity(0) == here  # no other thread


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 3])
def test_one_seed_gives_the_same_numbers_everywhere(seed: int) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    runtime.seed(seed)
    first, second = draw(), draw()
    runtime.seed(seed)
    assert draw() == first != second
    runtime.seed(seed + 1)
    other = draw()
    assert all(a != b for a, b in zip(other, first, strict=True))


def test_the_cache_folder_is_made_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERMODAL_CACHE", str(tmp_path / "a" / "b"))
    assert runtime.cache_folder() == tmp_path / "a" / "b"
    assert runtime.cache_folder().is_dir()
    monkeypatch.delenv("INTERMODAL_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert runtime.cache_folder() == tmp_path / ".cache" / "intermodal"


def test_the_compiler_is_the_environments_or_one_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gcc").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert runtime.compiler() == str(tmp_path / "gcc")
    for chosen, expected in (("", None), ("no-such-compiler", None), ("gcc", str(tmp_path / "gcc"))):
        monkeypatch.setenv("INTERMODAL_COMPILER", chosen)
        assert runtime.compiler() == expected
    monkeypatch.delenv("INTERMODAL_COMPILER")
    (tmp_path / "gcc").unlink()
    assert runtime.compiler() is None


def test_the_faster_library_for_products_is_found_and_is_right() -> None:
    assert runtime.onednn_is_faster() in (True, False)
    assert runtime.onednn_is_faster.cache_info().currsize == 1
    x, y = torch.randn(20, 30), torch.randn(40, 30)
    torch.testing.assert_close(runtime.onednn_product(x, y), x @ y.T)
    torch.testing.assert_close(runtime.onednn_product(y.T, x.new_ones(5, 40)), y.T @ x.new_ones(40, 5))
