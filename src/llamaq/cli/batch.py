"""``llamaq batch``: a file of requests, answered."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from llamaq.boundary.words import counted
from llamaq.cli.command import Command
from llamaq.cli.llama_cpp import add_llama_cpp_options, refuse
from llamaq.cli.model_names import located
from llamaq.cli.options import (
    Parser,
    add_context,
    add_loading,
    add_model,
    add_projector,
    at_least,
    given_model,
    loading_options,
    projector_options,
)
from llamaq.cli.progress import Bar
from llamaq.cli.sampling_options import SAMPLING
from llamaq.cli.templates import add_template, template_kwargs, template_of
from llamaq.engine import bundled

if TYPE_CHECKING:
    from llamaq.batch import BatchJob, Summary

__all__ = ["COMMAND"]

_ABOUT = """\
Answers each line of IN.jsonl, a request in OpenAI's batch format, with a line of OUT.jsonl (docs/batch.md). It needs
pip install 'llamaq[server]'. Without -m it uses the model that comes with llamaq.

Many requests run at once, and the output is the same, byte for byte, however many. What is done lies in
OUT.jsonl.partial until all is; the same command goes on from there. A line that cannot be answered gets one that says
why; the command then ends with 1."""

_REFUSED: dict[tuple[str, ...], str] = {
    ("-n", "--predict", "--n-predict"): "each request says its max_tokens",
    SAMPLING: "each request says how to sample",
    ("--image", "--audio", "--video"): "each request has its own pictures, as data URLs",
}


def _add_options(parser: Parser) -> None:
    add = parser.add_argument
    add("source", metavar="IN.jsonl", help="the requests: custom_id, method, url and body")
    add("target", metavar="OUT.jsonl", help="the file to write: id, custom_id, response and error, in the same order")
    add_model(parser, positional=False)
    add("-np", "--parallel", metavar="N", type=at_least(1), default="16", help="requests that run at once (default 16)")
    add("-s", "--seed", metavar="N", type=at_least(0), default="0",
        help="what the seeds of requests that name none are made of, with their custom_id (default 0)")  # fmt: skip
    group = parser.add_argument_group("cluster")
    group.add_argument("--ray", metavar="ADDRESS", help="answer on a Ray cluster (docs/ray.md): auto, local, HOST:PORT")
    group.add_argument("--workers", metavar="N", type=at_least(1), help="of the cluster, each with the model and -np "
                       "requests at once (default one on each machine)")  # fmt: skip
    group = parser.add_argument_group("chat")
    add_template(group)
    group = parser.add_argument_group("model and machine")
    add_context(group, "tokens that one text may have, and all that run have room for; 0: the model's own, or what "
                "memory allows")  # fmt: skip
    add_loading(group)
    add_projector(group)
    refuse(parser, _REFUSED)
    add_llama_cpp_options(parser)


def batch(args: argparse.Namespace) -> int:
    """Runs the command; 1 where some requests have errors."""
    from llamaq.batch import run_batch  # first, to tell where the extra is missing

    if args.workers and not args.ray:
        args.parser.error("--workers are those of a cluster: give --ray")
    job, answering = _job(args), None
    if args.ray:
        from llamaq.distributed.ray import cluster_batch

        answering = cluster_batch(job, args.ray, workers=args.workers)
    try:
        with Bar("answering", " requests", lines=True) as progress, Bar("loading", "B", binary=True) as loading:
            done = run_batch(job, args.source, args.target, answering, progress=progress, loading=loading)
    except KeyboardInterrupt:
        print(f"\nllamaq: what is done lies in {args.target}.partial; the same command goes on", file=sys.stderr)
        raise
    print(_told(done, args), file=sys.stderr)
    return 1 if done.failed else 0


def _job(args: argparse.Namespace) -> BatchJob:
    from llamaq.batch import BatchJob

    name = given_model(args)
    load = {"n_ctx": args.ctx_size or None, **loading_options(args), **projector_options(args)}
    return BatchJob(
        bundled.path() if name is None else located(name, args, download=True), load, args.parallel,
        template_of(args), template_kwargs(args), args.seed,
    )  # fmt: skip


def _told(done: Summary, args: argparse.Namespace) -> str:
    kept = f", {done.kept} of them by an earlier run" if done.kept else ""
    told = f"llamaq: {args.target}: {counted(done.total, 'request')} answered{kept}"
    if not done.failed:
        return told
    lines = ", ".join(map(str, done.failed_lines)) + (", ..." if done.failed > len(done.failed_lines) else "")
    return f"{told}; {done.failed} with an error: line{'s' if done.failed > 1 else ''} {lines} of {args.source}"


COMMAND = Command(
    help="answer a file of requests in OpenAI's batch format",
    usage="IN.jsonl OUT.jsonl [-m MODEL] [options]",
    about=_ABOUT,
    add_options=_add_options,
    run=batch,
)
