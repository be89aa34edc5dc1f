"""Numbers for Prometheus, in a registry of the server's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llamaq.errors import LlamaqError
from llamaq.serving.stream import Usage

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

        self._llama_server = _LlamaServer(prometheus, self._registry, admission)

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
            self._llama_server.answered(usage)
            self._first.observe(usage.prompt_seconds)
            if usage.completion_tokens > 1:
                self._between.observe(usage.completion_seconds / (usage.completion_tokens - 1))

    def responded(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def page(self) -> tuple[bytes, str] | None:
        """What Prometheus reads, and its media type."""
        return self._library.generate_latest(self._registry), self._library.CONTENT_TYPE_LATEST


class _LlamaServer:
    """The numbers that llama-server's dashboards read, by its names; those of steps and of speculation are not here."""

    def __init__(self, prometheus: Any, registry: Any, admission: Admission) -> None:
        def counter(name: str, about: str) -> Any:
            return prometheus.Counter(f"llamacpp:{name}", about, registry=registry)

        self._prompt = counter("prompt_tokens", "Tokens of prompts that were read, without those from the cache")
        self._cached = counter("prompt_tokens_cached", "Tokens of prompts that came from the cache")
        self._prompt_seconds = counter("prompt_seconds", "Seconds until prompts were read, of all answers together")
        self._predicted = counter("tokens_predicted", "Tokens of answers")
        self._predicted_seconds = counter("tokens_predicted_seconds", "Seconds that answers took, all together")
        self._sums = Usage(0, 0, 0, 0.0, 0.0)
        self._longest = 0
        for name, about, value in (
            ("n_tokens_max", "Tokens of the longest text, prompt and answer", lambda: self._longest),
            ("prompt_tokens_seconds", "Tokens of prompts read in a second", self._prompt_rate),
            ("predicted_tokens_seconds", "Tokens of an answer in a second", self._predicted_rate),
            ("requests_processing", "Places taken by answers", lambda: admission.running),
            ("requests_deferred", "Requests that wait for a place", lambda: admission.waiting),
        ):
            prometheus.Gauge(f"llamacpp:{name}", about, registry=registry).set_function(value)

    def answered(self, usage: Usage) -> None:
        read = usage.prompt_tokens - usage.cached_tokens
        self._prompt.inc(read)
        self._cached.inc(usage.cached_tokens)
        self._prompt_seconds.inc(usage.prompt_seconds)
        self._predicted.inc(usage.completion_tokens)
        self._predicted_seconds.inc(usage.completion_seconds)
        sums = self._sums
        self._sums = Usage(
            sums.prompt_tokens + read, 0, sums.completion_tokens + usage.completion_tokens,
            sums.prompt_seconds + usage.prompt_seconds, sums.completion_seconds + usage.completion_seconds,
        )  # fmt: skip
        self._longest = max(self._longest, usage.prompt_tokens + usage.completion_tokens)

    def _prompt_rate(self) -> float:
        return self._sums.prompt_tokens / (self._sums.prompt_seconds or 1.0)

    def _predicted_rate(self) -> float:
        return self._sums.completion_tokens / (self._sums.completion_seconds or 1.0)
