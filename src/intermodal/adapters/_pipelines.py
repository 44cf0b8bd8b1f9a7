"""Folders of published pipelines, read by the library ``diffusers``: what they name, and each of their parts strictly.

    model_index.json     the class of the pipeline, and the library and class of each part
    unet/ vae/ ...       a part each: a network with config.json and weights, a tokenizer, a scheduler ...

The library itself only warns of weights that are missing or left over, and runs code that lies in a folder where it is
told to. Here every part is made by one of the libraries' own classes, and every weight meets one of its network.
"""

import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from intermodal.adapters import _tokens, _transformers
from intermodal.adapters._files import check_pickled, indexed, read_object
from intermodal.errors import InvalidCheckpoint, MissingExtra
from intermodal.fetching import PIPELINE

EXTRA = "diffusers"
STEMS = ("diffusion_pytorch_model", "model")
"""How the names of files with weights begin: those of the one library and those of the other."""

VARIANTS = ("", "fp16")
"""Forms of the weights, by what stands before the suffix; one that is there is taken before those that follow it."""

RENAMED = {"CLIPFeatureExtractor": "CLIPImageProcessor", "GPT2Model": "GPT2LMHeadModel"}
"""Classes that older folders name -> those that stand for them now; AudioLDM 2 has the language model."""

PAD = 1_000_000_000  # ids, where nothing says how many a network knows

_LOG = logging.getLogger(__name__)


def library() -> Any:
    """Returns the library.

    Raises:
        MissingExtra: it is not installed, or the one that reads its texts is not.
    """
    try:
        importlib.import_module("transformers")
        return importlib.import_module("diffusers")
    except ImportError as error:
        raise MissingExtra("diffusers", EXTRA, "reading a published pipeline") from error


# ---- What a folder holds


def parts(folder: Path) -> dict[str, tuple[str, str]]:
    """Returns the library and the class of each part that the index of a folder names.

    Raises:
        InvalidCheckpoint: the index cannot be read.
    """
    named = {k: v for k, v in read_object(folder / PIPELINE).items() if isinstance(v, list) and not k.startswith("_")}
    found = {}
    for name, value in named.items():
        if len(value) != 2 or not (value == [None, None] or all(isinstance(part, str) for part in value)):
            raise InvalidCheckpoint(f"{folder / PIPELINE} says {value!r} of {name!r}; a library and a class are needed")
        if value[0] is not None:
            found[name] = (value[0], value[1])
    return found


def weights(place: Path) -> tuple[str, list[Path]]:
    """Returns the form of the weights of one part, empty for the plain one, and the files with them.

    Raises:
        InvalidCheckpoint: there are none, or not all.
    """
    for variant in VARIANTS:
        dot = f".{variant}" if variant else ""
        for stem in STEMS:
            one, index = place / f"{stem}{dot}.safetensors", place / f"{stem}.safetensors.index{dot}.json"
            if one.exists():
                return variant, [one]
            if index.exists():
                return variant, indexed(index)
    check_pickled(place)
    raise InvalidCheckpoint(f"{place} holds no weights as safetensors; download them too")


def _networks(folder: Path) -> list[str]:
    """Returns the parts that have weights: those with a ``config.json``; other parts call their settings otherwise."""
    return [name for name in parts(folder) if (folder / name / "config.json").exists()]


def lacking(folder: Path) -> list[str]:
    """Returns the parts whose folder, or whose weights, are not there."""
    absent = [name for name in parts(folder) if not (folder / name).is_dir()]
    for name in _networks(folder):
        try:
            weights(folder / name)
        except InvalidCheckpoint:
            absent.append(f"{name}/*.safetensors")
    return absent


def wanted(folder: Path) -> Iterator[list[str]]:
    """Yields patterns of files to fetch for the networks that still lack weights: plain ones, then half as large ones.

    Other forms, and weights that lie beside the parts, are copies of the same and are not fetched.
    """
    for variant in VARIANTS:
        dot = f".{variant}" if variant else ""
        absent = [name.partition("/")[0] for name in lacking(folder) if "/" in name]
        yield [
            f"{name}/{stem}{end}.safetensors"
            for name in absent
            for stem in STEMS
            for end in (dot, f"{dot}-?????-of-?????")
        ]


def files(folder: Path) -> list[Path]:
    """Returns the files that make a pipeline what it is."""
    found = [folder / PIPELINE]
    for name in parts(folder):
        found += [p for p in (folder / name).iterdir() if p.suffix in _transformers.READ and p.suffix != ".safetensors"]
    return [*found, *(path for name in _networks(folder) for path in weights(folder / name)[1])]


# ---- Reading it


