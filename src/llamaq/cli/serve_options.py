"""The options of ``llamaq serve``: llama-server's names where they mean the same."""

from __future__ import annotations

import argparse
import math
import os

from llamaq.cli.llama_cpp import add_llama_cpp_options, refuse
from llamaq.cli.llama_server import HARMLESS, REFUSED
from llamaq.cli.options import (
    Parser,
    add_cache_dir,
    add_context,
    add_loading,
    add_model,
    add_projector,
    add_speculation,
    at_least,
    from_env,
    number,
    switched,
)
from llamaq.cli.templates import add_template

__all__ = ["ABOUT", "MOST_MODELS", "MOST_REQUESTS", "add_options"]

MOST_MODELS = 1024
MOST_REQUESTS = 100_000
_SHORTEST = 0.001  # seconds

ABOUT = """\
Answers clients of OpenAI, Anthropic, Ollama (--port 11434) and llama-server on one port, and browsers with a page
(docs/server.md). It needs pip install 'llamaq[server]'.

Answers are the same alone and in company. Without a MODEL it serves the one that comes with llamaq; several, or those
of a folder, are loaded when they are asked for by name. SIGTERM or Ctrl-C lets what runs end; a second one ends it at
once. One line about each request goes to stderr, never what it says."""


def add_options(parser: Parser) -> None:
    """All of them."""
    add_model(parser, several=True)
    _add_models(parser)
    _add_server(parser)
    _add_limits(parser)
    _add_access(parser)
    group = parser.add_argument_group("chat")
    add_template(group)
    group.add_argument("--reasoning-format", choices=("auto", "deepseek", "none"),
                       default=from_env("LLAMA_ARG_THINK", "auto"),
                       help="none: reasoning stays in the text that OpenAI's clients get; else it comes apart "
                       "(default auto, env LLAMA_ARG_THINK)")  # fmt: skip
    group = parser.add_argument_group("model and machine")
    add_context(group, "tokens that one text may have, and all that run have room for; 0: the model's own, or what "
                "memory allows")  # fmt: skip
    add_loading(group)
    add_cache_dir(group, "none")
    group.add_argument("--cache-shared", action="store_true",
                       help="with --cache-dir: one API key may find what another's requests left there")  # fmt: skip
    add_speculation(group)
    add_projector(group)
    refuse(parser, REFUSED)
    add_llama_cpp_options(parser, HARMLESS)


def _add_models(parser: Parser) -> None:
    add = parser.add_argument_group("models").add_argument
    add("--models-dir", metavar="DIR", default=os.environ.get("LLAMA_ARG_MODELS_DIR") or None,
        help="serve the GGUF files in this folder and those below (env LLAMA_ARG_MODELS_DIR)")  # fmt: skip
    add(
        "--models-max",
        metavar="N",
        type=at_least(0),
        default=from_env("LLAMA_ARG_MODELS_MAX", "4"),
        help="that are in memory at once; 0: as many as it has room for (default 4, env LLAMA_ARG_MODELS_MAX)",
    )
    add(
        "--sleep-idle-seconds",
        metavar="N",
        type=_for_ever,
        default=from_env("LLAMA_ARG_SLEEP_IDLE_SECONDS", "-1"),
        help="unload a model that nobody has asked for so long; -1: never (default -1, env "
        "LLAMA_ARG_SLEEP_IDLE_SECONDS)",
    )
    add("--allow-pull", action="store_true", help="let clients fetch models from the Hugging Face hub (/api/pull), and "
        "serve those in its cache")  # fmt: skip
    add(
        "-a",
        "--alias",
        metavar="NAMES",
        default=from_env("LLAMA_ARG_ALIAS", ""),
        help="names of the only model for clients, with commas between; *: where there are several, any other name "
        "means the first (default: the file's, env LLAMA_ARG_ALIAS)",
    )


