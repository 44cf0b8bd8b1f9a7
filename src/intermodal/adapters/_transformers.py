"""Published folders read by the library ``transformers``: networks strictly, and how pictures and sounds get into them.

What all adapters over that library share. Nothing is fetched: a folder holds all that is needed. Code that comes with
a folder is never run, pickled weights are never opened, and every weight of the file meets one of the network.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from torch import nn

from intermodal.adapters._files import read_object, weight_files
from intermodal.adapters.clip import PICTURES, RESIZES, fit_of, picture_settings
from intermodal.errors import IntermodalError, InvalidCheckpoint, InvalidValue, MissingExtra, Unsupported
from intermodal.modalities.audio import Audio
from intermodal.modalities.image import ImagePreprocessor
from intermodal.saving import fingerprint

EXTRA = "models"
READ = (".json", ".jinja", ".txt", ".model", ".safetensors")
"""Suffixes of the files that make a published model what it is."""

SQUEEZED = {**PICTURES, "do_center_crop": False, "size": {"height": 224, "width": 224}}
"""How pictures are prepared where a whole picture is resized to a square and the file does not say how."""


def library() -> Any:
    """Returns the library.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtra("transformers", EXTRA, "reading this kind of published weights") from error


@contextmanager
def quiet(folder: Path, what: str) -> Iterator[None]:
    """Returns a context in which the library writes no report, and its errors become one sentence.

    Args:
        folder: that is read.
        what: is read of it, in words.

    Raises:
        InvalidCheckpoint: the library raised whatever it raises.
    """
    log = library().logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(60)
    log.disable_progress_bar()
    try:
        yield
    except IntermodalError:
        raise
    except Exception as error:  # the library documents none of what it raises over damaged files
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InvalidCheckpoint(
            f"{what} in {folder} cannot be read: {reason}; give a whole, published folder"
        ) from error
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


# ---- Networks


def load(
    folder: Path, kind: str | type, spare: Sequence[str] = (), files: Sequence[Path] = (), variant: str = ""
) -> Any:
    """Returns the network in ``folder``, in fp32 and eval mode; its ``config`` holds the settings.

    Args:
        folder: a published one.
        kind: the library's class or its name, such as ``SiglipModel``.
        spare: weights that nothing here reads, so that a file need not hold them.
        files: with the weights; default: those of the usual name.
        variant: what stands before the suffix in the names of the files, such as "fp16".

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: the files cannot be read, or the weights do not fit the settings; lists every key.
    """
    settings = read_object(folder / "config.json")
    if settings.get("quantization_config") or (folder / "adapter_config.json").exists():
        raise InvalidCheckpoint(
            f"{folder} holds quantised weights or an adapter of others; save whole weights in fp32, fp16 or bf16 first"
        )
    files = files or weight_files(folder)
    made: Any = getattr(library(), kind) if isinstance(kind, str) else kind
    with quiet(folder, "the model"):
        network, found = made.from_pretrained(
            folder,
            config=made.config_class.from_pretrained(folder, local_files_only=True),
            local_files_only=True,
            use_safetensors=True,
            variant=variant or None,
            trust_remote_code=False,
            dtype=torch.float32,
            attn_implementation="sdpa" if made._supports_sdpa else "eager",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, with all else
        )
    return fitting(folder, network, found, files, spare)


def fitting(
    folder: Path, network: Any, found: Mapping[str, Any], files: Sequence[Path], spare: Sequence[str] = ()
) -> Any:
    """Returns a network that was read, in eval mode and without gradients.

    Args:
        folder: it comes from.
        network: as the library read it.
        found: what the library tells of the keys.
        files: with its weights.
        spare: weights that may be missing.

    Raises:
        InvalidCheckpoint: the weights do not fit the settings; lists every key.
    """
    problems = [f"missing {name}" for name in sorted(found["missing_keys"]) if name not in spare]
    problems += [f"unexpected {name}" for name in sorted(found["unexpected_keys"]) if not _is_table(files, name)]
    problems += [f"{name} is {tuple(a)}, not {tuple(b)}" for name, a, b in sorted(found["mismatched_keys"])]
    if problems:
        raise InvalidCheckpoint(f"the weights in {folder} do not fit its config.json: {'; '.join(problems)}")
    network.requires_grad_(False)
    return network.eval()


def _is_table(files: Sequence[Path], name: str) -> bool:
    """Returns whether a tensor holds whole numbers: places and the like, which older folders keep and nothing reads."""
    for path in files:
        try:
            with safe_open(path, "pt") as file:
                if name in file.keys():  # noqa: SIM118 - it is no mapping
                    return str(file.get_slice(name).get_dtype()) in ("I64", "I32", "BOOL", "U8")
        except SafetensorError as error:
            raise InvalidCheckpoint(f"{path} cannot be read: {error}") from error
    return False


