"""Small published pipelines with random weights, written by the library that others read them with."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests import published

RATE = 16_000


def library() -> ModuleType:
    """Returns the library, quiet; skips the test where it is not installed."""
    published.library()
    found: ModuleType = pytest.importorskip("diffusers")
    found.utils.logging.set_verbosity(60)
    found.utils.logging.disable_progress_bar()
    return found


def written(folder: Path, build: Callable[[], Any], **how: Any) -> Any:
    """Writes a pipeline to a folder and returns it; what the libraries warn of among themselves is not heard."""
    library()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = build()
        made.save_pretrained(folder, **how)
    made.set_progress_bar_config(disable=True)
    for part in made.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return made


# ---- Parts


def letters(places: int = 16) -> Any:
    """Returns CLIP's tokenizer over single letters and a few merges."""
    first = [chr(code) for code in range(33, 127)]
    merges = [("c", "a"), ("ca", "t</w>"), ("r", "e"), ("re", "d</w>")]
    symbols = [*first, *(f"{s}</w>" for s in first), *("".join(m) for m in merges), "<|startoftext|>", "<|endoftext|>"]
    ids = {symbol: i for i, symbol in enumerate(symbols)}
    return published.library().CLIPTokenizer(vocab=ids, merges=merges, model_max_length=places)


def pieces(places: int = 16) -> Any:
    """Returns T5's tokenizer over single letters."""
    first = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab = [*first, *((chr(code), -3.0) for code in range(97, 123)), ("▁cat", -1.0)]
    return published.library().T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=places)


def clip_words(tokenizer: Any, width: int = 8, projection: int = 0) -> Any:
    """Returns a text tower of CLIP; with a projection where one is asked for."""
    made_by = published.library()
    config = made_by.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=12,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=projection or width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return published.shaken((made_by.CLIPTextModelWithProjection if projection else made_by.CLIPTextModel)(config))


def t5_words(tokenizer: Any, width: int = 16, kind: str = "T5") -> Any:
    """Returns an encoder of T5's kind."""
    made_by = published.library()
    sizes = {"vocab_size": len(tokenizer), "d_model": width, "d_ff": 12, "d_kv": 4, "num_heads": 2, "num_layers": 1}
    config = getattr(made_by, f"{kind}Config")(**sizes, relative_attention_num_buckets=4)
    return published.shaken(getattr(made_by, f"{kind}EncoderModel")(config))


def vae(channels: int = 3, latents: int = 4, blocks: tuple[int, ...] = (4, 8), **more: Any) -> Any:
    """Returns an autoencoder of pictures."""
    sizes: dict[str, Any] = {"block_out_channels": blocks, "norm_num_groups": 2, "latent_channels": latents}
    sizes |= {"down_block_types": ["DownEncoderBlock2D"] * len(blocks), "in_channels": channels}
    sizes |= {"up_block_types": ["UpDecoderBlock2D"] * len(blocks), "out_channels": channels}
    return published.shaken(library().AutoencoderKL(**sizes, **more))


def unet(words: int = 8, **more: Any) -> Any:
    """Returns a denoiser of 8 x 8 latents."""
    sizes: dict[str, Any] = {"block_out_channels": (4, 8), "norm_num_groups": 2, "layers_per_block": 1}
    sizes |= {"sample_size": 8, "cross_attention_dim": words, "attention_head_dim": 2}
    sizes |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
    sizes |= {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
    return published.shaken(library().UNet2DConditionModel(**{**sizes, **more}))


def ddim() -> Any:
    """Returns a scheduler as most of them have it."""
    return library().DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)


def checker(flags: bool) -> dict[str, Any]:
    """Returns what checks pictures, and its preparation; it finds fault with every picture, or with none."""
    made_by = published.library()
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    tower = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**tower, "image_size": 16, "patch_size": 8}
    made = StableDiffusionSafetyChecker(made_by.CLIPConfig(text_config=tower, vision_config=vision, projection_dim=8))
    published.shaken(made)
    made.concept_embeds_weights.data.fill_(-2.0 if flags else 2.0)
    made.special_care_embeds_weights.data.fill_(2.0)
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    return {"safety_checker": made, "feature_extractor": made_by.CLIPImageProcessor(**size)}


# ---- Pictures


def stable_diffusion(flags: bool | None = None) -> Any:
    """Returns Stable Diffusion; ``flags`` says whether its checker, if it has one, finds fault with every picture."""
    words = letters()
    nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    more = nothing if flags is None else checker(flags)
    return library().StableDiffusionPipeline(
        vae=vae(), text_encoder=clip_words(words), tokenizer=words, unet=unet(), scheduler=ddim(), **more
    )


