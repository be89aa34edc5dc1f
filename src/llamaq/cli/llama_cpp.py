"""Options of llama.cpp's programs that llamaq has no use for, so that habits and scripts carry over: harmless ones are
taken and named, others refused by their own name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

__all__ = ["add_llama_cpp_options", "ignored", "refuse", "without_words"]

_HARMLESS = {
    0: (
        "--mlock", "--mmap", "--no-mmap", "-dio", "--direct-io", "--no-direct-io", "--repack", "--no-host",
        "--check-tensors", "--warmup", "--no-warmup", "--perf", "--no-perf", "--offline",
        "-kvo", "--kv-offload", "-nkvo", "--no-kv-offload", "--op-offload", "--no-op-offload", "-cmoe", "--cpu-moe",
        "--swa-full", "-kvu", "--kv-unified", "-no-kvu", "--no-kv-unified", "-cb", "--cont-batching", "-nocb",
        "--no-cont-batching", "--cache-prompt", "--no-cache-prompt", "--no-context-shift", "-bs", "--backend-sampling",
        "--jinja", "--no-display-prompt", "--simple-io", "-mli", "--multiline-input", "-fa", "--flash-attn", "-co",
        "--color", "--log-disable", "--log-prefix", "--no-log-prefix", "--log-timestamps", "--no-log-timestamps",
        "--no-log-jsonl", "--no-mmproj", "--mmproj-offload", "--no-mmproj-offload", "-v", "--verbose", "--log-verbose",
        "--spec-default", "--spec-draft-backend-sampling", "--no-spec-draft-backend-sampling", "-cmoed",
        "--cpu-moe-draft", "--spec-draft-cpu-moe",
    ),
    1: (
        "-ngl", "--gpu-layers", "--n-gpu-layers", "-sm", "--split-mode", "-ts", "--tensor-split", "-mg", "--main-gpu",
        "-dev", "--device", "-ot", "--override-tensor", "-ncmoe", "--n-cpu-moe", "-ncffn", "--n-cpu-ffn",
        "--moe-cache-mib", "-fit", "--fit", "-fitt", "--fit-target", "-fitc", "--fit-ctx", "-tb", "--threads-batch",
        "-ub", "--ubatch-size", "-C", "--cpu-mask", "-Cr", "--cpu-range", "--cpu-strict", "--prio", "--poll", "-Cb",
        "--cpu-mask-batch", "-Crb", "--cpu-range-batch", "--cpu-strict-batch", "--prio-batch", "--poll-batch", "--numa",
        "-lm", "--load-mode", "-lzm", "--lazy-mode", "-dt", "--defrag-thold", "--cache-reuse", "-cram", "--cache-ram",
        "-ctxcp", "--ctx-checkpoints", "--swa-checkpoints", "-lv", "--verbosity", "--log-verbosity", "--log-colors",
        "--spec-type", "--draft", "--draft-n", "--draft-max", "--draft-min", "--draft-n-min", "--spec-draft-n-max",
        "--spec-draft-n-min", "--draft-p-min", "-cd", "--ctx-size-draft", "-ngld", "--gpu-layers-draft",
        "--spec-draft-ngl", "--n-gpu-layers-draft", "-ctkd", "--cache-type-k-draft", "--spec-draft-type-k", "-ctvd",
        "--cache-type-v-draft", "--spec-draft-type-v", "-td", "--threads-draft", "--spec-draft-threads", "-tbd",
        "--threads-batch-draft", "--spec-draft-threads-batch", "-devd", "--device-draft", "--spec-draft-device", "-Cd",
        "--cpu-mask-draft", "--spec-draft-cpu-mask", "-Crd", "--cpu-range-draft", "--spec-draft-cpu-range",
        "--cpu-strict-draft", "--spec-draft-cpu-strict", "--prio-draft", "--spec-draft-prio", "--poll-draft",
        "--spec-draft-poll", "-Cbd", "--cpu-mask-batch-draft", "--spec-draft-cpu-mask-batch",
        "--cpu-strict-batch-draft", "--spec-draft-cpu-strict-batch", "--prio-batch-draft", "--spec-draft-prio-batch",
        "--poll-batch-draft", "--spec-draft-poll-batch", "-otd", "--override-tensor-draft",
        "--spec-draft-override-tensor", "-ncmoed", "--n-cpu-moe-draft", "--spec-draft-n-cpu-moe", "--spec-draft-ncmoe",
        "--draft-p-split", "--spec-draft-p-split", "--spec-draft-p-min", "--spec-draft-sampling",
        *(f"--spec-ngram-mod-n-{part}" for part in ("min", "max", "match")),
        *(f"--spec-ngram-{kind}{part}" for kind in ("", "simple-", "map-k-", "map-k4v-")
          for part in ("size-n", "size-m", "min-hits")),
        "-lcs", "--lookup-cache-static", "-lcd", "--lookup-cache-dynamic", "-mmdev", "--mmproj-device",
    ),
}  # fmt: skip
"""By the number of their values: for what llamaq does anyway, or what changes no answer."""

_WORDED = ("-fa", "--flash-attn", "-co", "--color")
_WORDS = re.compile(r"on|off|auto|enabled|disabled|true|false|0|1|-1", re.IGNORECASE)
"""Harmless options after which one of these words may stand; they were flags once, and text may follow them."""

_POSITIONS = "the file says how positions are turned"
_DRAFTS = "this command writes no long answers; llamaq run and llamaq serve take a draft model"
_PICTURES = "this command reads text alone; 'llamaq run MODEL --mmproj FILE --image FILE' shows a picture"
_REFUSED: dict[tuple[str, ...], str] = {
    ("-dr", "--docker-repo"): "models come from the Hugging Face hub (-hf), not from Docker's",
    ("-hff", "--hf-file"): "the repository has it: -hf user/repo/file.gguf",
    ("-mu", "--model-url"): "MODEL may be the address: -m https://...",
    ("-hft", "--hf-token"): "HF_TOKEN in the environment holds it",
    ("--lora-init-without-apply",): "each request says which adapters it wants",
    ("--lora-base",): "adapters are added to the model as it is",
    ("--control-vector", "--control-vector-scaled", "--control-vector-layer-range"): "it is for models that run",
    ("-mm", "--mmproj", "-mmu", "--mmproj-url", "--image", "--audio", "--video"): _PICTURES,
    ("-md", "--model-draft", "--spec-draft-model", "-hfd", "-hfrd", "--hf-repo-draft",
     "--spec-draft-hf"): _DRAFTS,
    ("--rope-scaling", "--rope-scale", "--rope-freq-base", "--rope-freq-scale", "--yarn-orig-ctx", "--yarn-ext-factor",
     "--yarn-attn-factor", "--yarn-beta-slow", "--yarn-beta-fast", "-gan", "--grp-attn-n", "-gaw",
     "--grp-attn-w"): _POSITIONS,
    ("--override-kv",): "'llamaq quantize --override-kv ... IN.gguf OUT.gguf COPY' writes a file with other metadata",
    ("--rpc",): "llamaq runs on this machine alone",
    ("--list-devices",): "the CPU is the only one; 'llamaq info' tells its SIMD level",
    ("-cl", "--cache-list"): "nothing is kept",
    ("--completion-bash",): "'llamaq completion bash' prints it",
    ("--log-file", "--log-jsonl"): "2> keeps what goes to stderr",
    ("--no-jinja",): "templates are always Jinja's",
    ("--reasoning-format",): "reasoning is always told from the answer",
    ("--reasoning-budget", "--reasoning-budget-message"): "reasoning cannot be cut short",
    ("--license",): "llamaq's is MIT",
    ("-rea", "--reasoning"): "what the template knows does it: --chat-template-kwargs '{\"enable_thinking\": false}'",
}  # fmt: skip


class _Harmless(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), option])


class _Refused(argparse.Action):
    """An option that cannot be honoured; ``const`` says why."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        parser.error(f"{option} cannot be honoured: {self.const}")


