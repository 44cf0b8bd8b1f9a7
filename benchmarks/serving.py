"""What the server does under load and under attack, on a real socket, with the shipped model.

python benchmarks/serving.py load --minutes 10     short texts embedded by 32 clients, against the same in one process
python benchmarks/serving.py hostile --files 1000  damaged and lying uploads: no 5xx, no crash, memory flat
python benchmarks/serving.py kill --rounds 10      killed while items are sent: what was acknowledged is there, once
python benchmarks/serving.py fuzz --requests 5000  requests drawn from the OpenAPI document (pip install schemathesis)

Each starts ``intermodal serve`` as a process of its own and asks it as a client would. ``--record`` keeps the figures.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT), str(ROOT / "tools")]
from figures import record  # noqa: E402

SCRIPT = "python benchmarks/serving.py"
CLIENTS = 32


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Starts a server with a library in ``folder`` and gives its address and its process."""
    command = [
        sys.executable,
        "-m",
        "intermodal",
        "serve",
        "--port",
        "0",
        "--library",
        str(folder / "library"),
        "--json",
    ]
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            if not told:
                sys.exit(f"the server did not start:\n{(folder / 'log').read_text()[-2000:]}")
            url = json.loads(told)["url"]
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx2.TransportError):
                    if httpx2.get(f"{url}/readyz", timeout=5).status_code == 200:
                        break
                time.sleep(0.1)
            yield url, process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def memory_mib(pid: int) -> float:
    """Returns the memory that a process has."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def texts(count: int, seed: int = 0) -> list[str]:
    """Returns short texts that the shipped model knows."""
    from intermodal.diorama.source import Diorama

    return [str(s["text"].text) for s in Diorama("test", fields=("text",), seed=seed).samples(range(count))]  # type: ignore[attr-defined]


# ---- load


def in_process(sentences: list[str], seconds: float, together: int) -> float:
    """Returns texts per second, embedded in this process as many at a time as the server may take together."""
    from intermodal import runtime
    from intermodal.modalities.text import Text
    from intermodal.saving import load_model

    runtime.threads()
    model = load_model("diorama")
    items = [Text(sentence) for sentence in sentences]
    model.embed(items[:together])
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = done % (len(items) - together)
        model.embed(items[start : start + together])
        done += together
    return done / (time.perf_counter() - begin)


async def clients(url: str, sentences: list[str], seconds: float, each: int) -> dict[str, Any]:
    """Returns texts per second, the times of requests and their statuses; ``CLIENTS`` ask one after the other.

    They speak HTTP over plain sockets and read no vectors, so as to leave the cores that they share to the server.
    """
    took: list[float] = []
    statuses: Counter[int] = Counter()
    until = time.perf_counter() + seconds
    host, _, port = url.removeprefix("http://").partition(":")

    async def one(number: int) -> None:
        draws = random.Random(number)
        incoming, outgoing = await asyncio.open_connection(host, int(port), limit=2**20)
        while time.perf_counter() < until:
            start = draws.randrange(len(sentences) - each)
            body = json.dumps({"input": sentences[start : start + each], "encoding_format": "base64"}).encode()
            head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            begin = time.perf_counter()
            outgoing.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            told = (await incoming.readuntil(b"\r\n\r\n")).decode().lower()
            length = re.search(r"\r\ncontent-length: (\d+)", told)
            answer = await incoming.readexactly(int(length[1]) if length else 0)
            took.append(time.perf_counter() - begin)
            status = int(told.split(" ", 2)[1])
            whole = status != 200 or (answer.count(b'"embedding":') == each and answer.endswith(b"}"))
            statuses[status if whole else 0] += 1
            if status == 429:
                later = re.search(r"\r\nretry-after: (\d+)", told)
                await asyncio.sleep(float(later[1]) if later else 1.0)
        outgoing.close()

    begin = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(CLIENTS)))
    spent = time.perf_counter() - begin
    times = sorted(took)
    return {
        "texts_per_s": statuses[200] * each / spent,
        "requests": len(took),
        "p50_ms": 1000 * statistics.median(times),
        "p99_ms": 1000 * times[int(0.99 * (len(times) - 1))],
        "statuses": dict(statuses),
    }


ROUNDS = 10
ALONE_S = 4.0
"""Of one process alone in each round: the machine is not as fast in one minute as in the next."""


def load(minutes: float, each: int, keep: bool) -> dict[str, Any]:
    """Measures throughput, waiting and memory: rounds, in each of which one process works alone before the clients."""
    sentences = texts(4096)
    with tempfile.TemporaryDirectory() as temporary, server(Path(temporary)) as (url, process):
        asyncio.run(clients(url, sentences, 5.0, each))  # so that everything is loaded before memory is counted
        begin, peaks, done = memory_mib(process.pid), [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(1.0):
                peaks.append(memory_mib(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        rounds = []
        for _ in range(ROUNDS):
            alone = in_process(sentences, min(ALONE_S, 6 * minutes), 64)
            here = asyncio.run(clients(url, sentences, 60 * minutes / ROUNDS, each))
            rounds.append(here | {"in_process_per_s": alone, "share": here["texts_per_s"] / alone})
            print(f"{here['texts_per_s']:.0f} texts/s, {100 * rounds[-1]['share']:.0f} %", file=sys.stderr, flush=True)
        done.set()
        watcher.join()
    names = ("texts_per_s", "p50_ms", "p99_ms", "in_process_per_s", "share")
    found: dict[str, Any] = {name: statistics.median(one[name] for one in rounds) for name in names}
    statuses = sum((Counter(one["statuses"]) for one in rounds), Counter[int]())
    found |= {"requests": statuses.total(), "statuses": dict(statuses), "minutes": minutes}
    found["p99_over_p50"] = max(one["p99_ms"] / one["p50_ms"] for one in rounds)
    found |= {"memory_begin_mib": begin, "memory_grown_mib": max(peaks) - begin}
    found["errors"] = sum(count for status, count in statuses.items() if status not in (200, 429))
    if keep:
        command = f"{SCRIPT} load --minutes {minutes:g} --each {each} --record"
        note = f"{CLIENTS} clients, {each} texts a request; median of {ROUNDS} rounds"
        record("serving.load.share", round(100 * found["share"]), "% of one process", "≥ 70", command, note=note)
        record("serving.load.texts_per_s", round(found["texts_per_s"]), "texts/s", "-", command, note=note)
        record("serving.load.p99_over_p50", round(found["p99_over_p50"], 1), "x", "≤ 4", command, note="worst round")
        record("serving.load.p50", round(found["p50_ms"], 1), "ms", "-", command)
        grown = f"memory grown in {minutes:g} min"
        record("serving.load.memory", round(found["memory_grown_mib"]), "MiB", "flat", command, note=grown)
        record("serving.load.errors", found["errors"], f"of {found['requests']:,}", "0 but 429", command)
    return found


# ---- hostile uploads


def hostile(files: int, keep: bool) -> dict[str, Any]:
    """Sends damaged and lying files, headers and names."""
    from tests.media.malformed import malformed_files

    draws = random.Random(0)
    statuses: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "media").mkdir()
        paths = malformed_files(folder / "media", files, 0)
        with server(folder) as (url, process), httpx2.Client(timeout=120) as client:
            for to in ("image", "text"):
                client.post(f"{url}/v1/translate", json={"input": "a red circle", "to": to})
            begin, seen = memory_mib(process.pid), []
            for number, path in enumerate(paths):
                statuses[str(attack(client, url, path, number, draws))] += 1
                seen.append(memory_mib(process.pid))
            alive = client.get(f"{url}/readyz").status_code == 200
            end = memory_mib(process.pid)
    errors = sum(count for status, count in statuses.items() if status.startswith("5") or not status.isdigit())
    found = {"sent": len(paths), "statuses": dict(statuses), "errors": errors, "alive": alive}
    half = len(seen) // 2
    found |= {"memory_begin_mib": begin, "memory_most_mib": max(seen), "memory_end_mib": end}
    found["memory_grown_mib"] = max(seen[half:]) - max(seen[:half])  # by then every kind of file was there
    if keep:
        command = f"{SCRIPT} hostile --files {files} --record"
        record("serving.hostile.errors", errors, f"of {len(paths):,} uploads", "0", command, note="5xx or broken off")
        grown = f"most of the second half above that of the first; {max(seen) - begin:.0f} MiB above the begin"
        record("serving.hostile.memory", round(found["memory_grown_mib"]), "MiB", "flat", command, note=grown)
    return found


NAMES = (
    "../../../etc/passwd",
    "..\\..\\x.png",
    "/etc/shadow",
    "x" * 5000 + ".png",
    "\x00.wav",
    "a\r\nX-Evil: 1.png",
    ".",
)


def attack(client: httpx2.Client, url: str, path: Path, number: int, draws: random.Random) -> int | str:
    """Returns the status of one hostile upload; how it broke where there is none."""
    name = draws.choice(NAMES) if number % 5 == 0 else path.name
    kind = draws.choice(("image/png", "audio/wav", "video/mp4", "text/plain", "x/y", ""))
    headers = {"X-Large": "y" * draws.choice((10, 60_000))} if number % 17 == 0 else {}
    routes = (
        ("/v1/library", {}),
        ("/v1/search", {}),
        ("/v1/translate", {"to": "text"}),
        ("/v1/audio/transcriptions", {"model": "whisper-1"}),
    )
    route, data = routes[number % len(routes)]
    body = path.read_bytes()
    try:
        return client.post(f"{url}{route}", data=data, files={"file": (name, body, kind)}, headers=headers).status_code
    except (httpx2.HTTPError, UnicodeError, ValueError) as error:
        # a name or header that no client sends is no attack on the server; a broken connection is
        return "refused by the client" if isinstance(error, UnicodeError | ValueError) else f"{type(error).__name__}"


# ---- killed while files are sent


def kill(rounds: int, keep: bool) -> dict[str, Any]:
    """Kills the server while files are sent, starts it again, and looks for what was acknowledged."""
    draws = random.Random(0)
    lost = doubled = unopened = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        acknowledged: set[str] = set()
        for number in range(rounds):
            with server(folder) as (url, process):
                sentences = texts(300, seed=number)
                stop = threading.Timer(draws.uniform(0.3, 3.0), process.kill)
                stop.start()
                acknowledged |= sent(url, sentences)
                stop.cancel()
                process.kill()
            try:
                with server(folder) as (url, _), httpx2.Client(timeout=60) as client:
                    gone = [i for i in acknowledged if client.get(f"{url}/v1/library/items/{i}").status_code != 200]
                    lost += len(gone)
                    told = client.get(f"{url}/v1/library/items", params={"top": 1000}).json()["items"]
                    doubled += len(told) - len({item["id"] for item in told})
            except (httpx2.HTTPError, SystemExit):
                unopened += 1
            print(f"round {number + 1}: {len(acknowledged)} acknowledged", file=sys.stderr, flush=True)
    found = {
        "rounds": rounds,
        "acknowledged": len(acknowledged),
        "lost": lost,
        "doubled": doubled,
        "unopened": unopened,
    }
    if keep:
        value = f"{lost} lost, {doubled} doubled, {unopened} not opened"
        record(
            "serving.kill", value, f"of {len(acknowledged):,}", "0, 0, 0", f"{SCRIPT} kill --rounds {rounds} --record"
        )
    return found


def sent(url: str, sentences: list[str]) -> set[str]:
    """Sends texts in a streamed addition until the server is gone; returns what it acknowledged."""
    ids: set[str] = set()
    with contextlib.suppress(httpx2.HTTPError), httpx2.Client(timeout=60) as client:
        for start in range(0, len(sentences), 20):
            body = {"items": sentences[start : start + 20]}
            with client.stream("POST", f"{url}/v1/library?stream=true", json=body) as answer:
                for line in answer.iter_lines():
                    told = json.loads(line)
                    if told["event"] == "committed":
                        ids |= set(told["ids"])
    return ids


# ---- requests from the OpenAPI document


def fuzz(requests: int, keep: bool) -> dict[str, Any]:
    """Lets schemathesis draw requests and check the answers."""
    operations = 25
    with tempfile.TemporaryDirectory() as temporary, server(Path(temporary)) as (url, _):
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{url}/openapi.json",
            "--phases",
            "fuzzing",
            "--workers",
            "1",
        ]
        command += [
            "--max-examples",
            str(-(-requests // operations)),
            "--checks",
            "not_a_server_error,response_schema_conformance",
        ]
        command += ["--continue-on-failure", "--seed", "1", "--request-timeout", "60", "--suppress-health-check", "all"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": temporary}  # it leaves files
        done = subprocess.run(command, text=True, check=False, **pipes)
    print(done.stdout[-6000:], file=sys.stderr)
    cases = re.search(r"(\d+) generated", done.stdout)
    found = {"exit": done.returncode, "generated": int(cases[1]) if cases else 0}
    if keep:
        told = "no 5xx, no violation" if done.returncode == 0 else "failures"
        again = f"{SCRIPT} fuzz --requests {requests} --record"
        record("serving.fuzz", told, f"in {found['generated']:,} requests", "none in 5,000", again)
    return found


def main() -> None:
    """Runs one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("load", "hostile", "kill", "fuzz"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--each", type=int, default=8, help="texts in a request")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--record", action="store_true", help="write the figures to docs/figures.json")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    ways = {
        "load": lambda: load(chosen.minutes, chosen.each, chosen.record),
        "hostile": lambda: hostile(chosen.files, chosen.record),
        "kill": lambda: kill(chosen.rounds, chosen.record),
        "fuzz": lambda: fuzz(chosen.requests, chosen.record),
    }
    print(json.dumps(ways[chosen.what]()))


if __name__ == "__main__":
    main()
