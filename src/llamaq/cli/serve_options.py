"""The options of ``llamaq serve``: llama-server's names where they mean the same."""

from __future__ import annotations

import argparse
import os
from typing import Any

from llamaq.cli.options import Parser, add_context, add_loading, add_model, at_least, from_env
from llamaq.cli.templates import add_template

__all__ = ["ABOUT", "add_options"]

ABOUT = """\
Answers clients of OpenAI's protocol: /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/models, /health
(docs/server.md). It needs pip install 'llamaq[server]'.

Answers are the same alone and in company. Without a MODEL it serves the one that comes with llamaq. SIGTERM or Ctrl-C
lets what runs end, at most 30 seconds; a second one ends it at once. One line about each request goes to stderr, never
what it says."""

_HARMLESS = {
    0: ("--mlock", "--no-mmap", "--mmap", "--jinja", "-cb", "--cont-batching", "--no-warmup",
        "--no-slots", "--embedding", "--embeddings", "-kvu", "--kv-unified", "--cache-prompt"),
    1: ("-ngl", "--gpu-layers", "--n-gpu-layers", "-fa", "--flash-attn", "-tb", "--threads-batch", "--threads-http",
        "-ub", "--ubatch-size", "--cache-reuse", "--numa", "--prio", "-mg", "--main-gpu"),
}  # fmt: skip
"""Options of llama-server, by the number of their values, for what llamaq does anyway or has no use for."""

_REFUSED = {
    "--lora": "adapters are not served",
    "--mmproj": "models read text only",
    "--slots": "there are no slots",
    "--slot-save-path": "there are no slots",
    "--rerank": "models that rank cannot be run",
    "--reranking": "models that rank cannot be run",
    "--models-dir": "one model is served",
    "--model-draft": "there is no speculative decoding",
    "-md": "there is no speculative decoding",
    "--no-jinja": "templates are always Jinja's",
    "--reasoning-format": "reasoning is always told from the answer",
    "--reasoning-budget": "reasoning cannot be cut short",
    "--props": "there is no such route",
    "--path": "the web page is llamaq's own",
}
"""Options of llama-server that cannot be honoured."""


class _Harmless(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), option])


class _Refused(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        parser.error(f"{option} cannot be honoured: {self.const}")


def add_options(parser: Parser) -> None:
    """All of them."""
    add_model(parser)
    _add_server(parser)
    _add_access(parser)
    group = parser.add_argument_group("chat")
    add_template(group)
    group = parser.add_argument_group("model and machine")
    add_context(group, "tokens that one text may have, and all that run have room for; 0: the model's own, or what "
                "memory allows")  # fmt: skip
    add_loading(group)
    for count, names in _HARMLESS.items():
        parser.add_argument(*names, dest="harmless", action=_Harmless, nargs=count, help=argparse.SUPPRESS)
    for name, why in _REFUSED.items():
        parser.add_argument(name, dest="refused", action=_Refused, const=why, nargs="?", help=argparse.SUPPRESS)


def _add_server(parser: Parser) -> None:
    add = parser.add_argument_group("server").add_argument
    add("--host", metavar="NAME", default=from_env("LLAMA_ARG_HOST", "127.0.0.1"),
        help="address to listen on; others than this machine's own need a key "
        "(default 127.0.0.1, env LLAMA_ARG_HOST)")  # fmt: skip
    add("--port", metavar="N", type=_port, default=from_env("LLAMA_ARG_PORT", "8080"),
        help="0: any that is free (default 8080, env LLAMA_ARG_PORT)")  # fmt: skip
    add("-a", "--alias", metavar="NAMES", default=from_env("LLAMA_ARG_ALIAS", ""),
        help="names of the model for clients, with commas between; * among them: any name will do (default: the "
        "file's, env LLAMA_ARG_ALIAS)")  # fmt: skip
    add("-np", "--parallel", metavar="N", type=at_least(1), default=from_env("LLAMA_ARG_N_PARALLEL", "4"),
        help="answers that run at once (default 4, env LLAMA_ARG_N_PARALLEL)")  # fmt: skip
    add("--max-queue", metavar="N", type=at_least(0), default="64",
        help="requests that may wait; others are told to come again (default 64)")  # fmt: skip
    add("--metrics", action="store_true", default=bool(os.environ.get("LLAMA_ARG_ENDPOINT_METRICS")),
        help="serve numbers for Prometheus at /metrics (env LLAMA_ARG_ENDPOINT_METRICS)")  # fmt: skip
    add("--no-ui", "--no-webui", dest="page", action="store_false", help="serve no web page")
    add("--strict", action="store_true", help="refuse fields that are unknown, rather than name them in a header")
    add("--log-format", choices=("text", "json", "none"), default="text", help="of the line about each request")


def _add_access(parser: Parser) -> None:
    add = parser.add_argument_group("access").add_argument
    add("--api-key", metavar="KEY", action="append", default=[from_env("LLAMA_API_KEY", "")],
        help="requests need this key, or one of several with commas between; may be repeated "
        "(env LLAMA_API_KEY)")  # fmt: skip
    add("--api-key-file", metavar="FILE", default=os.environ.get("LLAMA_ARG_API_KEY_FILE") or None,
        help="the same from a file, a key a line, # before remarks (env LLAMA_ARG_API_KEY_FILE)")  # fmt: skip
    add("--no-api-key", action="store_true", help="with --host: let other machines use the server without a key")
    add("--allowed-hosts", metavar="NAMES", default="",
        help="names by which clients reach this server; *.NAME: any below it; * any (default: this machine's own; any "
        "where there are keys)")  # fmt: skip
    add("--cors-origins", metavar="ORIGINS", default="",
        help="web pages that may use the server from browsers; localhost: those of this machine; *: all "
        "(default none)")  # fmt: skip
    add("--ssl-cert-file", metavar="FILE", default=os.environ.get("LLAMA_ARG_SSL_CERT_FILE") or None,
        help="certificate for HTTPS, in PEM (env LLAMA_ARG_SSL_CERT_FILE)")  # fmt: skip
    add("--ssl-key-file", metavar="FILE", default=os.environ.get("LLAMA_ARG_SSL_KEY_FILE") or None,
        help="its key (env LLAMA_ARG_SSL_KEY_FILE)")  # fmt: skip


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)
