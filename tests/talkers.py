"""Small published chat models that see, with random weights, and what the library itself says with them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image as Pillow

import intermodal as im
from intermodal.media.source import printable
from intermodal.sampling.autoregressive import Sampling
from intermodal.types import Item, Reply, Turn
from tests import published

SIDE, LONGEST = 32, 10
TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT |= {"num_key_value_heads": 1, "max_position_embeddings": 700}
SEEN = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SEEN |= {"image_size": SIDE, "patch_size": 8}

SMOL = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}:{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
LLAVA = (
    "{% for message in messages %}{{ message['role'] | upper }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% endif %}{% endfor %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
QWEN = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(specials: Sequence[str], end: str, template: str, begin: str | None = None) -> Any:
    """Returns a tokenizer of bytes; ``begin`` stands before each text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(specials))
    if begin:
        made.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, made.token_to_id(begin))]
        )
    found = published.library().PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=end, pad_token=specials[0], bos_token=begin
    )
    found.chat_template = template
    return found


def finished(folder: Path, network: Any, words: Any, pictures: Any) -> Any:
    """Writes a folder and returns the network in it."""
    network = published.shaken(network, 0.3)
    network.generation_config.max_new_tokens = LONGEST
    network.generation_config.eos_token_id = words.eos_token_id
    network.generation_config.pad_token_id = words.pad_token_id
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    pictures.save_pretrained(folder)
    return network


def llava(folder: Path) -> Any:
    """Writes a LLaVA folder and returns the network in it."""
    library = published.library()
    words = tokenizer(("<pad>", "<s>", "</s>", "<image>"), "</s>", LLAVA, "<s>")
    text = {"model_type": "llama", **TEXT, "vocab_size": len(words)}
    config = library.LlavaConfig(
        text_config=text,
        vision_config={"model_type": "clip_vision_model", **SEEN},
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    made = library.models.clip.image_processing_pil_clip.CLIPImageProcessorPil
    pictures = made(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return finished(folder, library.LlavaForConditionalGeneration(config), words, pictures)


def idefics3(folder: Path, smol: bool = False) -> Any:
    """Writes an Idefics3 folder, or one of SmolVLM, and returns the network in it."""
    library = published.library()
    places = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    specials = ("<pad>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>")
    words = tokenizer((*specials, *places), "<end_of_utterance>", SMOL)
    name = "SmolVLM" if smol else "Idefics3"
    config = getattr(library, f"{name}Config")(
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(words), "pad_token_id": words.pad_token_id},
        vision_config=dict(SEEN),
        scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=words.pad_token_id,
    )
    torch.manual_seed(0)
    place = getattr(library.models, name.lower())
    prepare = getattr(getattr(place, f"image_processing_pil_{name.lower()}"), f"{name}ImageProcessorPil")
    pictures = prepare(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})
    return finished(folder, getattr(library, f"{name}ForConditionalGeneration")(config), words, pictures)


def smolvlm(folder: Path) -> Any:
    """Writes a SmolVLM folder and returns the network in it."""
    return idefics3(folder, smol=True)


def qwen(folder: Path, newer: bool = False) -> Any:
    """Writes a Qwen2-VL folder, or one of Qwen2.5-VL, and returns the network in it."""
    library = published.library()
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
    words = tokenizer((*specials, "<|image_pad|>", "<|video_pad|>"), "<|im_end|>", QWEN)
    ids = {f"{name}_token_id": words.convert_tokens_to_ids(f"<|{mark}|>") for name, mark in (
        ("image", "image_pad"), ("video", "video_pad"), ("vision_start", "vision_start"), ("vision_end", "vision_end")
    )}  # fmt: skip
    seen: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2}
    seen |= {"temporal_patch_size": 2, "hidden_size": 16}
    if newer:
        seen |= {"out_hidden_size": 16, "intermediate_size": 24, "window_size": 16, "fullatt_block_indexes": [1]}
    else:
        seen |= {"embed_dim": 16, "mlp_ratio": 2}
    name = "Qwen2_5_VL" if newer else "Qwen2VL"
    config = getattr(library, f"{name}Config")(
        text_config={
            **TEXT,
            "vocab_size": len(words),
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10_000.0},
            "bos_token_id": None,
            "eos_token_id": words.eos_token_id,
        },
        vision_config=seen,
        tie_word_embeddings=newer,
        **ids,
    )
    torch.manual_seed(0)
    prepare = library.models.qwen2_vl.image_processing_pil_qwen2_vl.Qwen2VLImageProcessorPil
    size = {"shortest_edge": 256, "longest_edge": 2304}
    pictures = prepare(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)
    return finished(folder, getattr(library, f"{name}ForConditionalGeneration")(config), words, pictures)