def _add_limits(parser: Parser) -> None:
    add = parser.add_argument_group("limits").add_argument
    add(
        "--max-queue",
        metavar="N",
        type=at_least(0),
        default="64",
        help="requests that may wait; others are told to come again (default 64)",
    )
    add(
        "--max-per-key",
        metavar="N",
        type=at_least(0),
        default="0",
        help="requests of one key that may wait or run; 0: no limit of its own (default 0)",
    )
    add("--max-body", metavar="MIB", type=at_least(1), default="16", help="size of a request (default 16 MiB)")
    for name, default, kind, about in (
        ("--queue-timeout", "600", _seconds, "a request may wait for a place, or for room for its model"),
        ("--body-timeout", "30", _seconds, "a request may take to come"),
        ("--send-timeout", "60", _some_seconds, "a client may read nothing of its answer"),
        ("--drain-timeout", "30", _seconds, "what runs has to end after a signal"),
        ("--watchdog", "300", _seconds, "a step of a model may take before /livez says that it is stuck"),
    ):
        add(name, metavar="SECONDS", type=kind, default=default, help=f"that {about} (default {default})")
    add(
        "-to",
        "--timeout",
        metavar="SECONDS",
        type=_for_ever,
        default=from_env("LLAMA_ARG_TIMEOUT", "-1"),
        help="that a request may take from its body to the end of its answer; -1: any (default -1, env "
        "LLAMA_ARG_TIMEOUT)",
    )
    add(
        "--sse-ping-interval",
        metavar="SECONDS",
        type=_ping,
        default=from_env("LLAMA_ARG_SSE_PING_INTERVAL", "15"),
        help="between signs of life in a silent stream; -1: none (default 15, env LLAMA_ARG_SSE_PING_INTERVAL)",
    )


def _add_server(parser: Parser) -> None:
    add = parser.add_argument_group("server").add_argument
    add("--host", metavar="NAME", default=from_env("LLAMA_ARG_HOST", "127.0.0.1"),
        help="address to listen on; others than this machine's own need a key "
        "(default 127.0.0.1, env LLAMA_ARG_HOST)")  # fmt: skip
    add("--port", metavar="N", type=_port, default=from_env("LLAMA_ARG_PORT", "8080"),
        help="0: any that is free (default 8080, env LLAMA_ARG_PORT)")  # fmt: skip
    add("-np", "--parallel", metavar="N", type=at_least(1), default=from_env("LLAMA_ARG_N_PARALLEL", "4"),
        help="answers that run at once (default 4, env LLAMA_ARG_N_PARALLEL)")  # fmt: skip
    add("--metrics", action="store_true", default=switched("LLAMA_ARG_ENDPOINT_METRICS"),
        help="serve numbers for Prometheus at /metrics (env LLAMA_ARG_ENDPOINT_METRICS)")  # fmt: skip
    add("--slots", action="store_true", default=switched("LLAMA_ARG_ENDPOINT_SLOTS"),
        help="tell what runs at /slots (env LLAMA_ARG_ENDPOINT_SLOTS)")  # fmt: skip
    add("--no-ui", "--no-webui", dest="page", action="store_false", default=switched("LLAMA_ARG_UI", default=True),
        help="serve no web page (as env LLAMA_ARG_UI=0)")  # fmt: skip
    add("--ui", "--webui", dest="page", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    add(
        "--strict",
        action="store_true",
        help="refuse fields and names of models that are unknown, rather than name them in a header",
    )
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
    add("--cors-origins", metavar="ORIGINS", default=from_env("LLAMA_ARG_CORS_ORIGINS", ""),
        help="web pages that may use the server from browsers; localhost: those of this machine; *: all "
        "(default none, env LLAMA_ARG_CORS_ORIGINS)")  # fmt: skip
    add("--ssl-cert-file", metavar="FILE", default=os.environ.get("LLAMA_ARG_SSL_CERT_FILE") or None,
        help="certificate for HTTPS, in PEM (env LLAMA_ARG_SSL_CERT_FILE)")  # fmt: skip
    add("--ssl-key-file", metavar="FILE", default=os.environ.get("LLAMA_ARG_SSL_KEY_FILE") or None,
        help="its key (env LLAMA_ARG_SSL_KEY_FILE)")  # fmt: skip


def _seconds(text: str) -> float:
    found = float(number(text))
    if not 0 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds, 0 or more, got {text!r}")
    return found


def _some_seconds(text: str) -> float:
    """What is looked at so often: not without an end."""
    if (found := _seconds(text)) < _SHORTEST:
        raise argparse.ArgumentTypeError(f"expected seconds, {_SHORTEST} or more, got {text!r}")
    return found


def _ping(text: str) -> float:
    """Seconds; for llama-server -1 is none."""
    return math.inf if text == "-1" else _some_seconds(text)


def _for_ever(text: str) -> float:
    """Seconds, of which -1 has no end."""
    return math.inf if text == "-1" else _seconds(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)