class Published(nn.Module):
    """What every published model here is: a network of the library, and how items get into it."""

    def __init__(
        self, folder: Path, network: nn.Module, preprocessors: Mapping[str, Any], files: Sequence[Path] = ()
    ) -> None:
        """Assembles built parts.

        Args:
            folder: they come from.
            network: of the library.
            preprocessors: field -> what reads its items.
            files: that tell this model from others; default: those of the folder.
        """
        super().__init__()
        self.network: Any = network
        self.preprocessors = dict(preprocessors)
        self.fingerprint = fingerprint(sorted(files or (p for p in folder.iterdir() if p.suffix in READ)))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device  # type: ignore[no-any-return]

    def check(self, items: Sequence[Any], to: str, source: str | None) -> None:
        """Checks a request to translate.

        Raises:
            Unsupported: it has no such direction, or an item is of another modality.
        """
        known: Sequence[tuple[str, str]] = getattr(self, "directions", ())
        told = ", ".join(f"{a} to {b}" for a, b in known) or "nothing"
        if not any(b == to and source in (None, a) for a, b in known):
            raise Unsupported(f"this model does not translate {source or 'anything'} to {to}; it translates {told}")
        read = {self.preprocessors[a].modality for a, b in known if b == to and source in (None, a)}
        for item in items:
            if item.modality not in read:
                raise Unsupported(f"this model does not translate {item.modality} to {to}; it translates {told}")


# ---- What is drawn


def writing(sampling: Any, count: int) -> dict[str, Any]:
    """Returns how the library writes ids: greedily, by beams, or drawn; empty for the folder's own way.

    Args:
        sampling: ``sampling.autoregressive.Sampling``, or None.
        count: candidates kept beside each other (beams); the best one is taken.
    """
    if sampling is None:
        return {"num_beams": count} if count > 1 else {}
    if sampling.temperature == 0:
        return {"do_sample": False, "num_beams": count}
    drawn = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
    return {"do_sample": True, "num_beams": count, **drawn}


@contextmanager
def drawing(sampling: Any) -> Iterator[None]:
    """Returns a context in which what torch draws depends on the seed alone; its own state is as before afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(sampling.seed if sampling else 0)
        yield


# ---- Pictures and sounds


def pictures(folder: Path, side: int, known: Mapping[str, Any] = SQUEEZED) -> ImagePreprocessor:
    """Returns how pictures are prepared, byte for byte as the library does it with Pillow.

    The whole picture is one token of it: the network cuts it by itself, and what does not divide is left over there.

    Args:
        folder: a published one.
        side: of the square that the network reads.
        known: what holds where the file does not say.

    Raises:
        InvalidCheckpoint: the file cannot be read, or has a step that is not followed; names it.
    """
    found = picture_settings(folder, known)
    mean, std = tuple(found["image_mean"]), tuple(found["image_std"])
    fit, resize = fit_of(found, side), RESIZES[found["resample"]]
    try:
        return ImagePreprocessor(side, side, side, mean, std, fit, resize, "pillow")
    except InvalidValue as error:
        raise InvalidCheckpoint(f"{folder} prepares pictures in a way that is not followed: {error}") from error


def preparation(folder: Path, known: Sequence[str]) -> Any:
    """Returns the library's own preparation of pictures, for those that ``pictures`` does not follow.

    Args:
        folder: a published one.
        known: its classes that are followed.

    Raises:
        InvalidCheckpoint: its file is missing or damaged, or names another class.
    """
    with quiet(folder, "how pictures are prepared"):
        made = library().AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, backend="pil"
        )
    if type(made).__name__ not in known:
        raise InvalidCheckpoint(f"{folder} prepares pictures by {type(made).__name__}; followed are {', '.join(known)}")
    return made


def extractor(folder: Path, kind: str) -> Any:
    """Returns the library's preparation of sounds, of the class ``kind``, with the numbers of the folder.

    Raises:
        InvalidCheckpoint: its file is missing or damaged.
    """
    with quiet(folder, "preprocessor_config.json"):
        return getattr(library(), kind).from_pretrained(folder, local_files_only=True)


def windows(samples: Float32[np.ndarray, " S"], rate: int, longest_s: float) -> list[tuple[int, int]]:
    """Returns where to cut a sound into parts: where it is quietest in the last fifth of what a part may have.

    Args:
        samples: of one channel.
        rate: of them, per second.
        longest_s: seconds that a part has at most.
    """
    longest, frame = round(longest_s * rate), max(1, rate // 50)
    parts, start = [], 0
    while len(samples) - start > longest:
        first = start + longest - longest // 5
        count = max(1, (start + longest - first) // frame)
        power = np.square(samples[first : first + count * frame], dtype=np.float64).reshape(count, -1).mean(axis=1)
        cut = first + int(power.argmin()) * frame + frame // 2
        parts.append((start, cut))
        start = cut
    return [*parts, (start, len(samples))]


def waveform(item: Any, sample_rate_hz: int) -> Any:
    """Returns the samples ``(S,)`` of a sound, mixed to one channel at a rate.

    Raises:
        InvalidValue: it is no sound.
    """
    if not isinstance(item, Audio):
        raise InvalidValue(f"a sound was expected, not {type(item).__name__}")
    return item.mixed(1).resampled(sample_rate_hz).samples[0]
