"""The house's rules about imports and sizes, as plain functions: each takes sources and returns what breaks the rule.

Nothing here reads a file or imports the package, so every rule can be shown a small violation and has to catch it.
Rules about the tree of files and about text are in ``tree_rules``.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

PACKAGE = "intermodal"
CONTRACTS = ("errors", "types", "catalog", "runtime")
FOLDERS = (
    "media",
    "tokenizers",
    "modalities",
    "layers",
    "encoders",
    "fusion",
    "decoders",
    "objectives",
    "sampling",
    "systems",
    "diorama",
    "data",
    "training",
    "evaluation",
    "explain",
    "library",
    "adapters",
    "serving",
    "cli",
)
"""The import order: a folder imports only from folders before it, and from the contracts."""

SHARED = ("config", "fetching", "saving", "publishing", "items", "translation")
"""Root files that the parts above the systems know nothing of, and everything after the systems may use."""

ROOT_FILES = ("__init__", "__main__", "testing", *CONTRACTS, *SHARED)
MAY_IMPORT = {
    "__init__": (*CONTRACTS, *SHARED, *FOLDERS[: FOLDERS.index("cli")], "testing"),
    "__main__": (*CONTRACTS, "cli", "__init__"),
    "config": CONTRACTS,
    "fetching": CONTRACTS,
    "saving": (*CONTRACTS, "config", "fetching"),
    "publishing": (*CONTRACTS, "config", "fetching", "saving"),
    "items": (*CONTRACTS, "media"),
    "translation": CONTRACTS,
    "testing": (*CONTRACTS, "config", "saving", *FOLDERS[: FOLDERS.index("systems")]),
    "cli": (*CONTRACTS, *SHARED, *FOLDERS, "testing", "__init__"),
}
"""The places that the order alone does not settle."""

FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 8
READ_FILES, READ_LINES = 12, 1800
SOONER = {
    "decoders.remembering": ("Writing",),
    "encoders.inference": ("batch_of", "pooled"),
    "layers.grouped": ("by_length", "in_groups", "needless"),
    "layers.patched": ("check_cover", "of_merged", "of_small"),
    "layers.short": ("LONGEST", "attend_rows", "attend_short", "narrow"),
    "objectives.tiles": ("InfoNCE", "Sigmoid", "takes_bf16", "truth_of"),
}
"""Modules that compute what another one already says, only sooner -> all that may be asked of them.

Their tests hold them to be equal to it (docs/design/0010-what-is-computed-sooner.md).
"""

NO_TORCH = ("__init__", "__main__", "errors", "catalog", "config", "items", "translation", "cli")
HEAVY_AT_TOP = {
    "torch": tuple(p for p in (*ROOT_FILES, *FOLDERS) if p not in NO_TORCH),
    "av": ("media",),
    "lancedb": ("library",),
    "lance": ("library",),
    "pyarrow": ("library",),
    "fastapi": ("serving",),
    "starlette": ("serving",),
    "uvicorn": ("serving",),
    "sklearn": (),
    "scipy": (),
    "matplotlib": (),
    "torchmetrics": (),
    "tensorboard": (),
    "transformers": (),
    "diffusers": (),
    "ai_edge_litert": (),
    "espeakng_loader": (),
    "pocketsphinx": (),
}
"""Slow to import, or optional: where a module may import it at its top; anywhere else, inside functions."""

PICKLES = ("pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")


@dataclass(frozen=True)
class Source:
    """One Python file: its path from the root of the repository, in posix form, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def lines(self) -> int:
        return self.text.count("\n") + (not self.text.endswith("\n") and self.text != "")


Modules = Mapping[str, Source]
"""Dotted module name -> source; a package's name stands for its ``__init__.py``."""


def modules_of(sources: list[Source]) -> dict[str, Source]:
    """Returns the sources under ``src`` by their module names."""
    found = {}
    for source in sources:
        if source.path.startswith(f"src/{PACKAGE}/"):
            parts = source.path.removeprefix("src/").removesuffix(".py").split("/")
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = source
    return found


def place(module: str) -> str:
    """Returns where a module stands: the name of its folder, or of its file at the root of the package."""
    parts = module.split(".")
    return "__init__" if len(parts) == 1 else parts[1]