@contextmanager
def quiet(folder: Path, what: str) -> Iterator[None]:
    """Returns a context in which both libraries write no report, and their errors become one sentence.

    Raises:
        InvalidCheckpoint: they raised whatever they raise.
    """
    log = library().utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(60)
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings(), _transformers.quiet(folder, what):
            warnings.simplefilter("ignore")  # of what is to change in them
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def load(folder: Path, kind: str) -> Any:
    """Returns the pipeline in ``folder``, all of its networks in fp32 and eval mode.

    Args:
        folder: a published one.
        kind: the library's class, such as ``StableDiffusionPipeline``.

    Raises:
        MissingExtra: the library is not installed.
        InvalidCheckpoint: a part is missing, is not known, cannot be read or is not whole; lists every weight.
    """
    with quiet(folder, f"the pipeline {kind}"):
        made = getattr(library(), kind, None)
    if not isinstance(made, type) or hasattr(made, "_backends"):
        raise InvalidCheckpoint(_unknown(folder, "the pipeline", kind, made))
    named = parts(folder)
    expected, _ = made._get_signature_keys(made)  # type: ignore[attr-defined]
    spare = set(made._optional_components)  # type: ignore[attr-defined]
    odd = [f"has no part {name!r}" for name in sorted(set(expected) - set(named) - spare)]
    odd += [f"has a part {name!r} that it does not know" for name in sorted(set(named) - set(expected))]
    odd += [f"lacks the folder {name!r}" for name in sorted(named) if not (folder / name).is_dir()]
    if odd:
        raise InvalidCheckpoint(f"{folder} is no whole {kind}: it {'; it '.join(odd)}; give a whole, published folder")
    classes = {name: _class(folder, name, *where) for name, where in named.items()}
    networks = {name: _network(folder / name, one) for name, one in classes.items() if issubclass(one, torch.nn.Module)}
    others = {name: _other(folder / name, one, networks) for name, one in classes.items() if name not in networks}
    with quiet(folder, PIPELINE):
        return made.from_pretrained(  # type: ignore[attr-defined]
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False, **networks, **others
        )


def _class(folder: Path, name: str, where: str, kind: str) -> Any:
    """Returns the class of a part, one of the libraries' own.

    Raises:
        InvalidCheckpoint: it is none, or needs a package that is not installed.
    """
    made, texts = library(), _transformers.library()
    kind, found = RENAMED.get(kind, kind), None
    with quiet(folder, f"the part {name!r}"):
        if where in ("diffusers", "transformers"):
            found = getattr(made if where == "diffusers" else texts, kind, None)
        elif where.isidentifier() and not where.startswith("_"):
            found = getattr(getattr(made.pipelines, where, None), kind, None)  # parts that one pipeline alone has
    known = (
        made.ModelMixin,
        made.SchedulerMixin,
        texts.PreTrainedModel,
        texts.PreTrainedTokenizerBase,
        texts.FeatureExtractionMixin,
        texts.image_processing_base.ImageProcessingMixin,
    )
    if not isinstance(found, type) or not issubclass(found, known):
        raise InvalidCheckpoint(_unknown(folder, f"the part {name!r}", f"{where}.{kind}", found))
    return found


def _unknown(folder: Path, what: str, kind: str, found: Any) -> str:
    """Returns why a class cannot be taken."""
    needs = [package for package in getattr(found, "_backends", ()) if package not in ("torch", "transformers")]
    if needs:
        return f"{folder} names {kind} as {what}, which needs other packages: run  pip install {' '.join(needs)}"
    return f"{folder} names {kind} as {what}, which the libraries here do not have; code in a folder is never run"


def _network(place: Path, made: Any) -> Any:
    """Returns one network, in fp32 and eval mode, read strictly."""
    if read_object(place / "config.json").get("quantization_config"):
        raise InvalidCheckpoint(f"{place} holds quantised weights; save whole weights in fp32, fp16 or bf16 first")
    variant, found = weights(place)
    if not issubclass(made, library().ModelMixin):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _transformers.load(place, made, files=found, variant=variant)
    with quiet(place, "the network"):
        network, told = made.from_pretrained(
            place,
            local_files_only=True,
            use_safetensors=True,
            variant=variant or None,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, with all else
        )
    return _transformers.fitting(place, network, told, found)


def _other(place: Path, made: Any, networks: Mapping[str, Any]) -> Any:
    """Returns a part without weights: a tokenizer, whose ids the network beside it has to know, a scheduler ..."""
    if issubclass(made, _transformers.library().PreTrainedTokenizerBase):
        config = getattr(networks.get(place.name.replace("tokenizer", "text_encoder")), "config", None)
        forms = {**made.vocab_files_names, "tokenizer_file": "tokenizer.json"}
        whole = (place / forms.pop("tokenizer_file")).exists()
        absent = [name for name in forms.values() if not (place / name).exists()]
        if not whole and (absent or not forms):
            raise InvalidCheckpoint(f"{place} lacks {' and '.join(absent) or 'tokenizer.json'}; download them too")
        rows = [getattr(each, "vocab_size", None) for each in (config, getattr(config, "text_config", None))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _tokens.load(place, made.__name__, next((n for n in rows if isinstance(n, int)), PAD)).made
    with quiet(place, "the part"):
        return made.from_pretrained(place, local_files_only=True)


# ---- Running it


class _Told(logging.Handler):
    """Passes on what the library warns of, each once: words that it cut, pictures that it blackened."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.WARNING)
        self._name, self._said = name, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        said = " ".join(record.getMessage().split())[:400]
        if said not in self._said:
            self._said.add(said)
            _LOG.warning("%s: %s", self._name, said)


@contextmanager
def telling(name: str) -> Iterator[None]:
    """Returns a context in which what the library warns of goes to the log of this package, beside ``name``."""
    library().utils.logging.get_verbosity()  # which sets its log up
    log, theirs = logging.getLogger("diffusers"), _transformers.library().logging
    kept, other = (log.level, log.propagate, log.handlers), theirs.get_verbosity()
    log.level, log.propagate, log.handlers = logging.WARNING, False, [_Told(name)]
    theirs.set_verbosity(logging.ERROR)  # of tokens, which the other library tells better
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is to change in other libraries
            yield
    finally:
        log.level, log.propagate, log.handlers = kept
        theirs.set_verbosity(other)
