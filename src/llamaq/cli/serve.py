"""``llamaq serve``: a model behind HTTP."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from typing import TYPE_CHECKING, Any

from llamaq.boundary.files import read_text
from llamaq.cli.command import Command
from llamaq.cli.model_names import located
from llamaq.cli.options import INTERRUPTED, given_model, loading_options
from llamaq.cli.progress import Bar
from llamaq.cli.serve_options import ABOUT, add_options
from llamaq.cli.templates import template_kwargs, template_of
from llamaq.engine import bundled

if TYPE_CHECKING:
    from llamaq.hub import Found
    from llamaq.server import Settings

__all__ = ["COMMAND"]


def run(args: argparse.Namespace) -> int:
    """Serves until a signal; 130 after Ctrl-C, 0 after SIGTERM."""
    from llamaq.server import app, running  # first, to tell where the extra is missing

    if (args.ssl_cert_file is None) != (args.ssl_key_file is None):
        args.parser.error("--ssl-cert-file and --ssl-key-file go together")
    family, address = running.address_of(args.host, args.port)
    found = _model(args)
    settings = _settings(args, found, local=running.is_local(address))
    from llamaq.chat import choose_template
    from llamaq.llm.llm import LLM

    for name in args.harmless or ():
        print(f"llamaq: {name} changes nothing here", file=sys.stderr)
    with running.listen(family, address) as listening:
        with Bar("loading", "B", binary=True) as progress:
            llm = LLM.load(found, n_ctx=args.ctx_size or None, progress=progress, **loading_options(args))
        with llm, _request_lines(args.log_format):
            if settings.template is not None:
                choose_template(llm.metadata, settings.template)
            application = app(llm, settings)
            scheme = "http" if args.ssl_cert_file is None else "https"
            host, port = listening.getsockname()[:2]
            place = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

            def ready() -> None:
                if settings.page:
                    print(f"llamaq: its web page is {place}/", file=sys.stderr)
                name = application.state.service.models.names[0]
                print(f"llamaq: {name} is served at {place}/v1", file=sys.stderr, flush=True)

            ended_by = running.serve(
                application, listening, ready=ready, certificate=args.ssl_cert_file, key=args.ssl_key_file
            )
    return INTERRUPTED if ended_by == signal.SIGINT else 0


def _settings(args: argparse.Namespace, found: Found, *, local: bool) -> Settings:
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
        names=_listed(args.alias) or _names(found, args),
        api_keys=keys,
        hosts=hosts or ("*",),
        cors_origins=_listed(args.cors_origins),
        parallel=args.parallel,
        max_queue=args.max_queue,
        metrics=args.metrics,
        page=args.page,
        strict=args.strict,
        template=template_of(args),
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


def _model(args: argparse.Namespace) -> Found:
    """The model that the arguments name, or the bundled one."""
    from llamaq.hub import Found

    name = given_model(args)
    if name is not None:
        return located(name, args, download=True)
    path = bundled.path()
    print(f"llamaq: no model is given, so this is the bundled one, {path}", file=sys.stderr)
    return Found(path, path.name, "")


def _names(found: Found, args: argparse.Namespace) -> list[str]:
    """What clients may call a model that was given by its name: its own, and the one that was given."""
    return [] if found.is_path else list(dict.fromkeys([found.name, given_model(args) or found.name]))


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
    help="answer clients of OpenAI's protocol over HTTP",
    usage="[MODEL] [options]",
    about=ABOUT,
    add_options=add_options,
    run=run,
)