def _absolute(node: ast.ImportFrom, module: str, modules: Modules) -> str:
    """Returns the dotted name that an import starts from, relative imports resolved."""
    if not node.level:
        return node.module or ""
    inside = module.split(".") if modules[module].path.endswith("__init__.py") else module.split(".")[:-1]
    return ".".join([*inside[: len(inside) - node.level + 1], *([node.module] if node.module else [])])


def _imported(node: ast.AST, module: str, modules: Modules) -> Iterator[str]:
    """Yields the dotted names that one statement or call imports, of this package or any other."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node, module, modules)
        names = [f"{base}.{alias.name}" for alias in node.names]
        yield from (name if name in modules else base for name in names)
    elif isinstance(node, ast.Call) and node.args:
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        name = node.args[0]
        if (
            function in ("import_module", "__import__")
            and isinstance(name, ast.Constant)
            and isinstance(name.value, str)
        ):
            yield name.value


def imports(module: str, modules: Modules) -> dict[str, int]:
    """Returns the modules of this package that ``module`` imports, anywhere in it, with the line of the first."""
    found: dict[str, int] = {}
    for node in ast.walk(modules[module].tree):
        for name in _imported(node, module, modules):
            if name.split(".")[0] == PACKAGE and name != module:
                found.setdefault(name, node.lineno)
    return found


def wrong_order(modules: Modules) -> list[str]:
    """Returns each import of a place that does not stand before its own."""
    wrong = []
    for module, source in modules.items():
        here = place(module)
        before = MAY_IMPORT.get(here, CONTRACTS)
        if here in FOLDERS and here not in MAY_IMPORT:
            number = FOLDERS.index(here)
            before = (*CONTRACTS, *(SHARED if number > FOLDERS.index("systems") else ()), *FOLDERS[: number + 1])
        for name, line in imports(module, modules).items():
            if place(name) not in before:
                wrong.append(f"{source.path}:{line}: {here} may not import {name}")
    return wrong


def cycles(modules: Modules) -> list[str]:
    """Returns the modules that import each other in a circle, one line per circle, wherever the imports stand."""
    graph = {module: [name for name in imports(module, modules) if name in modules] for module in modules}
    done: set[str] = set()
    circles = []

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            circles.append(" -> ".join([*trail[trail.index(module) :], module]))
        elif module not in done:
            for name in graph[module]:
                visit(name, [*trail, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return circles


def read_cost(module: str, modules: Modules) -> tuple[int, int]:
    """Returns how many files and lines of this package someone reads who follows every import of ``module``.

    The contracts are not counted: they are the language that a reader of any part knows. Neither is what ``SOONER``
    names: nobody needs it to follow a system.
    """
    sooner = {f"{PACKAGE}.{name}" for name in SOONER}
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in modules and name not in seen | sooner and place(name) not in CONTRACTS:
            seen.add(name)
            waiting.extend(imports(name, modules))
    return len(seen), sum(modules[name].lines for name in seen)


def beside_the_door(modules: Modules) -> list[str]:
    """Returns each import that asks more of what ``SOONER`` names than stands there."""
    doors = {f"{PACKAGE}.{name}": allowed for name, allowed in SOONER.items()}
    wrong = []
    for module, source in modules.items():
        for node in ast.walk(source.tree):
            for name in doors.keys() & set(_imported(node, module, modules)):
                by_name = isinstance(node, ast.ImportFrom) and _absolute(node, module, modules) == name
                if not by_name or any(alias.name not in doors[name] for alias in node.names):
                    wrong.append(f"{source.path}:{node.lineno}: of {name} import only {', '.join(doors[name])}")
    return wrong


def too_costly(modules: Modules) -> list[str]:
    """Returns each system whose reading costs too much."""
    wrong = []
    for module, source in modules.items():
        if module.startswith(f"{PACKAGE}.systems."):
            files, lines = read_cost(module, modules)
            if files > READ_FILES or lines > READ_LINES:
                wrong.append(
                    f"{source.path}: reads {files} files, {lines} lines; {READ_FILES} and {READ_LINES} at most"
                )
    return wrong


def too_long(source: Source) -> list[str]:
    """Returns what is too long in a file: itself, a function, or a list of parameters (self and cls not counted).

    A verb's ``command`` in ``cli/`` may have any number of parameters: they are its options, each given by name and
    explained where it stands, and nobody calls it but the command line.
    """
    wrong = []
    verb = source.path.startswith(f"src/{PACKAGE}/cli/")
    if source.lines > FILE_LINES:
        wrong.append(f"{source.path}: {source.lines} lines; {FILE_LINES} at most")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                wrong.append(f"{source.path}:{node.lineno}: {node.name} has {lines} lines; {FUNCTION_LINES} at most")
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
            names = names[1:] if names[:1] in (["self"], ["cls"]) else names
            count = len(names) + len(node.args.kwonlyargs) + bool(node.args.vararg) + bool(node.args.kwarg)
            if count > PARAMETERS and not (verb and node.name == "command"):
                wrong.append(f"{source.path}:{node.lineno}: {node.name} has {count} parameters; {PARAMETERS} at most")
    return wrong


def _at_top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yields the statements that run when a module is imported; those for type checkers alone do not."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _at_top(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from _at_top(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from _at_top(handler.body)


def heavy_at_top(modules: Modules) -> list[str]:
    """Returns each slow or optional library imported at the top of a module that is not about it."""
    wrong = []
    for module, source in modules.items():
        here = place(module)
        for node in _at_top(source.tree.body):
            for name in _imported(node, module, modules):
                if here not in HEAVY_AT_TOP.get(name.split(".")[0], (here,)):
                    wrong.append(f"{source.path}:{node.lineno}: {name} at the top; import it inside the function")
    return wrong


def undeclared(modules: Modules, declared: set[str], owners: Mapping[str, list[str]]) -> list[str]:
    """Returns each import of a library that is not among the declared packages.

    Args:
        modules: the package.
        declared: names of packages, normalised.
        owners: import name -> the packages that bring it; a name that is not in it stands for itself.
    """
    wrong = []
    for module, source in modules.items():
        for node in ast.walk(source.tree):
            for name in _imported(node, module, modules):
                top = name.split(".")[0]
                bring = {owner.lower().replace("_", "-") for owner in owners.get(top, [top])}
                if top not in sys.stdlib_module_names and top != PACKAGE and not bring & declared:
                    wrong.append(f"{source.path}:{node.lineno}: {name} comes from no dependency in pyproject.toml")
    return wrong


def environment_readers(modules: Modules) -> list[str]:
    """Returns each reading of the environment outside runtime.py."""
    names = ("environ", "environb", "getenv")
    wrong = []
    for source in [source for module, source in modules.items() if module != f"{PACKAGE}.runtime"]:
        for node in ast.walk(source.tree):
            by_attribute = isinstance(node, ast.Attribute) and node.attr in names
            by_name = (
                isinstance(node, ast.ImportFrom) and node.module == "os" and any(a.name in names for a in node.names)
            )
            if by_attribute or by_name:
                wrong.append(f"{source.path}:{node.lineno}: reads the environment; only runtime.py does")
    return wrong


def _name_of(node: ast.expr) -> str:
    """Returns ``torch.load`` for the expression ``torch.load``; empty for what is no dotted name."""
    if isinstance(node, ast.Attribute):
        return f"{_name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def pickles(source: Source) -> list[str]:
    """Returns each way in which a file could read or write pickled objects."""
    wrong = []
    for node in ast.walk(source.tree):
        found = ""
        if isinstance(node, ast.Import):
            found = next((a.name for a in node.names if a.name.split(".")[0] in PICKLES), "")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [f"{base}.{a.name}" for a in node.names]
            found = next((n for n in names if n in ("torch.load", "torch.save") or base.split(".")[0] in PICKLES), "")
        elif isinstance(node, ast.Attribute) and _name_of(node) in ("torch.load", "torch.save"):
            found = _name_of(node)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found = "" if isinstance(node.value, ast.Constant) and node.value.value is False else "allow_pickle"
        if found:
            wrong.append(f"{source.path}:{getattr(node, 'lineno', 0)}: {found}; weights are safetensors, never pickle")
    return wrong


def future_annotations(source: Source) -> list[str]:
    """Returns the import that would turn every annotation into a string."""
    found = [n for n in ast.walk(source.tree) if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    return [f"{source.path}:{node.lineno}: no import from __future__" for node in found]


def public_names(source: Source) -> tuple[list[str], list[str]]:
    """Returns the names in ``__all__`` and what is wrong with how they are written."""
    for node in source.tree.body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            try:
                names = list(ast.literal_eval(node.value))
            except ValueError:
                return [], [f"{source.path}:{node.lineno}: __all__ is computed; write the names out"]
            if names != sorted(set(names)):
                return names, [f"{source.path}:{node.lineno}: __all__ is not sorted or has a name twice"]
            return names, []
    return [], [f"{source.path}: has no __all__"]
