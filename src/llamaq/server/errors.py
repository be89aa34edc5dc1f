"""What is told to a client that cannot be answered; each protocol has its own words for it."""

from __future__ import annotations

import logging
from typing import Any

from llamaq.errors import (
    CancelledError,
    ChatTemplateError,
    ClosedError,
    ContextOverflowError,
    ImageError,
    ModelError,
    SamplingError,
    StructureError,
    TokenizerError,
)

__all__ = ["Gone", "Refusal", "refusal_of", "shutting_down"]

logger = logging.getLogger("llamaq.server")

_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    405: "invalid_request_error", 408: "invalid_request_error", 413: "invalid_request_error",
    415: "invalid_request_error", 429: "rate_limit_error", 501: "not_supported_error", 503: "unavailable_error",
}  # fmt: skip
_FIELDS = {"template_kwargs": "chat_template_kwargs"}
"""Fields that are called otherwise than the library's argument."""
_ASKED_WRONG = (ChatTemplateError, ImageError, SamplingError, StructureError, TokenizerError)


class Gone(Exception):
    """The client has hung up: nobody waits for an answer."""


class Refusal(Exception):
    """An answer that is an error. ``param`` is the field at fault, ``more`` what else the error object has,
    ``retry_after`` the seconds after which it is worth to try again."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, type: str | None = None,
        retry_after: int | None = None, headers: dict[str, str] | None = None, more: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.type = type or _TYPES.get(status, "server_error")
        self.headers = {**(headers or {}), **({} if retry_after is None else {"retry-after": str(retry_after)})}
        self.more = more or {}

    @property
    def body(self) -> dict[str, Any]:
        """In OpenAI's form."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": {**error, **self.more}}


def shutting_down() -> Refusal:
    """To whoever comes, waits or still reads at the end."""
    return Refusal(503, "the server is shutting down", retry_after=5)


def refusal_of(error: Exception, *, param: str | None = None, asked: bool = False) -> Refusal:
    """What to tell of an error; ``asked`` says that a ``ValueError``, ``TypeError`` or ``ModelError`` is about what the
    client asked for, and ``param`` which field that was where the error names none."""
    if isinstance(error, Refusal):
        return error
    message = " ".join(str(error).splitlines())
    if isinstance(error, ContextOverflowError):
        counts = {"n_prompt_tokens": error.needed, "n_ctx": error.available}
        message = f"the prompt has {error.needed} tokens, the context {error.available}; shorten it"
        kind = "exceed_context_size_error"
        return Refusal(400, message, param=param, code="context_length_exceeded", type=kind, more=counts)
    if isinstance(error, _ASKED_WRONG) or (asked and isinstance(error, ValueError | TypeError | ModelError)):
        for argument in getattr(error, "arguments", ()):
            param = _FIELDS.get(argument, argument)
            message = message.replace(argument, param)
        return Refusal(400, message if param is None or param in message else f"{param}: {message}", param=param)
    if isinstance(error, ClosedError | CancelledError):
        return shutting_down()
    logger.error("an answer failed: %s", message, exc_info=error)
    return Refusal(500, "the server failed to answer; its log says why")
