"""Each rule of the house catches a small violation of it, and leaves alone what is allowed."""

from pathlib import Path

import pytest

import house_rules
import tree_rules
from house_rules import Source


def package(**files: str) -> dict[str, Source]:
    """Returns the modules of a package written here; ``layers__block`` names ``layers/block.py``."""
    paths = {
        f"src/intermodal/{name.replace('__', '/') if not name.startswith('__') else name}.py": text
        for name, text in files.items()
    }
    return house_rules.modules_of([Source(path, text) for path, text in paths.items()])


def test_module_names() -> None:
    modules = package(__init__="", types="", layers__block="")
    assert set(modules) == {"intermodal", "intermodal.types", "intermodal.layers.block"}
    inside = house_rules.modules_of(
        [Source("src/intermodal/layers/__init__.py", ""), Source("tests/test_types.py", "")]
    )
    assert set(inside) == {"intermodal.layers"}


@pytest.mark.parametrize(
    "statement",
    [
        "from intermodal.systems.clip import build",
        "import intermodal.systems.clip",
        "from intermodal.systems import clip",
        "from ..systems.clip import build",
        "def f():\n    from intermodal.systems import clip",
        "import importlib\nimportlib.import_module('intermodal.systems.clip')",
    ],
)
def test_an_import_downwards_is_caught_however_it_is_written(statement: str) -> None:
    modules = package(layers__block=statement, systems__clip="")
    assert [line.split(": ")[1] for line in house_rules.wrong_order(modules)] == [
        "layers may not import intermodal.systems.clip"
    ]


def test_imports_upwards_and_sideways_are_allowed() -> None:
    modules = package(
        systems__clip="from intermodal.layers.block import Block\nfrom intermodal.types import Batch\nimport torch",
        layers__block="from intermodal.layers import attention\nfrom intermodal import runtime",
        layers__attention="",
        modalities__text="from intermodal.tokenizers.word import WordTokenizer",
        tokenizers__word="from intermodal.errors import InvalidValue",
        cli__train="import intermodal",
        __main__="from intermodal.cli import train",
        testing="from intermodal.layers.block import Block",
        __init__="from intermodal.library.store import Library",
        library__store="from intermodal.items import open_item\nfrom intermodal import saving",
        saving="from intermodal import catalog, config, runtime",
        config="from intermodal import catalog",
        items="from intermodal.media.source import modality_of",
        catalog="",
        types="",
        runtime="from intermodal.errors import InvalidValue",
        errors="",
    )
    assert house_rules.wrong_order(modules) == []


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("types", "from intermodal.media.pictures import decode"),
        ("testing", "from intermodal.systems.clip import build"),
        ("layers__block", "from intermodal import Text"),
        ("systems__clip", "from intermodal.saving import save_model"),
        ("config", "from intermodal.saving import save_model"),
        ("items", "from intermodal.modalities.text import Text"),
        ("layers__block", "from intermodal.testing import check"),
        ("serving__app", "from intermodal.cli.train import train"),
        ("__init__", "from intermodal.cli.train import train"),
        ("__main__", "from intermodal.layers.block import Block"),
        ("unheard_of", "from intermodal.layers.block import Block"),
    ],
)
def test_the_places_that_the_order_does_not_settle(module: str, statement: str) -> None:
    assert len(house_rules.wrong_order(package(**{module: statement}))) == 1


def test_a_circle_is_caught_once_and_named() -> None:
    modules = package(
        layers__a="from intermodal.layers.b import x",
        layers__b="def f():\n    from intermodal.layers import c",
        layers__c="from .a import y",
        layers__d="from intermodal.layers.a import z",
    )
    assert house_rules.cycles(modules) == [
        "intermodal.layers.a -> intermodal.layers.b -> intermodal.layers.c -> intermodal.layers.a"
    ]
    assert house_rules.cycles(package(layers__a="from intermodal.layers.b import x", layers__b="")) == []


