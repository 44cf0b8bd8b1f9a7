"""What lies beside a network of somebody else's runtime: how its items are prepared, as published folders write it.

``preprocessor_config.json`` for pictures and ``tokenizer.json`` for texts, in the layout of the Hugging Face libraries,
so that a user needs nothing of this package. Both are written only where they say the same, or where the difference
can be said: our fastest way of fitting a picture has no name in that layout.
"""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from intermodal import config
from intermodal.adapters import _tokens, _transformers
from intermodal.adapters.clip import RESIZES
from intermodal.errors import InvalidCheckpoint, MissingExtra
from intermodal.modalities.image import ImagePreprocessor
from intermodal.modalities.text import Text, TextPreprocessor
from intermodal.tokenizers import Tokenizer, bpe, byte, word, wordpiece
from intermodal.types import Item, Preprocessor

PICTURES, WORDS, WORD_SETTINGS = "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"
WHERE = (PICTURES, WORDS, WORD_SETTINGS, "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
"""Files that may be written beside a network, besides its README."""

LETTER, NUMBER = r"\p{L}", r"\p{N}"
SIGN = rf"[{LETTER}{NUMBER}_]"
"""What Python takes for a sign of a word, in the words of the other library."""


def load(file: Path, inputs: Mapping[str, Sequence[Any]], record: str = "{}") -> Any:
    """Returns how items are prepared for a network with these inputs.

    Args:
        file: of the network.
        inputs: their names and shapes.
        record: in the file's metadata, as JSON.

    Raises:
        InvalidCheckpoint: it reads neither pictures nor texts, or nothing says how they are prepared.
    """
    try:
        told = json.loads(record)
        texts = {name: told["texts"][name] for name in ("tokens_max", "whole", "lower")} if "texts" in told else {}
        if "preprocessor" in told:
            return config.from_dict(Preprocessor, told["preprocessor"], "preprocessor")
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidCheckpoint(f"{file} holds a damaged record of how items are prepared: {error}") from error
    shapes = list(inputs.values())
    if "input_ids" in inputs and set(inputs) <= {"input_ids", "attention_mask", "token_type_ids"}:
        tokens = _tokens.load(file.parent, "PreTrainedTokenizerFast", 2**31)
        return _tokens.Texts(tokens, **{"tokens_max": 512, **texts})
    if len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] == 3:
        if not (file.parent / "preprocessor_config.json").exists():
            raise InvalidCheckpoint(
                f"nothing beside {file} says how pictures are prepared; put the preprocessor_config.json of its model "
                "there"
            )
        side = shapes[0][2] if isinstance(shapes[0][2], int) else 224
        return _transformers.pictures(file.parent, side)
    raise InvalidCheckpoint(
        f"{file} has the inputs {', '.join(f'{name} {list(shape)}' for name, shape in inputs.items())}; read are "
        "pictures (N, 3, H, W), and texts by input_ids and attention_mask: give any other as a Python function"
    )


# ---- All of it


def record(preprocessor: Any) -> dict[str, Any]:
    """Returns how items are prepared, for a file's own record; nothing where numbers and words cannot tell it."""
    if isinstance(preprocessor, _tokens.Texts):
        own = {"tokens_max": preprocessor.tokens_max, "whole": preprocessor.whole, "lower": preprocessor.lower}
        return {"texts": own}
    told = config.to_dict(preprocessor)
    return {"preprocessor": told} if isinstance(told, dict) and "kind" in told else {}


def write(
    folder: Path,
    preprocessor: Any,
    tried: Sequence[Item],
    wanted: Float[Tensor, "N D"],
    vectors: Callable[[Tensor], Float[Tensor, "N D"]],
) -> dict[str, Any]:
    """Writes what prepares items into a folder, and returns what is there and how near it comes.

    Args:
        folder: of the network.
        preprocessor: of the model.
        tried: items.
        wanted: the model's vectors of them.
        vectors: what the network makes of prepared pictures.
    """
    if preprocessor.modality == "text":
        return {"tokenizer": write_tokenizer(folder, preprocessor, tried)}  # type: ignore[arg-type]
    if not isinstance(preprocessor, ImagePreprocessor) or (settings := pictures(preprocessor)) is None:
        return {}
    (folder / PICTURES).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    if is_exact(preprocessor):
        return {"settings_cosine": 1.0}
    read = _transformers.pictures(folder, preprocessor.height)(tried)  # type: ignore[arg-type]
    return {"settings_cosine": float(F.cosine_similarity(vectors(read.values), wanted).min())}


# ---- Pictures and texts


Described = tuple[str, str, str, Mapping[str, Any]]
"""Names of begin, end and padding, and the steps: normalizer, pre_tokenizer, model."""


def pictures(preprocessor: ImagePreprocessor) -> dict[str, Any] | None:
    """Returns the published settings that come closest to how pictures are prepared; None where none do."""
    high, wide = preprocessor.height, preprocessor.width
    if high != wide:
        return None
    squeezed = preprocessor.fit == "squeeze"
    square = {"height": high, "width": wide}
    return {
        "image_processor_type": "ViTImageProcessor" if squeezed else "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": square if squeezed else {"shortest_edge": high},
        "resample": next(number for number, name in RESIZES.items() if name == preprocessor.resize),
        "do_center_crop": not squeezed,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessor.mean),
        "image_std": list(preprocessor.std),
    }


def is_exact(preprocessor: ImagePreprocessor) -> bool:
    """Returns whether ``pictures`` says all there is to say."""
    return preprocessor.resize_by == "pillow" and preprocessor.fit != "crop_first"


