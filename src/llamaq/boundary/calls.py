"""Names of arguments, checked where a call comes in: one that there is not gets an answer in the caller's words."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from llamaq.boundary.arguments import shown

__all__ = ["Elsewhere", "answering", "parameters_of"]

F = TypeVar("F", bound=Callable[..., Any])
Elsewhere = Callable[[str, str], "str | None"]
"""Gets the name of an argument that is none here, and its value as it is shown; how it is said, None: nobody knows."""

_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_SELF = ("self", "cls")
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_SYNONYMS = {
    "temp": "temperature",
    "typical": "typical_p",
    "repetition_penalty": "repeat_penalty",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "stop_sequences": "stop",
    "model": "path",
    "model_path": "path",
    "filename": "path",
    "n_threads": "threads",
    "num_threads": "threads",
    "num_ctx": "n_ctx",
    "context_length": "n_ctx",
    "type_k": "cache_type",
    "type_v": "cache_type",
}
"""What other libraries call arguments."""


def parameters_of(function: Callable[..., Any], names: Iterable[str]) -> list[inspect.Parameter]:
    """Those of a function that have these names, with their defaults."""
    all_of_them = inspect.signature(function).parameters
    return [all_of_them[name] for name in names]


def answering(*, options: Iterable[inspect.Parameter] = (), elsewhere: Elsewhere | None = None) -> Callable[[F], F]:
    """Makes a function tell, with ``TypeError``, which arguments it takes where it gets others. ``options`` are what
    its ``**options`` stand for; ``help`` then shows them with their defaults."""

    def decorate(function: F) -> F:
        signature = _with_options(inspect.signature(function), options)
        names = [name for name, one in signature.parameters.items() if one.kind in _BY_NAME and name not in _SELF]
        known = frozenset(names)
        places = sum(one.kind in _BY_PLACE for one in signature.parameters.values())
        called = function.__qualname__.removesuffix(".__init__")

        def check(args: tuple[Any, ...], given: Mapping[str, Any]) -> None:
            if len(args) > places:
                raise TypeError(_too_many(called, signature, len(args) - places))
            if not known.issuperset(given):
                name = next(name for name in given if name not in known)
                raise TypeError(_unknown(called, name, shown(given[name]), names, elsewhere))

        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            check(args, given)
            return function(*args, **given)

        @functools.wraps(function)
        async def acall(*args: Any, **given: Any) -> Any:
            check(args, given)
            return await function(*args, **given)

        made: Any = acall if inspect.iscoroutinefunction(function) else call
        made.__signature__ = signature
        return made  # type: ignore[no-any-return]

    return decorate


def _with_options(signature: inspect.Signature, options: Iterable[inspect.Parameter]) -> inspect.Signature:
    plain = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    names = {one.name for one in plain}
    return signature.replace(parameters=[*plain, *(one for one in options if one.name not in names)])


def _too_many(called: str, signature: inspect.Signature, extra: int) -> str:
    by_place = [one.name for one in signature.parameters.values() if one.kind in _BY_PLACE and one.name not in _SELF]
    by_name = [name for name, one in signature.parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    what = " and ".join(by_place) or "nothing"
    rest = f"; give the rest by name: {', '.join(f'{name}=' for name in by_name)}" if by_name else ""
    return f"{called} takes {what} by place, got {extra} more{rest}"


def _unknown(called: str, name: str, value: str, names: list[str], elsewhere: Elsewhere | None) -> str:
    from difflib import get_close_matches

    meant = _SYNONYMS.get(name, name)
    if meant in names:
        advice = f"it is {meant} here"
    elif elsewhere is not None and (said := elsewhere(meant, value)) is not None:
        advice = said
    elif close := get_close_matches(name, names, n=1):
        advice = f"did you mean {close[0]}?"
    else:
        advice = f"it takes {', '.join(names)}" if names else "it takes none"
    return f"{called} has no argument {name!r}; {advice}"
