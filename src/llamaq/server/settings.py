"""What a server is told when it starts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llamaq.boundary.arguments import flag, instance, one_of, real, text, texts, whole

__all__ = ["LOCAL_HOSTS", "Settings"]

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1", "*.localhost")
"""Names of this machine, for itself alone."""

_COUNTS = {"parallel": (1, 1024), "max_queue": (0, 100_000), "max_body": (1, 2**31), "models_max": (1, 1024),
           "key_requests": (1, 100_000)}  # fmt: skip
_SECONDS = (
    "queue_seconds", "body_seconds", "send_seconds", "ping_seconds", "drain_seconds", "watchdog_seconds",
    "idle_seconds", "answer_seconds",
)  # fmt: skip
_FLAGS = ("allow_pull", "metrics", "slots", "page", "strict", "cache_shared")
_MAY_BE_FOR_EVER = ("idle_seconds", "answer_seconds", "ping_seconds")
_SHORTEST = {"ping_seconds": 0.001, "send_seconds": 0.001}
"""Of those that are watched as answers are sent; less would keep the processor busy."""
_LOCAL_ORIGIN = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server answers. Times are seconds.

    ``names`` are those that clients may call the model by, its own first ("*": any); none: the file's name, as where
    there are several models. ``load`` are the arguments of ``LLM.load`` for models that are given as files;
    ``models_max`` of them are in memory at once, each until nobody has asked for it for ``idle_seconds`` (infinity: it
    stays).

    Where there are ``api_keys``, a request needs one. ``hosts`` are the names by which clients may reach the server
    ("*": any; "*.example.com": any below it), which keeps web pages from reaching it by a name of their own; None:
    those of this machine, or any where there are keys. Web pages of ``cors_origins`` may use it from browsers ("*":
    any; "localhost": those of this machine).

    ``parallel`` answers run at once and ``max_queue`` requests wait, each for ``queue_seconds`` at most; one key may
    have ``key_requests`` there. A request may have ``max_body`` bytes, which must come within ``body_seconds``, and its
    answer within ``answer_seconds``; who does not read for ``send_seconds`` loses the answer. A stream that is silent
    gets a sign of life every ``ping_seconds`` (infinity: none). At the end, what runs gets ``drain_seconds``. Where a
    model does not end a step within ``watchdog_seconds``, /livez says so.

    ``allow_pull`` lets clients fetch models from the Hugging Face hub into its cache, and serves those that are there;
    ``metrics`` serves Prometheus' numbers, ``slots`` what runs, ``page`` the web page; ``strict`` refuses unknown
    fields, and unknown names of models where there is one alone; ``cache_shared`` lets one key find what another's
    requests have left in the cache on disk.
    ``template`` and ``template_kwargs`` are those of ``LLM.chat``; with ``reasoning_format`` "none" (else
    "auto" or "deepseek") OpenAI's clients get reasoning within the text.

    Raises ``TypeError`` and ``ValueError``.
    """

    names: Sequence[str] = ()
    load: Mapping[str, Any] = field(default_factory=dict)
    models_max: int = 4
    idle_seconds: float = math.inf
    api_keys: Sequence[str] = field(default=(), repr=False)
    hosts: Sequence[str] | None = None
    cors_origins: Sequence[str] = ()
    parallel: int = 4
    max_queue: int = 64
    key_requests: int = 100_000
    queue_seconds: float = 600.0
    answer_seconds: float = math.inf
    max_body: int = 16 * 2**20
    body_seconds: float = 30.0
    send_seconds: float = 60.0
    ping_seconds: float = 15.0
    drain_seconds: float = 30.0
    watchdog_seconds: float = 300.0
    allow_pull: bool = False
    metrics: bool = False
    slots: bool = False
    page: bool = True
    strict: bool = False
    cache_shared: bool = False
    template: str | None = None
    reasoning_format: str = "auto"
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {name: whole(name, getattr(self, name), *limits) for name, limits in _COUNTS.items()}
        for name in _SECONDS:
            if not (name in _MAY_BE_FOR_EVER and getattr(self, name) == math.inf):
                checked[name] = real(name, getattr(self, name), _SHORTEST.get(name, 0.0))
        checked |= {name: texts(name, getattr(self, name)) for name in ("names", "api_keys", "cors_origins")}
        checked |= {name: flag(name, getattr(self, name)) for name in (*_FLAGS,)}
        if self.hosts is not None:
            checked["hosts"] = texts("hosts", self.hosts)
        elif not checked["api_keys"]:
            checked["hosts"] = LOCAL_HOSTS
        one_of("reasoning_format", self.reasoning_format, ("auto", "deepseek", "none"))
        if self.template is not None:
            text("template", self.template)
        instance("load", self.load, Mapping)  # type: ignore[type-abstract]
        instance("template_kwargs", self.template_kwargs, Mapping)  # type: ignore[type-abstract]
        if not all(checked["api_keys"]):
            raise ValueError("api_keys must not be empty texts")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def is_host(self, host: str) -> bool:
        """Whether a request may name this host, without its port."""
        host = host.lower().rstrip(".")
        return self.hosts is None or any(_is_under(host, allowed.lower()) for allowed in self.hosts)

    def is_origin(self, origin: str) -> bool:
        """Whether web pages of this origin may use the server."""
        if "localhost" in self.cors_origins and _LOCAL_ORIGIN.fullmatch(origin):
            return True
        return "*" in self.cors_origins or origin in self.cors_origins

    @property
    def origin_pattern(self) -> str | None:
        """The origins that a word stands for, as a regular expression."""
        return _LOCAL_ORIGIN.pattern if "localhost" in self.cors_origins else None


def _is_under(host: str, allowed: str) -> bool:
    return allowed == "*" or host == allowed or (allowed.startswith("*.") and host.endswith(allowed[1:]))