def test_read_cost_counts_each_file_once_and_follows_everything_but_the_contracts() -> None:
    modules = package(
        systems__clip="from intermodal.layers.a import x\nfrom intermodal.layers.b import y\nimport torch\n",
        layers__a="from intermodal.types import Batch\nfrom intermodal import catalog, errors, runtime\n\n",
        layers__b="def f():\n    from intermodal.layers.a import x",
        layers__unread="",
        **dict.fromkeys(house_rules.CONTRACTS, "\n" * 1000),
    )
    assert house_rules.read_cost("intermodal.systems.clip", modules) == (3, 3 + 3 + 2)
    assert house_rules.too_costly(modules) == []


def test_what_computes_the_same_sooner_need_not_be_read() -> None:
    same = {"encoders__inference": "from intermodal.layers.a import x", "layers__a": ""}
    modules = package(systems__clip="from intermodal.encoders.inference import pooled\n", **same)
    assert house_rules.read_cost("intermodal.systems.clip", modules) == (1, 1)
    assert house_rules.beside_the_door(modules) == []
    for more in (
        "from intermodal.encoders.inference import pooled, Prepared",
        "from intermodal.encoders import inference",
        "import intermodal.encoders.inference",
    ):
        assert house_rules.beside_the_door(package(systems__clip=f"import os\n{more}\n", **same)) == [
            "src/intermodal/systems/clip.py:2: of intermodal.encoders.inference import only batch_of, pooled"
        ]


def test_a_system_that_costs_too_much_is_caught() -> None:
    long = package(systems__clip="from intermodal.layers.a import x", layers__a="\n" * house_rules.READ_LINES)
    assert house_rules.too_costly(long) == [
        "src/intermodal/systems/clip.py: reads 2 files, 1801 lines; 12 and 1800 at most"
    ]
    parts = {f"layers__p{i}": "" for i in range(house_rules.READ_FILES)}
    wide = package(systems__clip="\n".join(f"import intermodal.layers.p{i}" for i in range(len(parts))), **parts)
    assert house_rules.too_costly(wide) == [
        "src/intermodal/systems/clip.py: reads 13 files, 12 lines; 12 and 1800 at most"
    ]


def test_long_files_functions_and_parameter_lists_are_caught() -> None:
    assert house_rules.too_long(Source("a.py", "x = 1\n" * 400)) == []
    assert house_rules.too_long(Source("a.py", "x = 1\n" * 401)) == ["a.py: 401 lines; 400 at most"]
    body = "    x = 1\n"
    assert house_rules.too_long(Source("a.py", "def f():\n" + body * 59)) == []
    assert house_rules.too_long(Source("a.py", "async def f():\n" + body * 60)) == [
        "a.py:1: f has 61 lines; 60 at most"
    ]
    method = "class A:\n    def f(self, a, b, c, /, d, e, *, f, g, h): ...\n"
    assert house_rules.too_long(Source("a.py", method)) == []
    assert house_rules.too_long(Source("a.py", method.replace("h)", "h, **i)"))) == [
        "a.py:2: f has 9 parameters; 8 at most"
    ]
    many = "def {}(a, b, c, d, e, f, g, h, i): ..."
    assert len(house_rules.too_long(Source("a.py", many.format("f")))) == 1
    assert house_rules.too_long(Source("src/intermodal/cli/search.py", many.format("command"))) == []
    assert len(house_rules.too_long(Source("src/intermodal/cli/search.py", many.format("f")))) == 1
    assert len(house_rules.too_long(Source("src/intermodal/data/table.py", many.format("command")))) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("cli__train", "import torch"),
        ("cli__train", "try:\n    from torch import nn\nexcept ImportError:\n    pass"),
        ("__init__", "import torch.nn"),
        ("modalities__audio", "import av"),
        ("data__shards", "if True:\n    import lancedb"),
        ("adapters__clip", "class A:\n    import transformers"),
        ("evaluation__report", "from matplotlib import pyplot"),
    ],
)
def test_heavy_imports_at_the_top_are_caught(module: str, text: str) -> None:
    assert len(house_rules.heavy_at_top(package(**{module: text}))) == 1