def refuse(parser: argparse.ArgumentParser, options: Mapping[tuple[str, ...], str]) -> None:
    """Gives a command options that end in an error, which says why. Those that it has stay as they are."""
    for names, why in options.items():
        if names := _new(parser, names):
            parser.add_argument(*names, dest="refused", action=_Refused, const=why, nargs="?", help=argparse.SUPPRESS)


def add_llama_cpp_options(
    parser: argparse.ArgumentParser, harmless: Mapping[int, tuple[str, ...]] = MappingProxyType({})
) -> None:
    """Gives a command that loads a model all that it has not yet, and further ``harmless`` ones; to be called when it
    has its own."""
    for count, all_names in _HARMLESS.items():
        names = _new(parser, (*all_names, *harmless.get(count, ())))
        parser.add_argument(*names, dest="harmless", action=_Harmless, nargs=count, help=argparse.SUPPRESS)
    refuse(parser, _REFUSED)


def ignored(args: argparse.Namespace) -> str | None:
    """A line about the options that were given in vain."""
    names = dict.fromkeys(getattr(args, "harmless", None) or ())
    return f"{', '.join(names)} change{'s' if len(names) == 1 else ''} nothing here" if names else None


def without_words(args: Sequence[str]) -> list[str]:
    """A command line where options that may have a word after them have none."""
    found: list[str] = []
    for word in args:
        name, _, value = word.partition("=")
        if name in _WORDED and value:
            word = name
        elif found and found[-1] in _WORDED and _WORDS.fullmatch(word):
            continue
        found.append(word)
    return found


def _new(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in parser._option_string_actions)
