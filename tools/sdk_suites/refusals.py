"""What the suites of SDKs ask for and the server refuses: each entry is a test that must fail, with this error."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ANTHROPIC", "OPENAI", "Refusal"]

_BAD, _MISSING, _ANY = "BadRequestError", "NotFoundError", "APIStatusError"
_STORED = "answers are not stored"


@dataclass(frozen=True)
class Refusal:
    """Tests of an operation such as "create", in a file of the suite: whole, raw and streamed, from both clients; with
    ``only`` those of these kinds of clients. They fail with the SDK's ``error``."""

    file: str
    operation: str
    error: str
    why: str
    only: tuple[str, ...] = ()


_CHAT, _RESPONSES = "chat/test_completions.py", "test_responses.py"

OPENAI = (
    Refusal(_CHAT, "create_with_all_params", _BAD, "asks for audio"),
    *(Refusal(_CHAT, name, _MISSING, _STORED) for name in ("retrieve", "update", "delete")),
    *(Refusal(_CHAT, name, _ANY, _STORED) for name in ("list", "list_with_all_params")),
    Refusal("test_completions.py", "create_with_all_params", _BAD, "ranks answers with best_of"),
    Refusal("test_embeddings.py", "create", "APIResponseValidationError",
            "the strict client asks for base64 and then wants numbers", only=("strict", "aiohttp")),
    Refusal(_RESPONSES, "create", _BAD, "asks for nothing: there is no input"),
    Refusal(_RESPONSES, "create_with_all_params", _BAD, "wants to be answered in the background"),
    *(Refusal(_RESPONSES, name, _MISSING, _STORED) for name in ("retrieve", "retrieve_with_all_params", "delete")),
    *(Refusal(_RESPONSES, name, _MISSING, _STORED) for name in ("cancel", "compact", "compact_with_all_params")),
    Refusal("test_models.py", "delete", _ANY, "models are files of whoever runs the server"),
)  # fmt: skip

ANTHROPIC = (
    Refusal("test_messages.py", "create_with_all_params", _BAD, "gives tools to a model that knows none"),
    Refusal("test_messages.py", "count_tokens_with_all_params", _BAD, "gives tools to a model that knows none"),
)
