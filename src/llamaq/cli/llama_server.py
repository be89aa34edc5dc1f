"""Options and variables of llama-server that ``llamaq serve`` has no use for, beside those that all commands know
(`llama_cpp`): harmless options are taken and named, others refused by their own name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping

from llamaq.cli.sampling_options import SAMPLING

__all__ = ["HARMLESS", "REFUSED", "unread_variables"]

_NO_TOOLS = "no tools run here; clients run those that a model calls"
_THE_PAGE = "the web page keeps its settings in the browser"
_NAMED = "-hf USER/REPO:QUANT names any model of the hub"

REFUSED: dict[tuple[str, ...], str] = {
    ("--slot-save-path",): "there are no slots to save",
    ("--models-preset",): "all models are loaded with the same options",
    ("--no-models-autoload",): "models are loaded when they are asked for",
    ("--props",): "settings do not change while it runs",
    ("--path",): "the web page is llamaq's own",
    ("--ui-config", "--webui-config", "--ui-config-file", "--webui-config-file"): _THE_PAGE,
    ("--ui-mcp-proxy", "--webui-mcp-proxy", "--tools", "--tools-runtime", "--mcp-servers-config", "--mcp-servers-json",
     "-ag", "--agent"): _NO_TOOLS,
    ("--media-path",): "no request reaches a file of this machine; clients send pictures as data: URLs",
    ("--log-prompts-dir",): "what requests say is never written down",
    ("--api-prefix",): "paths are fixed; a proxy may put something before them",
    ("--reuse-port",): "a port has one process",
    ("--cors-methods", "--cors-headers"): "origins that --cors-origins names may send GET and POST with any header",
    ("--cors-credentials",): "a key is a header, not a cookie",
    ("--kv-unified-per-slot",): "-c is what each text may have",
    ("--context-shift",): "an answer ends where the context is full",
    ("-sp", "--special"): "special tokens are no part of a text",
    ("--spm-infill",): "the file says in which order a text is filled in",
    ("--pooling",): "the file says how vectors are made of tokens",
    ("--image-min-tokens", "--image-max-tokens"): "the projector says how many tokens a picture has; --image-edge "
    "makes it smaller",
    ("--reasoning-effort",): "what the template knows does it: --chat-template-kwargs "
    "'{\"reasoning_effort\": \"low\"}'",
    ("--reasoning-budget-message",): "reasoning cannot be cut short",
    ("--reasoning-preserve", "--no-reasoning-preserve"): "the template says which reasoning stays",
    ("--skip-chat-parsing",): "calls and reasoning are always told from the text; --reasoning-format none leaves "
    "reasoning in it",
    ("--no-prefill-assistant",): "a last message of the assistant is the beginning of the answer",
    ("--spec-synth-len", "--spec-synth-rates"): "guesses are never made up",
    ("--embd-gemma-default", "--fim-qwen-1.5b-default", "--fim-qwen-3b-default", "--fim-qwen-7b-default",
     "--fim-qwen-7b-spec", "--fim-qwen-14b-spec", "--fim-qwen-30b-default", "--gpt-oss-20b-default",
     "--gpt-oss-120b-default", "--vision-gemma-4b-default", "--vision-gemma-12b-default"): _NAMED,
    ("--usage",): "--help shows all options",
    ("--version",): "'llamaq --version' tells it",
    ("-n", "--predict", "--n-predict"): "each request says its max_tokens",
    ("-r", "--reverse-prompt"): "each request says where it stops",
    ("--embd-normalize",): "each request says its embd_normalize",
    ("--grammar", "--grammar-file", "-j", "--json-schema", "-jf", "--json-schema-file"): "each request says what its "
    "answer must match",
    (*SAMPLING, "-s", "--seed", "--samplers", "--sampler-seq", "--sampling-seq", "--ignore-eos", "-l", "--logit-bias",
     "--dry-sequence-breaker"): "each request says how to sample",
}  # fmt: skip
"""Options that cannot be honoured, by why."""

HARMLESS = {
    0: (
        "--no-slots", "--embedding", "--embeddings", "--rerank", "--reranking", "--models-autoload",
        "--no-ui-mcp-proxy", "--no-webui-mcp-proxy", "-no-ag", "--no-agent", "--no-cors-credentials",
        "--cache-idle-slots", "--no-cache-idle-slots", "--mmproj-auto", "--no-mmproj-auto", "--prefill-assistant",
        "--no-skip-chat-parsing", "-e", "--escape", "--no-escape",
    ),
    1: (
        "--threads-http", "-sps", "--slot-prompt-similarity", "--tags", "--keep", "-cms", "--checkpoint-min-step",
        "--mtmd-batch-max-tokens", "--video-fps", "--video-timestamp-interval", "--video-ffmpeg-dir",
    ),
}  # fmt: skip
"""By the number of their values: for what the server does anyway, or what changes no answer."""


def unread_variables(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> list[str]:
    """Variables of llama-server that are set and that no option's help names."""
    read = {name for action in parser._actions for name in re.findall(r"LLAMA_ARG_\w+", action.help or "")}
    given = {name for name, value in environment.items() if name.startswith("LLAMA_ARG_") and value}
    return sorted(given - read)