def test_heavy_imports_where_they_belong_are_allowed() -> None:
    modules = package(
        layers__block="import torch",
        media__sound="import av",
        library__store="import lancedb\nimport pyarrow as pa",
        cli__train="def main():\n    import torch",
        evaluation__report="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import matplotlib",
    )
    assert house_rules.heavy_at_top(modules) == []


def test_libraries_that_no_dependency_brings_are_caught() -> None:
    text = "import os, torch.nn, click\nfrom PIL import Image\nfrom . import a\ndef f():\n    import yaml"
    wrong = house_rules.undeclared(
        package(layers__block=text), {"torch", "pillow"}, {"PIL": ["pillow"], "yaml": ["PyYAML"]}
    )
    assert [line.split()[1] for line in wrong] == ["click", "yaml"]


@pytest.mark.parametrize("text", ["import os\nos.environ['X']", "import os\nos.getenv('X')", "from os import environ"])
def test_readers_of_the_environment_are_caught(text: str) -> None:
    assert len(house_rules.environment_readers(package(layers__block=text))) == 1
    assert house_rules.environment_readers(package(runtime=text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from cloudpickle import dumps",
        "import torch\ntorch.load('x', weights_only=True)",
        "from torch import load",
        "import torch\nsave = torch.save",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
    ],
)
def test_pickling_is_caught(text: str) -> None:
    assert len(house_rules.pickles(Source("a.py", text))) == 1


def test_loading_without_pickle_is_allowed() -> None:
    assert (
        house_rules.pickles(Source("a.py", "import json\nnp.load('x', allow_pickle=False)\njson.load(f)\nload(x)"))
        == []
    )


def test_future_annotations_are_caught() -> None:
    future = "from __future__ import " + "annotations"
    assert len(house_rules.future_annotations(Source("a.py", future))) == 1
    assert house_rules.future_annotations(Source("a.py", "import os")) == []


def test_public_names() -> None:
    def read(text: str) -> tuple[list[str], int]:
        names, wrong = house_rules.public_names(Source("a.py", text))
        return names, len(wrong)

    assert read("__all__ = ['A', 'b']") == (["A", "b"], 0)
    assert read("__all__: list[str] = ['A']") == (["A"], 0)
    assert read("__all__ = ['b', 'A']") == (["b", "A"], 1)
    assert read("__all__ = ['A', 'A']") == (["A", "A"], 1)
    assert read("__all__ = sorted(names)") == ([], 1)
    assert read("x = 1") == ([], 1)


def test_misplaced_files_are_caught() -> None:
    good = ["src/intermodal/layers/block.py", "src/intermodal/types.py", "src/intermodal/weights/a/b/model.safetensors"]
    assert tree_rules.misplaced([*good, "tests/layers/test_block.py", "dev.py"]) == []
    for path in (
        "src/intermodal/systems/blip/retrieval.py",
        "src/intermodal/helpers/text.py",
        "src/intermodal/helpers.py",
        "src/intermodal/utils/text.py",
        "tests/common/pictures.py",
    ):
        assert tree_rules.misplaced([path]) != [], path


def test_missing_and_stray_tests_are_caught() -> None:
    pair = ["src/intermodal/layers/block.py", "tests/layers/test_block_masks.py"]
    assert tree_rules.unmirrored([*pair, "src/intermodal/layers/__init__.py", "tests/conftest.py"]) == []
    assert tree_rules.unmirrored(["tests/layout/test_anything.py", "tests/tools/test_dev.py"]) == []
    assert tree_rules.unmirrored([*pair, "tests/layers/drawings.py"]) == []
    assert tree_rules.unmirrored(["src/intermodal/types.py", "tests/test_types.py"]) == []
    assert tree_rules.unmirrored(["src/intermodal/__main__.py", "tests/test_main.py"]) == []
    verbs = ["src/intermodal/cli/train.py", "src/intermodal/cli/ask.py", "tests/cli/test_cli.py"]
    assert tree_rules.unmirrored([*verbs, "tests/test_contracts.py", "tests/test_readme.py"]) == []
    assert len(tree_rules.unmirrored([path.replace("cli", "layers") for path in verbs])) == 3
    assert tree_rules.unmirrored(pair[:1]) == ["src/intermodal/layers/block.py: has no tests/layers/test_block.py"]
    assert tree_rules.unmirrored(pair[1:]) == [f"{pair[1]}: tests no module of src/intermodal/layers"]
    assert len(tree_rules.unmirrored([pair[0], "tests/fusion/test_block.py"])) == 2


