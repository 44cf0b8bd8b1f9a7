"""WaveNet beside a recurrent network of as many weights: bits per sample of spoken digits, told the word or not.

python3 benchmarks/wavenet.py             about 45 minutes on 2 cores: three models, 15 minutes each
python3 benchmarks/wavenet.py --quick     the same stages in a minute; its figures mean nothing

The data are FSDD's recordings at 8,000 samples per second, by the official split, as 256 mu-law ids; an id that nothing
is known of takes 8 bits. ``told`` is the WaveNet conditioned on the word that is spoken. The recurrent network is a GRU
over the same ids, of no more weights, trained as many minutes; the recordings that each saw in these are printed too.
``times faster`` is drawing a sample by queues against the forward pass over what came before, within reach.

Each stage is kept in --work and skipped when it is there.
"""

import json
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent / "real"))
import _stages
import _steps
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYERS, CHANNELS, SKIP, LEVELS = 10, 48, 96, 256
SECONDS, RATE = 0.5, 8_000
DIGITS = 10
AT_ONCE = 16  # recordings that are measured together
BATCH = {"wavenet": 4, "told": 4, "gru": 8}
"""Kind of model -> recordings of a step. Activations of 4 fit into the cache, so that a WaveNet reads more of them in a
second (6.9 of one core against 4.2 of 16); what is recurrent reads fewer (3.7 against 5.9 of 16)."""

KINDS = tuple(BATCH)