def stable_diffusion_xl() -> Any:
    """Returns Stable Diffusion XL."""
    first, second = letters(), letters()
    told = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "use_linear_projection": True}
    net = unet(16, **told, projection_class_embeddings_input_dim=6 * 4 + 8)
    return library().StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=clip_words(first),
        text_encoder_2=clip_words(second, projection=8),
        tokenizer=first,
        tokenizer_2=second,
        unet=net,
        scheduler=library().EulerDiscreteScheduler(),
        add_watermarker=False,
    )


def stable_diffusion_3() -> Any:
    """Returns Stable Diffusion 3."""
    made_by, first, second, third = library(), letters(), letters(), pieces()
    sizes = {"sample_size": 8, "patch_size": 1, "in_channels": 4, "num_layers": 1, "attention_head_dim": 8}
    sizes |= {"num_attention_heads": 2, "joint_attention_dim": 16, "caption_projection_dim": 16}
    net = made_by.SD3Transformer2DModel(**sizes, pooled_projection_dim=16, out_channels=4)
    return made_by.StableDiffusion3Pipeline(
        transformer=published.shaken(net),
        scheduler=made_by.FlowMatchEulerDiscreteScheduler(),
        vae=vae(shift_factor=0.06),
        text_encoder=clip_words(first, projection=8),
        tokenizer=first,
        text_encoder_2=clip_words(second, projection=8),
        tokenizer_2=second,
        text_encoder_3=t5_words(third),
        tokenizer_3=third,
    )