def test_incomplete_catalogue_files_are_caught() -> None:
    item = "class Text: ...\nITEM = Text\n"
    complete = package(
        modalities__text=item + "PREPROCESSOR: type = Text",
        systems__clip="class Config: ...\nSIZES = {}\ndef build(): ...",
    )
    assert tree_rules.incomplete_catalogue(complete) == []
    wrong = tree_rules.incomplete_catalogue(package(modalities__text=item, systems___parts="", layers__block=""))
    assert [line.partition(";")[0] for line in wrong] == [
        "src/intermodal/modalities/text.py: has no PREPROCESSOR",
        "src/intermodal/systems/_parts.py: has no Config",
        "src/intermodal/systems/_parts.py: has no SIZES",
        "src/intermodal/systems/_parts.py: has no build",
    ]


@pytest.mark.parametrize(
    "text",
    ["# TO" + "DO: later", "FIX" + "ME", "see /wor" + "k/main", "(/roo" + "t/x)", "/home/" + "ann/x", "pyp" + "i.org"],
)
def test_forbidden_words_are_caught_with_their_line(text: str) -> None:
    assert [line.split(": ")[0] for line in tree_rules.forbidden_words({"a.md": f"one\n{text}\n"})] == ["a.md:2"]


@pytest.mark.parametrize(
    "text", ["and/or", "../shared/data", "mastodon", "framework/root", "a/work/b", "/api/embed", "~/work"]
)
def test_ordinary_words_are_allowed(text: str) -> None:
    assert tree_rules.forbidden_words({"a.md": text}) == []


PYPROJECT = """
[build-system]
requires = ["setuptools>=77"]  # builds it
[project]
dependencies = [
  "torch>=2.9",  # models
  {line}
]
[project.optional-dependencies]
speech = ["espeakng-loader>=0.2"]  # speaks
"""


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('"numpy>=2.0",  # arrays', 0),
        ('"numpy>=2.0",', 1),
        ('"numpy>=2.0,<3",  # arrays', 1),
        ('"numpy==2.0",  # arrays', 1),
        ('"numpy~=2.0",  # arrays', 1),
        ('"numpy",  # arrays', 1),
        ('"numpy<3",', 2),
        ("\"numpy>=2.0; sys_platform != 'win32'\",  # arrays", 0),
    ],
)
def test_dependencies_without_reason_or_with_upper_pins_are_caught(line: str, wrong: int) -> None:
    assert len(tree_rules.unexplained_dependencies(PYPROJECT.replace("{line}", line))) == wrong


def test_needed_packages_without_an_exact_version_are_caught() -> None:
    constraints = "# comment\ntorch==2.13.0\nnumpy==2.4.6  # arrays\n"
    assert tree_rules.unpinned(constraints, {"torch": "2.13.0+cpu", "numpy": "2.4.6"}) == []
    assert tree_rules.unpinned(constraints, {"torch": "2.12.0", "rich": "15.0"}) == [
        "rich 15.0 is installed and constraints.txt says nothing",
        "torch 2.12.0 is installed and constraints.txt says 2.13.0",
    ]


def test_ignored_files_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("# comment\n.venv/\n*.egg-info/\n/demo/\n\n")
    for path in ("a.py", ".ci/run", ".venv/b.py", "src/x.egg-info/c", "demo/d", "docs/demo/e", ".git/f"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    assert list(tree_rules.files(tmp_path)) == [".gitignore", "a.py", ".ci/run", "docs/demo/e"]