def processor(folder: Path, name: str, **more: Any) -> Any:
    """Returns the library's own preparation of conversations, without that of clips, which needs torchvision."""
    library = published.library()
    made = getattr(library, name)
    kept = {"check_argument_for_proper_class": lambda *_: None, "__module__": made.__module__}
    lax = type(made.__name__, (made,), kept)
    words = library.AutoTokenizer.from_pretrained(folder)
    pictures = library.AutoImageProcessor.from_pretrained(folder, backend="pil")
    if "video_processor" in made.get_attributes():
        more["video_processor"] = SimpleNamespace(num_frames=1, fps=1)
    if name == "SmolVLMProcessor":
        sys.modules[made.__module__].num2words = str  # type: ignore[attr-defined]  # asked of clips alone
    return lax(pictures, words, chat_template=words.chat_template, **more)


def theirs(prepared: Any, network: Any, turns: Sequence[Turn], seed: int | None = None, **how: Any) -> str:
    """Returns what the library itself says next."""

    def part(item: Any) -> dict[str, str]:
        return {"type": "image"} if item.modality == "image" else {"type": "text", "text": item.text}

    messages = [{"role": turn.speaker, "content": [part(item) for item in turn.parts]} for turn in turns]
    items: list[Item] = [item for turn in turns for item in turn.parts if item.modality == "image"]
    pictures = [Pillow.fromarray(item.pixels) for item in items]  # type: ignore[attr-defined]
    prompt = prepared.apply_chat_template(messages, add_generation_prompt=True)
    given = prepared(images=pictures or None, text=prompt, return_tensors="pt")
    if seed is not None:
        torch.manual_seed(seed)
    with torch.no_grad():
        rows = network.generate(**given, **how)
    written = rows[0, given["input_ids"].shape[1] :]
    return printable(prepared.tokenizer.decode(written, skip_special_tokens=True)).strip()


def check_talks(ours: Any, prepared: Any, network: Any) -> tuple[list[Turn], Reply]:
    """Checks that a model says what the library's does, of one picture, of two over several turns, of words, and drawn.

    Returns the several turns, and the reply to them.
    """
    wide, high = im.Image(published.picture(30, 70)), im.Image(published.picture(50, 40, 1))
    asked = [Turn("user", (wide, im.Text("what is this?")))]
    first = ours.talk(asked)
    assert first.words == theirs(prepared, network, asked)
    assert first.words
    later = [*asked, Turn("assistant", (im.Text("a cat"),)), Turn("user", (im.Text("and"), high, im.Text("here?")))]
    second = ours.talk(later)
    assert second.words == theirs(prepared, network, later)
    assert second.read > first.read
    words = [Turn("system", (im.Text("be brief"),)), Turn("user", (im.Text("hello"),))]
    assert ours.talk(words).words == theirs(prepared, network, words)
    drawn = ours.talk(later, sampling=Sampling(1.3, 0, 0.9, seed=4)).words
    how = {"do_sample": True, "temperature": 1.3, "top_k": 0, "top_p": 0.9}
    assert drawn == theirs(prepared, network, later, 4, **how)
    assert drawn != second.words
    return later, second
