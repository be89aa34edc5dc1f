"""Every exception that llamaq raises on purpose. A message says what was expected, what came, where, and what to do."""

from __future__ import annotations

import copyreg
from typing import Any, TypeVar

__all__ = [
    "AmbiguousModelError",
    "CancelledError",
    "ChatTemplateError",
    "ClosedError",
    "ContextOverflowError",
    "DownloadError",
    "GGUFError",
    "ISAError",
    "ImageError",
    "InsufficientMemoryError",
    "LlamaqError",
    "ModelError",
    "ModelNotFoundError",
    "QuantizationError",
    "ReceiptError",
    "SamplingError",
    "SessionError",
    "StructureError",
    "TokenizerError",
    "naming",
    "not_numbers",
]

_E = TypeVar("_E", bound=Exception)


def naming(error: _E, *arguments: str) -> _E:
    """The error, whose message names these arguments of the library, each for the first time where it means the
    argument. The command line puts its options in their place."""
    error.__dict__["arguments"] = arguments
    return error


class LlamaqError(Exception):
    """Base of all errors of this library; ``except LlamaqError`` catches whatever llamaq reports."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy make an error anew without ``__init__``, which in subclasses takes more than ``args``."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class GGUFError(LlamaqError):
    """A file is not GGUF, is damaged, or says something that its own size contradicts."""


class ModelError(LlamaqError):
    """The file is sound, but it needs an architecture, a format or a tensor that llamaq cannot run."""


class ModelNotFoundError(LlamaqError):
    """No model has this name; the message says where it was looked for, and how to get one."""


class AmbiguousModelError(LlamaqError):
    """Several models may be meant by a name; ``names`` has theirs, each with the place where it lies."""

    def __init__(self, message: str, *, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names


class DownloadError(LlamaqError):
    """A model cannot be had from the hub: it is not there, is gated, or there is no way to it."""


def not_numbers(what: str) -> ModelError:
    """NaN or infinities came out of the model where numbers were expected."""
    return ModelError(
        f"the model gave {what} that are not numbers: weights in its file are damaged; download or convert it again"
    )


class QuantizationError(LlamaqError):
    """A tensor cannot be quantized as asked: weights that are no numbers, importance that does not fit it."""


class SamplingError(LlamaqError):
    """No token is left to choose from: settings, logit processors or a structure forbid all of them."""


class StructureError(LlamaqError):
    """A grammar, schema or pattern that cannot be used, or that grew beyond its limits; the message names the part."""


class TokenizerError(LlamaqError):
    """The file's tokenizer is unknown or inconsistent, or an id lies outside the vocabulary."""


class ChatTemplateError(LlamaqError):
    """A model has no chat template, none was chosen, or it cannot render these messages."""


class ImageError(LlamaqError):
    """A picture cannot be read, is damaged, or is larger than llamaq takes."""


class SessionError(LlamaqError):
    """A session cannot be saved; or its file is none, is damaged, or is of another model."""


class ReceiptError(LlamaqError):
    """A receipt cannot be made or read, or cannot be verified here: it is of another model, or not exact."""


class ContextOverflowError(LlamaqError):
    """A prompt does not fit the context; ``needed`` and ``available`` are counts of tokens."""

    def __init__(self, message: str, *, needed: int, available: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available


class InsufficientMemoryError(LlamaqError):
    """Weights, cache and scratch would not fit; ``needed`` and ``available`` are bytes."""

    def __init__(self, message: str, *, needed: int, available: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available


class ISAError(LlamaqError):
    """``LLAMAQ_ISA`` names a level that is unknown or that this CPU lacks."""


class CancelledError(LlamaqError):
    """A forward pass was stopped by another thread; the cache is as it was before the step."""


class ClosedError(LlamaqError):
    """A model was asked for something after it was closed."""