def latent_consistency() -> Any:
    """Returns a latent consistency model."""
    words = letters()
    return library().LatentConsistencyModelPipeline(
        vae=vae(),
        text_encoder=clip_words(words),
        tokenizer=words,
        unet=unet(time_cond_proj_dim=8),
        scheduler=library().LCMScheduler(beta_schedule="scaled_linear"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def pixart() -> Any:
    """Returns PixArt-Sigma; its pictures have at least 256 x 256 pixels, before they are made smaller."""
    made_by, words = library(), pieces()
    net = made_by.PixArtTransformer2DModel(
        sample_size=32,
        num_layers=1,
        patch_size=2,
        attention_head_dim=4,
        num_attention_heads=2,
        caption_channels=16,
        cross_attention_dim=8,
        in_channels=4,
        out_channels=8,
        use_additional_conditions=False,
    )
    return made_by.PixArtSigmaPipeline(
        tokenizer=words,
        text_encoder=t5_words(words),
        vae=vae(blocks=(2, 2, 2, 4)),
        transformer=published.shaken(net),
        scheduler=made_by.DPMSolverMultistepScheduler(),
    )


def flux() -> Any:
    """Returns FLUX.1."""
    made_by, first, second = library(), letters(), pieces()
    net = made_by.FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=16,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
    )
    return made_by.FluxPipeline(
        scheduler=made_by.FlowMatchEulerDiscreteScheduler(),
        vae=vae(latents=1, shift_factor=0.06),
        text_encoder=clip_words(first),
        tokenizer=first,
        text_encoder_2=t5_words(second),
        tokenizer_2=second,
        transformer=published.shaken(net),
    )


# ---- Sounds


def audioldm2() -> Any:
    """Returns AudioLDM 2."""
    made_by, theirs, second = library(), published.library(), pieces()
    from diffusers.pipelines.audioldm2 import AudioLDM2ProjectionModel, AudioLDM2UNet2DConditionModel

    first, hears = clap_words()
    net = AudioLDM2UNet2DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
        sample_size=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=([None, 8, 16], [None, 8, 16]),
    )
    reader = theirs.GPT2LMHeadModel(theirs.GPT2Config(n_embd=8, n_head=2, n_layer=1, vocab_size=10, n_positions=60))
    reader.config.max_new_tokens = 4
    sizes = {"resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]], "normalize_before": False}
    sizes |= {"model_in_dim": 8, "sampling_rate": RATE, "upsample_initial_channel": 8}
    voice = theirs.SpeechT5HifiGanConfig(**sizes, upsample_rates=[2, 2], upsample_kernel_sizes=[4, 4])
    return made_by.AudioLDM2Pipeline(
        vae=vae(1),
        text_encoder=hears,
        text_encoder_2=t5_words(second),
        projection_model=published.shaken(AudioLDM2ProjectionModel(12, 16, 8)),
        language_model=published.shaken(reader),
        tokenizer=first,
        tokenizer_2=second,
        feature_extractor=theirs.ClapFeatureExtractor(feature_size=16, sampling_rate=8_000, max_length_s=1),
        unet=published.shaken(net),
        scheduler=ddim(),
        vocoder=published.shaken(theirs.SpeechT5HifiGan(voice)),
    )


def clap_words() -> tuple[Any, Any]:
    """Returns the tokenizer and the network of CLAP, of which the half that reads words is used."""
    made_by = published.library()
    symbols = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *(chr(code) for code in range(97, 123))]
    tokenizer = made_by.RobertaTokenizer(vocab={s: i for i, s in enumerate(symbols)}, merges=[], model_max_length=16)
    text = {"vocab_size": len(symbols), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 24, "max_position_embeddings": 20, "projection_dim": 12}
    audio = {"spec_size": 64, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4], "window_size": 4}
    audio |= {"depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "hidden_size": 16}
    config = made_by.ClapConfig(text_config=text, audio_config={**audio, "projection_dim": 12}, projection_dim=12)
    return tokenizer, published.shaken(made_by.ClapModel(config))


def stable_audio() -> Any:
    """Returns Stable Audio Open; with a scheduler that needs no further package."""
    made_by, words = library(), pieces()
    net = made_by.StableAudioDiTModel(
        sample_size=64,
        in_channels=3,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        out_channels=3,
        cross_attention_dim=4,
        time_proj_dim=8,
        global_states_input_dim=8,
        cross_attention_input_dim=4,
    )
    sounds = made_by.AutoencoderOobleck(
        encoder_hidden_size=6,
        downsampling_ratios=[2, 4],
        decoder_channels=3,
        decoder_input_channels=3,
        audio_channels=2,
        channel_multiples=[2, 4],
        sampling_rate=RATE,
    )
    from diffusers.pipelines.stable_audio import StableAudioProjectionModel

    told = StableAudioProjectionModel(text_encoder_dim=16, conditioning_dim=4, min_value=0, max_value=32)
    return made_by.StableAudioPipeline(
        vae=published.shaken(sounds, 0.02),
        text_encoder=t5_words(words),
        projection_model=published.shaken(told),
        tokenizer=words,
        transformer=published.shaken(net),
        scheduler=made_by.EDMDPMSolverMultistepScheduler(sigma_schedule="exponential", prediction_type="v_prediction"),
    )


# ---- Clips


def animatediff() -> Any:
    """Returns AnimateDiff."""
    made_by, words = library(), letters()
    moves = made_by.MotionAdapter(
        block_out_channels=(4, 8), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=2
    )
    return made_by.AnimateDiffPipeline(
        vae=vae(),
        text_encoder=clip_words(words),
        tokenizer=words,
        unet=unet(),
        motion_adapter=published.shaken(moves),
        scheduler=ddim(),
    )


def cogvideo() -> Any:
    """Returns CogVideoX."""
    made_by, words = library(), pieces()
    blocks = ("CogVideoXDownBlock3D",) * 4, ("CogVideoXUpBlock3D",) * 4
    clips = made_by.AutoencoderKLCogVideoX(
        down_block_types=blocks[0],
        up_block_types=blocks[1],
        block_out_channels=(4, 4, 4, 4),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4, "num_layers": 1}
    sizes |= {"time_embed_dim": 2, "text_embed_dim": 16, "sample_width": 2, "sample_height": 2, "sample_frames": 9}
    net = made_by.CogVideoXTransformer3DModel(**sizes, patch_size=2, temporal_compression_ratio=4)
    return made_by.CogVideoXPipeline(
        tokenizer=words,
        text_encoder=t5_words(words),
        vae=published.shaken(clips),
        transformer=published.shaken(net),
        scheduler=made_by.CogVideoXDDIMScheduler(),
    )


def wan() -> Any:
    """Returns Wan."""
    made_by, words = library(), pieces()
    clips = made_by.AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    net = made_by.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=16,
        freq_dim=16,
        ffn_dim=24,
        num_layers=1,
        rope_max_seq_len=32,
    )
    return made_by.WanPipeline(
        tokenizer=words,
        text_encoder=t5_words(words, kind="UMT5"),
        vae=published.shaken(clips),
        transformer=published.shaken(net),
        scheduler=made_by.FlowMatchEulerDiscreteScheduler(shift=7.0),
    )
