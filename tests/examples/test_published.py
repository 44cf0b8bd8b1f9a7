"""Every command and every line of Python in docs/published.md runs, over small folders with the names used there."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import intermodal as im
from intermodal import catalog
from intermodal.cli.app import run
from tests import pipelines, published, talkers

PAGE = (Path(__file__).parents[2] / "docs" / "published.md").read_text("utf-8")
COMMANDS = re.findall(r"^(intermodal (?!serve)[^#\n]*)", PAGE, re.MULTILINE)


def folders(place: Path) -> None:
    """Writes the folders, pictures and sounds that the page names."""
    from tests.adapters import test_blip, test_blip_2, test_clap, test_speecht5, test_vits, test_whisper, test_xclip

    pipelines.written(place / "lcm-dreamshaper-v7", pipelines.latent_consistency)
    pipelines.written(place / "stable-diffusion-v1-5", pipelines.stable_diffusion)
    pipelines.written(place / "audioldm2", pipelines.audioldm2)
    pipelines.written(place / "animatediff-motion", pipelines.animatediff)
    published.siglip(place / "siglip-base-patch16-224")
    test_clap.build(place / "clap-htsat-unfused", fused=False)
    test_blip.build(place / "blip-image-captioning-base", "BlipForConditionalGeneration")
    test_blip.build(place / "blip-vqa-base", "BlipForQuestionAnswering")
    test_whisper.build(place / "whisper-small")
    test_vits.build(place / "mms-tts-eng")
    test_speecht5.build(place / "speecht5_tts")
    test_blip_2.build(place / "blip2-opt-2.7b")
    test_xclip.build(place / "xclip-base-patch32")
    talkers.smolvlm(place / "SmolVLM-256M-Instruct")
    (place / "films").mkdir()
    test_xclip.CLIPS[0].save(place / "films" / "a.mp4")
    (place / "photos").mkdir()
    (place / "recordings").mkdir()
    for i, name in enumerate(("photo.jpg", "photos/a.png", "photos/b.png")):
        im.Image(published.picture(60, 90, i)).save(place / name)
    for name, seconds in (
        ("interview.mp3", 1.7),
        ("film.wav", 0.8),
        ("recordings/a.wav", 1.2),
        ("recordings/b.wav", 0.4),
    ):
        im.Audio(published.wave(seconds, 16_000), 16_000).save(place / name)


@pytest.mark.peer
@pytest.mark.timeout(400)  # some thirty models are loaded
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.library()
    pipelines.library()
    folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) >= 12
    for command in COMMANDS:
        assert run(shlex.split(command)[1:]) == 0, command
    assert im.Audio.open("ferry.wav").seconds > 0
    assert im.Audio.open("caption.wav").seconds > 0
    for name in ("captions", "described"):
        assert sorted(path.name for path in Path(name).iterdir()) == ["a.txt", "b.txt"]
    known: dict[str, Any] = {"np": np}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/published.md", "exec"), known)
    assert known["model"].language == "de"
    assert im.Image.open("wall.png").pixels.std() > 0
    assert len({Path(name).read_bytes() for name in ("bicycle.png", *(map(str, Path().glob("bicycles*.png"))))}) == 5
    assert im.Audio.open("rain.wav").seconds > 0
    assert len(im.Video.open("boat.mp4").frames) == 16
    inline = re.search(r"In Python: `(model\.segments.*)`", PAGE)
    assert inline
    known["model"].language, known["model"].task = None, "transcribe"
    assert eval(inline[1].replace("film.mp4", "film.wav"), known)


def test_every_adapter_has_its_line_in_the_page() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) - {"model_type"} == set(catalog.names("adapters"))
