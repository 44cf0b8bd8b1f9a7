"""The VAE-GAN on digits as pictures, speech and words: what the adversary brings, and whether all fields agree.

python3 benchmarks/vae_gan.py             about 55 minutes of one core: the VAE-GAN 32, a plain VAE 9 twice, judges 5
python3 benchmarks/vae_gan.py --quick     the same stages in a few minutes; its figures mean nothing

The data, the judges and what coherence means are those of ``real/digits_translate.py``: MNIST and FSDD joined by their
class, classifiers trained apart on real pictures and recordings. Asked is what mixture-of-experts VAEs reach between
MNIST and SVHN, in either direction and jointly. A joint sample is one latent from noise, from which all three fields
are made; all must be the same digit. ``joint_by_word`` are the same samples, of which only the word is kept, and
picture and speech are made again from what is read in it.

Sharpness: the claim of Larsen et al. 2016, arXiv 1512.09300, figure 3. The same VAE without its adversary is trained at
several weights of the style's divergence, since its reconstruction hangs on that, and the one is compared whose squared
error on test pictures is nearest to the VAE-GAN's. Fréchet distances are of the means of the last convolution of the
judge of pictures (96 features), sharpness is the variance of the Laplacian, as a share of that of real pictures.

Each stage is kept in --work and skipped when it is there; an interrupted training goes on.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent / "real"))
import _judges
import _stages
import _steps
import digits_translate

FIELDS = digits_translate.FIELDS
CHANGES = (
    *(f"towers.audio.preprocessor.{name}={value}" for name, value in digits_translate.SOUND.items()),
    "towers.audio.preprocessor.seconds_max=1.0",
    "towers.audio.channels=32,64",
    "towers.audio.depth=2",
    "towers.audio.longest=24",
    "towers.image.preprocessor.height=32",
    "towers.image.preprocessor.width=32",
    "towers.image.preprocessor.patch=8",
    "towers.image.first=2,2",
    "towers.image.channels=32,64,128",
    "towers.image.depth=2",
    "longest=8",
)
ACROSS = {"image>audio": 88.0, "audio>image": 67.0}
"""Direction -> the coherence asked in percent: easy to hard and back, as MNIST to SVHN and back."""
JOINT = 41.0
PLAIN = {"plain": 0.03, "plain-tight": 0.06}
"""Name of a VAE without an adversary -> the weight of its style's divergence; the first is that of the VAE-GAN."""


def model_of(name: str, data: Path, out: Path, minutes: float, changes: tuple[str, ...] = ()) -> Path:
    """Returns the folder of a model, trained if it is not there."""
    source = ["train", "vae_gan", "--data", str(data), "--fields", ",".join(FIELDS), "--batch", "64"]
    return _stages.trained(out / name, [*source, *_stages.sets(*CHANGES, *changes, f"train.minutes={minutes:g}")])


def pixels(items: list[Any]) -> np.ndarray:
    """Returns pictures as ``(N, 3, H, W)``, 0 to 1, all resized as the model takes them."""
    from intermodal.modalities.image import ImagePreprocessor

    make = ImagePreprocessor(height=32, width=32, patch=8)
    found: np.ndarray = make(items).values.numpy() * 0.5 + 0.5
    return found


def features(judge: Any, values: np.ndarray) -> np.ndarray:
    """Returns what the judge's last convolution finds in pictures, mean over places ``(N, 96)``."""
    import torch

    with torch.no_grad():
        grey = (torch.from_numpy(values).float() * 2 - 1).mean(dim=1, keepdim=True)
        found: np.ndarray = judge.eval().steps[:12](grey).mean(dim=(2, 3)).numpy()
    return found


def quality(model: Any, data: Path, judge: Any, samples: int, temperature: float) -> dict[str, float]:
    """Returns how close pictures come back, and how real and sharp they and samples from noise are."""
    from intermodal.evaluation.distributions import frechet_distance
    from intermodal.evaluation.sharpness import sharpness
    from intermodal.sampling.autoregressive import Sampling

    real, labels = digits_translate.asked_of(data, "image", samples)
    back = model.rebuilt("image", real)
    noise = [made["image"] for made in model.imagine(samples, sampling=Sampling(temperature, seed=1))]
    truth = pixels(real)
    network = "the last convolution of the judge of pictures"
    result = {"squared_error": float(np.square(pixels(back) - truth).mean())}
    result["still_the_digit"] = float((_judges.judged(*judge, back)[:, 0].numpy() == labels).mean())
    for name, items in (("rebuilt", back), ("from_noise", noise)):
        values = pixels(items)
        result[f"{name}.sharpness"] = float(sharpness(values).mean() / sharpness(truth).mean())
        if samples > 96:
            found = frechet_distance(features(judge[0], truth), features(judge[0], values), network)
            result[f"{name}.frechet"] = found.figures["frechet_distance"]
    return result


def agreement(model: Any, judged_by: Any, samples: int, temperature: float, first: str = "") -> dict[str, float]:
    """Returns the joint coherence of samples from noise; with ``first``, of all fields made again from that one."""
    from intermodal.evaluation.coherence import joint_coherence
    from intermodal.sampling.autoregressive import Sampling

    made = model.imagine(samples, sampling=Sampling(temperature, seed=1))
    if first:
        alone = [{first: one[first]} for one in made]
        made = model.filled(alone, sampling=Sampling(temperature, seed=2), candidates=range(samples))
    return joint_coherence({n: digits_translate.named(n, [one[n] for one in made], judged_by) for n in FIELDS})


