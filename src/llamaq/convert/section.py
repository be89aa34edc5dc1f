"""JSON that somebody else wrote: every value is checked when it is asked for, and a refusal says where it stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from llamaq.convert.files import MiB, read_bytes
from llamaq.errors import ModelError

__all__ = ["Section", "is_text", "read_json", "shown", "text_config"]

T = TypeVar("T")

_DEEPEST = 32  # objects within objects; real files have ten
_INT_MAX = 2**31 - 1
_FLOAT_MAX = 3.4e38  # GGUF stores numbers as binary32
_FLOAT_MIN = 1.2e-38
_KINDS: dict[type, str] = {str: "a text", bool: "true or false", dict: "an object", list: "a list"}


class Section:
    """An object of a JSON file. A value of null counts as absent. All refusals are ModelErrors.

    ``path`` is where the object stands in its file, empty for the whole.
    """

    def __init__(self, values: Mapping[str, Any], file: str, path: tuple[str, ...] = ()) -> None:
        self.values = values
        self._file, self._path = file, path
        if len(path) > _DEEPEST:
            raise ModelError(f"{file}: {'.'.join(path[:3])}...: it is nested too deeply")

    def __bool__(self) -> bool:
        return bool(self.values)

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def error(self, key: str, expected: str) -> ModelError:
        """A refusal of the value of ``key``."""
        got = shown(self.values[key]) if key in self.values else "nothing"
        place = ".".join((*self._path, key))
        return ModelError(f"{self._file}: {place}: expected {expected}, got {got}")

    def get(self, key: str, kind: type[T]) -> T | None:
        """A value of type ``kind`` (str, bool, dict or list), None where it is absent."""
        value = self.values.get(key)
        if value is not None and (not isinstance(value, kind) or (kind is str and not is_text(value))):
            raise self.error(key, _KINDS[kind])
        return value

    def text(self, key: str, default: str = "") -> str:
        """A text; ``default`` where it is absent."""
        value = self.get(key, str)
        return default if value is None else value

    def flag(self, key: str, default: bool = False) -> bool:
        """A boolean; ``default`` where it is absent."""
        value = self.get(key, bool)
        return default if value is None else value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number that binary32 can hold."""
        value = self._given(key, default)
        if not _is_number(value) or not _FLOAT_MIN < value < _FLOAT_MAX:
            raise self.error(key, "a positive number")
        return float(value)

    def integer(self, key: str, default: int | None = None, *, low: int = 1) -> int:
        """An integer of the range; 4.0 is one, too."""
        value = self._given(key, default)
        if not _is_number(value) or not value >= low:
            raise self.error(key, "a positive number" if low == 1 else f"a number from {low} on")
        if value > _INT_MAX or value != int(value):
            raise self.error(key, f"an integer up to {_INT_MAX}")
        return int(value)

    def _given(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        return default if value is None else value

    def numbers(self, key: str, count: int) -> list[float]:
        """A list of ``count`` positive numbers."""
        values = self.get(key, list) or []
        if len(values) != count:
            raise self.error(key, f"a list of {count} numbers")
        inner = Section({f"{key}[{i}]": value for i, value in enumerate(values)}, self._file, self._path)
        return [inner.number(name) for name in inner.values]

    def integers(self, key: str) -> list[int]:
        """An integer, or a list of them, such as ``eos_token_id`` may be; empty where it is absent."""
        value = self.values.get(key)
        values = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(x, int) and not isinstance(x, bool) for x in values):
            raise self.error(key, "an integer or a list of integers")
        return values

    def texts(self, key: str) -> list[str]:
        """A list of texts; empty where it is absent."""
        values = self.get(key, list) or []
        if not all(is_text(x) for x in values):
            raise self.error(key, "a list of texts")
        return values

    def extended(self, values: Mapping[str, Any]) -> Section:
        """The same object with further values."""
        return Section({**self.values, **values}, self._file, self._path)

    def section(self, key: str) -> Section:
        """The object there; an empty one where it is absent."""
        return Section(self.get(key, dict) or {}, self._file, (*self._path, key))

    def sections(self, key: str) -> list[Section]:
        """The objects of the list there; none where it is absent."""
        values = self.get(key, list) or []
        if not all(isinstance(x, dict) for x in values):
            raise self.error(key, "a list of objects")
        return [Section(x, self._file, (*self._path, f"{key}[{i}]")) for i, x in enumerate(values)]

    def numbered(self, key: str) -> Iterator[tuple[str, Section]]:
        """Keys and objects of an object of objects."""
        inner = self.section(key)
        for name in inner.values:
            yield name, inner.section(name)


def text_config(config: Section) -> Section:
    """The configuration of the model for text; those that see images have it inside of theirs, and ``vision_config``
    beside it, which is kept."""
    inner = config.section("text_config")
    return inner.extended({"vision_config": config.values.get("vision_config")}) if inner else config


def read_json(path: Path, most: int = 16 * MiB) -> Section:
    """The object in a JSON file of up to ``most`` bytes, in UTF-8, UTF-16 or UTF-32; empty where there is no file."""
    data = read_bytes(path, most)
    if data is None:
        return Section({}, path.name)
    try:
        found = json.loads(data)
    except RecursionError:
        raise ModelError(f"{path}: expected JSON, got lists or objects that are nested too deeply") from None
    except ValueError as error:
        raise ModelError(f"{path}: expected JSON: {error}; download it again") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a JSON object, got {shown(found)}; download it again")
    return Section(found, path.name)


def shown(value: object) -> str:
    """A value as a message shows it: short, whatever it is."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = "null" if value is None else repr(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_text(value: object) -> bool:
    """Whether it is a str that UTF-8 can spell; JSON's escapes can make one with lone surrogates."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
