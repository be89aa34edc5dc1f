"""Tables of the fields of a request. A table reads bodies, and makes the page of the documentation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from llamaq.boundary.arguments import one_of, real, shown, text, whole
from llamaq.server.errors import Refusal

__all__ = [
    "Field", "any_value", "boolean", "extra_keys", "integer", "list_of_texts", "mapping", "number", "read_fields",
    "scales", "string", "table_of", "word",
]  # fmt: skip

_MOST_ADAPTERS = 64

Reader: TypeAlias = Callable[[str, Any], Any]
"""Makes of a field's name and value what it means; TypeError and ValueError say what is wrong with it."""


@dataclass(frozen=True)
class Field:
    """A field of a request: honoured where ``read`` is, refused but for the ``neutral`` values where those are, else
    ignored. ``about`` says how, or why not. ``null`` is always as if the field were not there."""

    name: str
    about: str = ""
    read: Reader | None = None
    neutral: tuple[Any, ...] | None = None

    @property
    def treatment(self) -> str:
        if self.read is not None:
            return "honoured"
        return "ignored" if self.neutral is None else "refused"


def read_fields(fields: Sequence[Field], body: Mapping[str, Any], *, strict: bool) -> tuple[dict[str, Any], list[str]]:
    """What the honoured fields mean, and the names of those that were ignored. Raises ``Refusal``, with ``strict`` for
    unknown fields, too."""
    known = {field.name: field for field in fields}
    values: dict[str, Any] = {}
    ignored: list[str] = []
    for name, value in body.items():
        field = known.get(name)
        if field is None and strict:
            raise Refusal(400, f"{name!r:.80} is no field that this server knows", param=name[:80])
        if value is None:
            continue
        if field is None or field.treatment == "ignored":
            ignored.append(name)
        elif field.read is not None:
            try:
                values[name] = field.read(name, value)
            except (TypeError, ValueError) as error:
                raise Refusal(400, str(error), param=name) from None
        elif not any(type(value) is type(same) and value == same for same in field.neutral or ()):
            raise Refusal(400, f"{name}: {field.about}; got {shown(value)}", param=name)
    return values, ignored


def extra_keys(name: str, value: Any, known: Collection[str], *, strict: bool) -> list[str]:
    """What objects of a list have that says something and is not ``known``, as ignored fields are named. With
    ``strict`` it raises ``Refusal``."""
    objects = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    extra = dict.fromkeys(key for item in objects for key in item if item[key] and key not in known)
    if extra and strict:
        raise Refusal(400, f"{next(iter(extra))!r:.80} is no key of {name} that this server knows", param=name)
    return [f"{name}.{key}" for key in extra]


def table_of(tables: Mapping[str, Sequence[Field]]) -> str:
    """One table in Markdown of several requests' fields, by the requests' names."""
    about = {field.name: field.about for table in reversed([*tables.values()]) for field in table}
    order = dict.fromkeys(field.name for table in tables.values() for field in table)
    rows = [f"| field | {' | '.join(tables)} | |", "|---" * (len(tables) + 2) + "|"]
    for name in order:
        cells = [next((f.treatment for f in table if f.name == name), "") for table in tables.values()]
        rows.append(f"| `{name}` | {' | '.join(cells)} | {about[name]} |")
    return "\n".join(rows)


def any_value(name: str, value: Any) -> Any:
    """A value that is checked where it is used, under the field's name."""
    return value


def boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false, got {shown(value)}")
    return value


def string(name: str, value: Any) -> str:
    return text(name, value)


def mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be an object, got {shown(value)}")
    return value


def integer(least: int | None = None, most: int | None = None) -> Reader:
    return lambda name, value: whole(name, value, least, most)


def number(least: float, most: float) -> Reader:
    return lambda name, value: real(name, value, least, most)


def word(*choices: str) -> Reader:
    return lambda name, value: one_of(name, value, choices)


def scales(name: str, value: Any) -> list[tuple[int, float]]:
    """Adapters by number, and how much of each, as llama-server has them."""
    if not isinstance(value, list) or len(value) > _MOST_ADAPTERS or not all(isinstance(each, dict) for each in value):
        raise TypeError(f'{name} must be up to {_MOST_ADAPTERS} of {{"id": 0, "scale": 1.0}}, got {shown(value)}')
    pairs = [
        (whole(f"{name}: id", each.get("id"), 0), real(f"{name}: scale", each.get("scale"), -1e6, 1e6))
        for each in value
    ]
    if len({id for id, _ in pairs}) < len(pairs):
        raise ValueError(f"{name} must name each adapter once, got {shown(value)}")
    return pairs


def list_of_texts(most: int, longest: int) -> Reader:
    """A text or a list of texts."""

    def read(name: str, value: Any) -> list[str]:
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise TypeError(f"{name} must be a text or a list of texts, got {shown(value)}")
        if len(found) > most or any(len(each) > longest for each in found):
            raise ValueError(f"{name} must be at most {most} texts of at most {longest} characters")
        return found

    return read
