"""The house's rules about the tree of files and about text, as plain functions that return what breaks the rule."""

import ast
import fnmatch
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from house_rules import FOLDERS, PACKAGE, ROOT_FILES, Modules

BANNED_FOLDERS = ("utils", "common", "core")
CATALOGUED = {
    "adapters": ("load",),
    "modalities": ("ITEM", "PREPROCESSOR"),
    "systems": ("Config", "SIZES", "build"),
    "tokenizers": ("TOKENIZER",),
}
"""Folders whose listing is a catalogue, and what every file in them has."""

OTHER_TESTS = ("layout", "tools", "contracts", "oracles", "properties", "examples", "readme")
"""Tests that mirror no folder of the package: folders, or files at the root of the tests named after one."""

TESTED_TOGETHER = ("cli", "encoders")
"""Folders whose files keep one contract, so that ``test_<folder>.py`` tests them all: verbs, and encoders."""

FORBIDDEN = {
    r"\b(TO[D]O|FIX[M]E|XX[X])\b": "a note to oneself",
    r"(?<![\w.~])/(wor[k]|roo[t]|home/\w+|Users/\w+)(?![\w-])": "a path of one machine",
    r"\b(pyp[i]\.org|pythonhoste[d]\.org)\b": "a package host",
}
"""Written so that no pattern finds itself."""


def files(root: Path) -> Iterator[str]:
    """Yields the posix path of each file below ``root`` that .gitignore leaves in."""
    patterns = [line.strip() for line in (root / ".gitignore").read_text().splitlines()]
    patterns = [p for p in patterns if p and not p.startswith("#")] + [".git"]

    def ignored(path: str) -> bool:
        name = path.rsplit("/", 1)[-1]
        return any(
            path == p.strip("/") if p.startswith("/") else fnmatch.fnmatchcase(name, p.rstrip("/")) for p in patterns
        )

    for folder, names, leaves in os.walk(root):
        here = Path(folder).relative_to(root).as_posix()
        prefix = "" if here == "." else f"{here}/"
        names[:] = sorted(n for n in names if not ignored(prefix + n))
        yield from (prefix + leaf for leaf in sorted(leaves) if not ignored(prefix + leaf))


def misplaced(paths: list[str]) -> list[str]:
    """Returns the Python files of the package that stand too deep, in no known folder, or in a folder with no topic."""
    wrong = []
    for path in paths:
        parts = PurePosixPath(path).parts
        banned = [part for part in parts[:-1] if part in BANNED_FOLDERS]
        if banned:
            wrong.append(f"{path}: no folder is named {banned[0]}; a helper lives with its user")
        if parts[:2] == ("src", PACKAGE) and path.endswith(".py"):
            inside = parts[2:]
            if len(inside) > 2:
                wrong.append(f"{path}: too deep; the package is folders of files")
            elif len(inside) == 2 and inside[0] not in FOLDERS:
                wrong.append(f"{path}: {inside[0]} is no folder of the house")
            elif len(inside) == 1 and inside[0].removesuffix(".py") not in ROOT_FILES:
                wrong.append(f"{path}: is no root file of the house")
    return wrong


def unmirrored(paths: list[str]) -> list[str]:
    """Returns the modules that have no test file, and the test files that have no module.

    ``layers/attention.py`` is tested by ``tests/layers/test_attention.py``, and by ``test_attention_<more>.py`` beside
    it where one file does not hold all.
    """
    modules, tests, wrong = set(), set(), []
    for path in paths:
        parts = PurePosixPath(path).parts
        stem = PurePosixPath(path).stem
        if not path.endswith(".py"):
            continue
        if parts[:2] == ("src", PACKAGE) and len(parts) <= 4:
            modules.add(("/".join(parts[2:-1]), stem, path))
        elif parts[0] == "tests" and stem.startswith("test_") and parts[1] not in OTHER_TESTS:
            tests.add(("/".join(parts[1:-1]), stem, path))

    def covers(test: str, module: str, folder: str) -> bool:
        names = [module.strip("_"), *([folder] if folder in TESTED_TOGETHER else [])]
        return any(test == f"test_{name}" or test.startswith(f"test_{name}_") for name in names)

    for folder, stem, path in sorted(modules):
        if stem != "__init__" and not any(f == folder and covers(t, stem, folder) for f, t, _ in tests):
            wrong.append(f"{path}: has no tests/{folder + '/' if folder else ''}test_{stem.strip('_')}.py")
    for folder, stem, path in sorted(tests):
        other = not folder and stem.removeprefix("test_") in OTHER_TESTS
        if not other and not any(f == folder and covers(stem, m, folder) for f, m, _ in modules):
            wrong.append(f"{path}: tests no module of src/{PACKAGE}/{folder}")
    return wrong


def incomplete_catalogue(modules: Modules) -> list[str]:
    """Returns each file of a catalogued folder that lacks a name which every file there has."""
    wrong = []
    for module, source in modules.items():
        folder = module.split(".")[1] if module.count(".") == 2 else ""
        defined: set[str] = set()
        for node in source.tree.body if folder in CATALOGUED else []:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                defined.add(node.name)
            else:
                targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
                defined.update(t.id for t in targets if isinstance(t, ast.Name))
        for name in CATALOGUED.get(folder, ()):
            if name not in defined:
                wrong.append(f"{source.path}: has no {name}; {folder}/ holds nothing but what its catalogue lists")
    return wrong


def forbidden_words(texts: Mapping[str, str]) -> list[str]:
    """Returns each place in a text that a reader of the project has no use for."""
    wrong = []
    for path, text in texts.items():
        for pattern, what in FORBIDDEN.items():
            for found in re.finditer(pattern, text):
                line = text.count("\n", 0, found.start()) + 1
                wrong.append(f"{path}:{line}: {found.group()!r} is {what}")
    return wrong


def unexplained_dependencies(pyproject: str) -> list[str]:
    """Returns each dependency whose line gives no reason, has no lower bound, or pins it from above."""
    data = tomllib.loads(pyproject)
    project = data["project"]
    groups = {"dependencies": project.get("dependencies", []), **project.get("optional-dependencies", {})}
    groups["build-system"] = data.get("build-system", {}).get("requires", [])
    wrong = []
    for group, requirements in groups.items():
        for requirement in requirements:
            lines = [line for line in pyproject.splitlines() if f'"{requirement}"' in line.partition("#")[0]]
            if not all(line.partition("#")[2].strip() for line in lines):
                wrong.append(f"{group}: {requirement} has no comment that says what it is for")
            if re.findall(r"[<>=!~]+", requirement.partition(";")[0]) != [">="]:
                wrong.append(f"{group}: {requirement} needs a lower bound (>=) and no other")
    return wrong


def unpinned(constraints: str, versions: Mapping[str, str]) -> list[str]:
    """Returns each package that is needed and has no exact version in ``constraints``, or another one."""
    lines = [line.partition("#")[0].strip() for line in constraints.splitlines()]
    pins = dict(line.split("==") for line in lines if line)
    wrong = []
    for name, version in sorted(versions.items()):
        if pins.get(name) != version.partition("+")[0]:
            wrong.append(f"{name} {version} is installed and constraints.txt says {pins.get(name, 'nothing')}")
    return wrong