class Gru(nn.Module):
    """Ids of samples to the logits of each, by a recurrent network."""

    def __init__(self, weights: int) -> None:
        """Builds the widest one of at most so many weights."""
        super().__init__()
        width = 8
        while self._count(width + 1) <= weights:
            width += 1
        self.table = nn.Embedding(LEVELS + 1, width)
        self.network = nn.GRU(width, width, batch_first=True)
        self.choose = nn.Linear(width, LEVELS)

    @staticmethod
    def _count(width: int) -> int:
        return (LEVELS + 1) * width + 6 * width * (width + 1) + (width + 1) * LEVELS

    def bits(self, ids: Tensor, mask: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Returns the mean cost of a real sample in bits."""
        x, _ = self.network(self.table(F.pad(ids[:, :-1], (1, 0), value=LEVELS)))
        cost = F.cross_entropy(self.choose(x).transpose(1, 2), ids, reduction="none")
        return (cost * mask).sum() / mask.sum() / 0.6931471805599453


def recordings(shared: Path, limit: int | None) -> dict[str, list[tuple[Tensor, int]]]:
    """Returns split -> mu-law ids and digit of each recording."""
    from intermodal.decoders.wavenet import to_ids
    from intermodal.modalities.audio import Audio

    found: dict[str, list[tuple[Tensor, int]]] = {"train": [], "test": []}
    rows = _steps.read_rows(shared / "fsdd" / "pairs.jsonl")
    with zipfile.ZipFile(shared / "fsdd" / "audio.zip") as archive:
        for row in rows:
            if row["split"] in found and (limit is None or len(found[row["split"]]) < limit):
                sound = Audio.open(archive.read(row["audio"]))
                samples = torch.from_numpy(sound.mixed(1).resampled(RATE).samples[0].copy())
                found[row["split"]].append((to_ids(samples, LEVELS), int(row["digit"])))
    return found


def batch_of(some: list[tuple[Tensor, int]], length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns padded ids, which of them are real, and a vector for each word; of a recording a random stretch."""
    ids = torch.full((len(some), length), LEVELS // 2)
    mask = torch.zeros(len(some), length, dtype=torch.bool)
    for i, (whole, _) in enumerate(some):
        start = int(torch.randint(max(1, len(whole) - length + 1), ()))
        part = whole[start : start + length]
        ids[i, : len(part)], mask[i, : len(part)] = part, True
    return ids, mask, F.one_hot(torch.tensor([digit for _, digit in some]), DIGITS)[:, None].float()


def fresh(kind: str) -> Any:
    """Returns a model with fresh weights; the GRU has no more than the WaveNet."""
    from intermodal.decoders.wavenet import WaveNet

    torch.manual_seed(0)
    dilations = [2**i for i in range(LAYERS)]
    if kind == "gru":
        return Gru(sum(p.numel() for p in fresh("wavenet").parameters()))
    return WaveNet(dilations, CHANNELS, SKIP, LEVELS, DIGITS if kind == "told" else 0)


def cost(model: Any, kind: str, some: list[tuple[Tensor, int]], length: int) -> Tensor:
    """Returns the bits per sample of some recordings."""
    ids, mask, words = batch_of(some, length)
    return model.bits(ids, mask, words if kind == "told" else None)  # type: ignore[no-any-return]


def trained(kind: str, data: dict[str, list[tuple[Tensor, int]]], minutes: float, path: Path) -> dict[str, Any]:
    """Returns what the training of one model came to; its weights are kept at ``path``."""
    from safetensors.torch import save_file

    model, length = fresh(kind), round(SECONDS * RATE)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    start, steps = time.monotonic(), 0
    while (share := (time.monotonic() - start) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (steps + 1) / 50) * (1 - 0.95 * share)
        chosen = torch.randint(len(data["train"]), (BATCH[kind],)).tolist()
        optimizer.zero_grad()
        cost(model, kind, [data["train"][i] for i in chosen], length).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        steps += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    test = sorted(data["test"], key=lambda row: len(row[0]))
    total = real = 0.0
    with torch.no_grad():
        for i in range(0, len(test), AT_ONCE):
            part = test[i : i + AT_ONCE]
            count = sum(len(ids) for ids, _ in part)
            total += float(cost(model.eval(), kind, part, len(part[-1][0]))) * count
            real += count
    weights = sum(p.numel() for p in model.parameters())
    return {"bits": total / real, "weights": weights, "recordings": steps * BATCH[kind], "minutes": minutes}


def times_faster(samples: int) -> dict[str, float]:
    """Returns how much sooner a sample is drawn by queues than by the forward pass over all that it depends on."""
    model = fresh("wavenet").eval()
    start = time.monotonic()
    made = model.drawn(1, samples)
    by_queue = (time.monotonic() - start) / samples
    window, few = F.pad(made, (max(0, model.reach - samples), 0))[:, -model.reach :], 10
    start = time.monotonic()
    with torch.no_grad():
        for _ in range(few):
            model(window)
    whole = (time.monotonic() - start) / few
    return {"times_faster": whole / by_queue, "samples_per_s": 1 / by_queue}


def main() -> None:
    """Trains, measures and prints."""
    chosen = _steps.options(
        (__doc__ or "").splitlines()[0],
        minutes={"type": float, "default": 15.0, "help": "of each training (default: %(default)s)"},
        quick={"action": "store_true", "help": "a few seconds for each stage"},
    )
    from intermodal import runtime

    runtime.threads()
    minutes, limit = (0.02, 4) if chosen.quick else (chosen.minutes, None)
    data = recordings(chosen.shared, limit)
    out = chosen.work / "runs" / ("wavenet-quick" if chosen.quick else "wavenet")
    asked = {"minutes": minutes, "sizes": (LAYERS, CHANNELS, SKIP, LEVELS), "limit": limit}

    def done(kind: str) -> dict[str, Any]:
        return trained(kind, data, minutes, out / f"{kind}.safetensors")

    found = {kind: _stages.kept(out / f"{kind}.json", asked, lambda kind=kind: done(kind)) for kind in KINDS}
    found["drawing"] = _stages.kept(out / "drawing.json", asked, lambda: times_faster(50 if chosen.quick else 2000))
    for kind in KINDS:
        each = found[kind]
        print(f"{kind:8} {each['bits']:.3f} bits  {each['weights']:,} weights  {each['recordings']:,} recordings")
    print(f"a sample by queues: {found['drawing']['times_faster']:.0f} times faster than the forward pass")
    print(json.dumps(found))
    if chosen.record and not chosen.quick:
        sys.path.append(str(_steps.ROOT / "tools"))
        from figures import record

        command = f"python3 benchmarks/wavenet.py --minutes {minutes:g} --record"
        wanted = {"wavenet": f"below {found['gru']['bits']:.3f} (GRU)", "told": "below untold", "gru": "-"}
        for kind in KINDS:
            record(f"wavenet.bits_per_sample.{kind}", round(found[kind]["bits"], 3), "bits", wanted[kind], command)
        faster = round(found["drawing"]["times_faster"], 1)
        record("wavenet.queues_times_faster", faster, "x", "above 1", command)


if __name__ == "__main__":
    main()
