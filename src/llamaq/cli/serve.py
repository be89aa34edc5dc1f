"""``llamaq serve``: a model behind HTTP."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llamaq.boundary.files import read_text
from llamaq.cli.command import Command
from llamaq.cli.llama_server import unread_variables
from llamaq.cli.model_names import draft_options, located, without_name
from llamaq.cli.options import INTERRUPTED, loading_options, model_variable, projector_options
from llamaq.cli.progress import Bar
from llamaq.cli.serve_options import ABOUT, MOST_MODELS, MOST_REQUESTS, add_options
from llamaq.cli.templates import template_kwargs, template_of

if TYPE_CHECKING:
    from llamaq.hub import Found
    from llamaq.server import Settings

__all__ = ["COMMAND"]


def run(args: argparse.Namespace) -> int:
    """Serves until a signal; 130 after Ctrl-C, 0 after SIGTERM."""
    from llamaq.server import app, running  # first, to tell where the extra is missing

    if (args.ssl_cert_file is None) != (args.ssl_key_file is None):
        args.parser.error("--ssl-cert-file and --ssl-key-file go together")
    if args.ssl_cert_file is not None:
        running.check_certificate(args.ssl_cert_file, args.ssl_key_file)
    if unread := unread_variables(args.parser, os.environ):
        print(f"llamaq: {', '.join(unread)} change{'s' if len(unread) == 1 else ''} nothing here", file=sys.stderr)
    family, address = running.address_of(args.host, args.port)
    models = _models(args)
    settings = _settings(args, models, local=running.is_local(address))
    with (
        running.listen(family, address) as listening,
        Bar("loading", "B", binary=True) as progress,
        _request_lines(args.log_format),
    ):
        load = {**settings.load, "progress": progress}
        application = app(models, replace(settings, load=load))
        scheme = "http" if args.ssl_cert_file is None else "https"
        host, port = listening.getsockname()[:2]
        place = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

        models_of = application.state.service.models
        names = [entry.name for entry in models_of.listed()]
        if (only := models_of.only) is not None:
            print(f"llamaq: loading {only.name}; until then {place} answers 503", file=sys.stderr, flush=True)

        def ready() -> None:
            if settings.page:
                print(f"llamaq: its web page is {place}/", file=sys.stderr)
            told = f"{names[0]} is" if len(names) == 1 else f"{len(names)} models are"
            print(f"llamaq: {told} served at {place}/v1", file=sys.stderr, flush=True)

        ended_by = running.serve(
            application, listening, ready=ready, certificate=args.ssl_cert_file, key=args.ssl_key_file
        )
    return INTERRUPTED if ended_by == signal.SIGINT else 0


def _settings(args: argparse.Namespace, models: list[str | Found], *, local: bool) -> Settings:
    from llamaq.server import Settings

    keys = _keys(args)
    if not (local or keys or args.no_api_key):
        args.parser.error(
            f"--host {args.host} lets other machines use this server: give it an --api-key, or say --no-api-key"
        )
    hosts = _listed(args.allowed_hosts)
    if not hosts and local and not keys:
        from llamaq.server.settings import LOCAL_HOSTS

        hosts = [*LOCAL_HOSTS, args.host]
    return Settings(
        names=_listed(args.alias) or _names(models),
        load={
            "n_ctx": args.ctx_size or None,
            "cache_dir": args.cache_dir,
            **projector_options(args),
            **loading_options(args),
            **draft_options(args),
        },
        models_max=args.models_max or MOST_MODELS,
        idle_seconds=args.sleep_idle_seconds,
        api_keys=keys,
        hosts=hosts or ("*",),
        cors_origins=_listed(args.cors_origins),
        parallel=args.parallel,
        max_queue=args.max_queue,
        key_requests=args.max_per_key or MOST_REQUESTS,
        queue_seconds=args.queue_timeout,
        answer_seconds=args.timeout,
        max_body=args.max_body * 2**20,
        body_seconds=args.body_timeout,
        send_seconds=args.send_timeout,
        ping_seconds=args.sse_ping_interval,
        drain_seconds=args.drain_timeout,
        watchdog_seconds=args.watchdog,
        allow_pull=args.allow_pull,
        metrics=args.metrics,
        slots=args.slots,
        page=args.page,
        strict=args.strict,
        cache_shared=args.cache_shared,
        template=template_of(args),
        reasoning_format=args.reasoning_format,
        template_kwargs=template_kwargs(args),
    )


def _keys(args: argparse.Namespace) -> list[str]:
    """Those of options, file and environment."""
    keys = [key for each in args.api_key for key in _listed(each)]
    if args.api_key_file is not None:
        lines = [line.strip() for line in read_text(args.api_key_file).splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            args.parser.error(f"{args.api_key_file} has no key")
        keys += found
    return keys


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _models(args: argparse.Namespace) -> list[str | Found]:
    """Files, models that were given by their names, and folders."""
    given = [*args.models, *([args.model_option] if args.model_option else [])]
    folders = [] if args.models_dir is None else [args.models_dir]
    if folders and not os.path.isdir(args.models_dir):
        args.parser.error(f"--models-dir {args.models_dir} is no folder")
    if not given and not folders and (variable := model_variable()):
        given = [variable]
    several = len(given) + len(folders) > 1 or any(os.path.isdir(name) for name in (*given, *folders))
    if several and set(_listed(args.alias)) - {"*"}:
        args.parser.error("--alias names the only model; where there are several, each has its own name")
    if several and args.lora:
        args.parser.error("--lora goes with one model: an adapter is of one alone")
    if several and args.mmproj is not None:
        args.parser.error("--mmproj belongs to one model; where there are several, none has a projector")
    if several and args.model_draft is not None:
        args.parser.error("--model-draft belongs to one model; where there are several, none has a draft model")
    found: list[str | Found] = [
        name if os.path.isdir(name) else _called(name, located(name, args, download=True)) for name in given
    ]
    if not found and not folders:
        found = [_called("", without_name())]
    return [*found, *folders]


def _called(name: str, found: Found) -> Found:
    """A model with the name that was given for it, which clients may use, too; it is the last alias."""
    return found if found.is_path else replace(found, aliases=(*found.aliases, name or found.name))


def _names(models: list[str | Found]) -> list[str]:
    """What the only model is listed as where it was given by its name: that and its own."""
    found = models[0]
    if len(models) > 1 or isinstance(found, str) or found.is_path or not found.aliases:
        return []
    return list(dict.fromkeys([found.name, found.aliases[-1]]))


class _request_lines:
    """Lines about requests on stderr."""

    def __init__(self, form: str) -> None:
        self._handler = logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(logging.Formatter("%(request)s" if form == "json" else "llamaq: %(message)s"))
        self._form = form
        self._logger = logging.getLogger("llamaq.server.access")

    def __enter__(self) -> None:
        if self._form != "none":
            self._logger.addHandler(self._handler)
            self._logger.setLevel(logging.INFO)

    def __exit__(self, *_: Any) -> None:
        self._logger.removeHandler(self._handler)
        self._logger.setLevel(logging.NOTSET)


COMMAND = Command(
    help="answer clients of OpenAI, Anthropic, Ollama and llama-server over HTTP, with a web page",
    usage="[MODEL ...] [options]",
    about=ABOUT,
    add_options=add_options,
    run=run,
)