def write_tokenizer(folder: Path, preprocessor: Any, texts: Sequence[Text]) -> bool:
    """Writes ``tokenizer.json`` and its settings, and returns whether there is such a file.

    There is none where the tokenizer has no form in that layout, or gives other ids for one of ``texts``.

    Args:
        folder: for the files.
        preprocessor: of texts.
        texts: to compare the two on.

    Raises:
        MissingExtra: the library that reads such files is not installed.
    """
    if isinstance(preprocessor, _tokens.Texts):
        preprocessor.tokenizer.made.save_pretrained(folder)
        return (folder / WORDS).exists()
    if not isinstance(preprocessor, TextPreprocessor) or (made := described(preprocessor)) is None:
        return False
    tokenizer = preprocessor.tokenizer
    pad = made["padding"]["pad_token"]
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": preprocessor.tokens_max}
    settings |= {"pad_token": pad, "model_input_names": ["input_ids", "attention_mask"]}
    (folder / WORDS).write_text(json.dumps(made, ensure_ascii=False) + "\n", "utf-8")
    (folder / WORD_SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    try:
        library = importlib.import_module("tokenizers")
    except ImportError as error:
        raise MissingExtra("tokenizers", "onnx", "writing tokenizer.json") from error
    read = library.Tokenizer.from_file(str(folder / WORDS))
    wanted = [preprocessor([text]).values[0].tolist() for text in texts]
    if [read.encode(text.text).ids for text in texts] != wanted or read.get_vocab_size() != tokenizer.vocab_size:
        (folder / WORDS).unlink()
        (folder / WORD_SETTINGS).unlink()
        return False
    return True


def described(preprocessor: TextPreprocessor) -> dict[str, Any] | None:
    """Returns what ``tokenizer.json`` says of one of our tokenizers; None where it has no form there."""
    tokenizer: Any = preprocessor.tokenizer
    makers: dict[type, Callable[[Any], Described]] = {
        word.WordTokenizer: _words,
        wordpiece.WordPieceTokenizer: _pieces,
        bpe.BPETokenizer: _pairs,
        byte.ByteTokenizer: _bytes,
    }
    make = makers.get(type(tokenizer))
    if make is None:
        return None
    begin, end, pad, parts = make(tokenizer)
    around = [(begin, tokenizer.begin_id), (end, tokenizer.end_id)]
    specials = {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in around}
    one = [{"SpecialToken": {"id": begin, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    one.append({"SpecialToken": {"id": end, "type_id": 0}})
    template = {"type": "TemplateProcessing", "single": one, "pair": one, "special_tokens": specials}
    cut = {"direction": "Right", "max_length": preprocessor.tokens_max, "strategy": "LongestFirst", "stride": 0}
    filled = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_type_id": 0}
    filled |= {"pad_id": tokenizer.pad_id, "pad_token": pad}
    head = {"version": "1.0", "truncation": cut, "padding": filled, "added_tokens": []}
    return {**head, **parts, "post_processor": template, "decoder": None}


def _split(pattern: str) -> dict[str, Any]:
    """Returns the step that keeps what a pattern finds, and nothing else."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}


def _words(tokenizer: word.WordTokenizer) -> Described:
    pad, begin, end, unknown = word.SPECIALS
    ids = {name: i for i, name in enumerate((*word.SPECIALS, *tokenizer.words))}
    found = rf"{SIGN}+|'(?:s|t|re|ve|m|ll|d)(?!{SIGN})|[^{LETTER}{NUMBER}_\s]"
    model = {"type": "WordLevel", "vocab": ids, "unk_token": unknown}
    return begin, end, pad, {"normalizer": {"type": "Lowercase"}, "pre_tokenizer": _split(found), "model": model}


def _pieces(tokenizer: wordpiece.WordPieceTokenizer) -> Described:
    clean = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    clean |= {"strip_accents": None, "lowercase": True}
    model = {
        "type": "WordPiece",
        "unk_token": wordpiece.UNKNOWN,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": wordpiece.LONGEST,
        "vocab": {piece: i for i, piece in enumerate(tokenizer.pieces)},
    }
    parts = {"normalizer": clean, "pre_tokenizer": {"type": "BertPreTokenizer"}, "model": model}
    return wordpiece.BEGIN, wordpiece.END, wordpiece.PAD, parts


def _pairs(tokenizer: bpe.BPETokenizer) -> Described:
    clitic = "'(?:s|t|re|ve|m|ll|d)"
    if tokenizer.word_end:
        found = rf"{clitic}|[{LETTER}]+|[{NUMBER}]|[^\s{LETTER}{NUMBER}]+"
    else:
        other = rf"[^\s{LETTER}{NUMBER}]"
        found = rf"{clitic}| ?[{LETTER}]+| ?[{NUMBER}]+| ?{other}+|\s+(?!\S)|\s+"
    blank = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    clean = {"type": "Sequence", "normalizers": [{"type": "NFC"}, blank, strip, {"type": "Lowercase"}]}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": tokenizer.word_end or None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": {symbol: i for i, symbol in enumerate(tokenizer.vocabulary)},
        "merges": [merge.split(" ") for merge in tokenizer.merges],
    }
    steps = {"type": "Sequence", "pretokenizers": [_split(found), _BYTES]}
    parts = {"normalizer": clean if tokenizer.lower else None, "pre_tokenizer": steps, "model": model}
    return tokenizer.begin, tokenizer.end, tokenizer.pad, parts


_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def _bytes(tokenizer: Tokenizer) -> Described:
    names = ("<pad>", "<begin>", "<end>")
    ids = {name: i for i, name in enumerate((*names, *bpe.byte_symbols()))}
    each = {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": False}
    steps = {"type": "Sequence", "pretokenizers": [_BYTES, each]}
    model = {"type": "WordLevel", "vocab": ids, "unk_token": names[0]}
    return names[1], names[2], names[0], {"normalizer": None, "pre_tokenizer": steps, "model": model}
