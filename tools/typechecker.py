"""How annotations are checked at run time under pytest: as mypy reads them, and shapes besides.

The import hook of jaxtyping decorates one function at a time and calls beartype on it. Two kinds of annotation mean
nothing there, ``Self`` and a Protocol that cannot be asked with isinstance; they pass for anything, and the rest of
the signature is checked. A whole number passes for a float, as it does for mypy.
"""

import functools
import operator
import types
from collections.abc import Callable
from typing import Any, Self, TypeVar, Union, get_args, get_origin

import beartype

_CONFIGURATION = beartype.BeartypeConf(is_pep484_tower=True)
F = TypeVar("F", bound=Callable[..., Any])


def checkable(hint: Any) -> Any:
    """Returns ``hint`` with ``Any`` for what cannot be asked at run time, however deep it stands."""
    protocol = getattr(hint, "_is_protocol", False) and not getattr(hint, "_is_runtime_protocol", False)
    if hint is Self or (protocol and isinstance(hint, type)):
        return Any
    inside = get_args(hint)
    replaced = tuple(checkable(part) for part in inside)
    if all(new is old for new, old in zip(replaced, inside, strict=True)):
        return hint
    origin = get_origin(hint)
    if origin in (types.UnionType, Union):
        return functools.reduce(operator.or_, replaced)
    return origin[replaced]


def checked(function: F) -> F:
    """Returns ``function`` with its arguments and its result checked at every call."""
    function.__annotations__ = {name: checkable(hint) for name, hint in function.__annotations__.items()}
    return beartype.beartype(conf=_CONFIGURATION)(function)
