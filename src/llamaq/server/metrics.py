"""Numbers for Prometheus, in a registry of the server's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llamaq.errors import LlamaqError

if TYPE_CHECKING:
    from llamaq.engine.kv_cache import KVCache
    from llamaq.server.admission import Admission
    from llamaq.server.models import Models
    from llamaq.serving.stream import Stream

__all__ = ["Metrics", "no_metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class NoMetrics:
    """For a server that counts nothing."""

    def answered(self, streams: Sequence[Stream]) -> None:
        pass

    def responded(self, route: str, status: int, seconds: float) -> None:
        pass

    def page(self) -> tuple[bytes, str] | None:
        return None


no_metrics = NoMetrics()


class Metrics(NoMetrics):
    """Raises ``LlamaqError`` where prometheus_client is missing."""

    def __init__(self, models: Models, admission: Admission) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError:
            raise LlamaqError("metrics need prometheus_client: pip install 'llamaq[server]'") from None
        self._library: Any = prometheus
        self._registry = prometheus.CollectorRegistry()
        own: dict[str, Any] = {"registry": self._registry, "namespace": "llamaq"}
        self._requests = prometheus.Counter("requests", "Requests by route and status", ["route", "status"], **own)
        self._seconds = prometheus.Histogram(
            "request_seconds", "Seconds from request to the end of its answer", ["route"], buckets=_SECONDS, **own
        )
        self._prompt = prometheus.Counter("prompt_tokens", "Tokens of prompts, read or from the cache", ["from"], **own)
        self._generated = prometheus.Counter("generated_tokens", "Tokens of answers", **own)
        self._first = prometheus.Histogram(
            "time_to_first_token_seconds", "Seconds from an answer's begin to its first token", buckets=_SECONDS, **own
        )
        self._between = prometheus.Histogram(
            "time_per_token_seconds", "Seconds between tokens, the mean of an answer", buckets=_SECONDS, **own
        )

        def in_caches(count: Callable[[KVCache], int]) -> int:
            return sum(count(served.llm.model.scheduler.room.cache) for served in models.loaded)

        for name, about, value in (
            ("answers_running", "Places taken by answers", lambda: admission.running),
            ("requests_waiting", "Requests that wait for a place", lambda: admission.waiting),
            ("cache_tokens", "Tokens that the cache has room for", lambda: in_caches(lambda cache: cache.n_ctx)),
            ("cache_empty_tokens", "Those that hold no text", lambda: in_caches(lambda cache: cache.free_tokens)),
        ):
            prometheus.Gauge(name, about, **own).set_function(value)

    def answered(self, streams: Sequence[Stream]) -> None:
        for stream in streams:
            usage = stream.usage
            if not usage.completion_tokens:
                continue
            self._prompt.labels("cache").inc(usage.cached_tokens)
            self._prompt.labels("computed").inc(usage.prompt_tokens - usage.cached_tokens)
            self._generated.inc(usage.completion_tokens)
            self._first.observe(usage.prompt_seconds)
            if usage.completion_tokens > 1:
                self._between.observe(usage.completion_seconds / (usage.completion_tokens - 1))

    def responded(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def page(self) -> tuple[bytes, str] | None:
        """What Prometheus reads, and its media type."""
        return self._library.generate_latest(self._registry), self._library.CONTENT_TYPE_LATEST