def measured(folders: dict[str, Path], data: Path, chosen: Any, steps: dict[str, int]) -> dict[str, Any]:
    """Returns all figures."""
    from intermodal import runtime
    from intermodal.saving import load_model

    runtime.threads()
    out = chosen.work / "runs" / f"{data.name}-vae_gan"
    judged_by = digits_translate.judges(data, chosen.work / "runs" / f"{data.name}-translate", steps)
    numbers = (chosen.samples, chosen.temperature)
    found: dict[str, Any] = {"quality": {}}
    for name, folder in folders.items():
        model = load_model(folder)
        asked = {"model": model.fingerprint, "samples": chosen.samples, "temperature": chosen.temperature}
        found["quality"][name] = _stages.kept(
            out / f"quality-{name}.json",
            asked,
            lambda model=model: quality(model, data, judged_by["image"], chosen.samples, 1.0),
        )
        if name != "vae_gan":
            continue
        found["across"] = _stages.kept(
            out / "across.json",
            {**asked, "count": chosen.count},
            lambda model=model: digits_translate.across(model, data, judged_by, *numbers, chosen.count),
        )
        found["joint"] = _stages.kept(
            out / "joint.json", asked, lambda model=model: agreement(model, judged_by, *numbers)
        )
        found["joint_by_word"] = _stages.kept(
            out / "joint-by-word.json", asked, lambda model=model: agreement(model, judged_by, *numbers, "text")
        )
    return found


def nearest(found: dict[str, Any]) -> str:
    """Returns the VAE without an adversary whose reconstruction is nearest to the VAE-GAN's."""
    error = found["quality"]["vae_gan"]["squared_error"]
    others = {name: each["squared_error"] for name, each in found["quality"].items() if name != "vae_gan"}
    return min(others, key=lambda name: abs(np.log(others[name] / error)))


def figures(found: dict[str, Any]) -> dict[str, tuple[float, str, str]]:
    """Returns name -> value, unit and what was asked."""
    result: dict[str, tuple[float, str, str]] = {}
    for way, each in found["across"].items():
        asked = f"≥ {ACROSS[way]:g}" if way in ACROSS else "-"
        result[f"digits.{way.replace('>', '_to_')}"] = (100 * each["coherence"], "%", asked)
    result["digits.joint"] = (100 * found["joint"]["joint_coherence"], "%", f"≥ {JOINT:g}")
    result["digits.joint_by_word"] = (100 * found["joint_by_word"]["joint_coherence"], "%", "-")
    plain = nearest(found)
    for name, each in (("vae_gan", found["quality"]["vae_gan"]), ("plain_vae", found["quality"][plain])):
        for what, value in each.items():
            share = what.endswith(("sharpness", "still_the_digit"))
            asked = "-"
            if name == "vae_gan" and what.endswith("sharpness"):
                asked = f"above {100 * found['quality'][plain][what]:.1f} (plain VAE)"
            if name == "vae_gan" and what.endswith("frechet"):
                asked = f"below {found['quality'][plain][what]:.3g} (plain VAE)"
            result[f"digits.{name}.{what}"] = (100 * value if share else value, "%" if share else "", asked)
    return {name: (round(value, 4), unit, asked) for name, (value, unit, asked) in result.items()}


def kept(values: dict[str, tuple[float, str, str]], flags: str) -> None:
    """Writes the figures into docs/figures.json."""
    sys.path.append(str(_steps.ROOT / "tools"))
    import figures as recorded

    for name, (value, unit, asked) in values.items():
        recorded.record(f"vae_gan.{name}", value, unit, asked, f"python3 benchmarks/vae_gan.py {flags}")


def main() -> None:
    """Prepares, trains, measures and prints."""
    chosen = _steps.options(
        (__doc__ or "").splitlines()[0],
        minutes={"type": float, "default": 32.0, "help": "of training the VAE-GAN (default: %(default)s)"},
        plain_minutes={"type": float, "default": 9.0, "help": "of each VAE without adversary (default: %(default)s)"},
        samples={"type": int, "default": 1000, "help": "made in each direction (default: %(default)s)"},
        temperature={"type": float, "default": 0.8, "help": "of drawing what coherence is of (default: %(default)s)"},
        count={"type": int, "default": 1, "help": "draws, of which the model takes the best (default: %(default)s)"},
        quick={"action": "store_true", "help": "a few seconds for each stage"},
    )
    steps = {"image": 2500, "audio": 2500}
    if chosen.quick:
        chosen.minutes, chosen.plain_minutes, chosen.samples, steps = 0.1, 0.1, 20, {"image": 20, "audio": 20}
    data = digits_translate.prepare(chosen.shared, chosen.work, *((100, 0) if chosen.quick else ()))
    if chosen.prepare_only:
        print(data)
        return
    out = chosen.work / "runs" / f"{data.name}-vae_gan"
    folders = {"vae_gan": model_of("vae_gan", data, out, chosen.minutes)}
    for name, weight in PLAIN.items():
        changes = ("adversary=0", "recall=0", f"style_kl={weight:g}")
        folders[name] = model_of(name, data, out, chosen.plain_minutes, changes)
    found = measured(folders, data, chosen, steps)
    values = figures(found)
    for name, (value, unit, asked) in values.items():
        print(f"{name:44} {value:9.3f} {unit:2} asked {asked}", file=sys.stderr)
    print(f"published, between MNIST and SVHN: 88 and 67 % across, {JOINT:g} % joint", file=sys.stderr)
    print(json.dumps({"figures": {name: value for name, (value, _, _) in values.items()}, "results": found}))
    if chosen.record and not chosen.quick:
        kept(
            values, f"--minutes {chosen.minutes:g} --temperature {chosen.temperature:g} --count {chosen.count} --record"
        )


if __name__ == "__main__":
    main()
