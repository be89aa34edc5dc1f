"""What serving over HTTP costs: time to the first token and tokens a second with some clients at once, beside the
library's ``batch`` and, where its command is given, llama-server, in turns; and CPU of the event loop.

    python benchmarks/serve_speed.py model.gguf --clients 1 4 8 --json OUT.json \\
        --peer "llama-server -m model.gguf -t 2 -c 16384 -np 8 --port {port}"
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import statistics
import threading
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

from llamaq import LLM, SamplingParams
from report import machine, print_table, spread
from serve_process import COMPLETIONS, Server, events, free_port, llamaq_command, serving


class Client(threading.Thread):
    """Streams one answer; afterwards ``times`` are the seconds of its pieces since ``began``."""

    def __init__(self, server: Server, prompt: list[int], new: int) -> None:
        super().__init__()
        self._server = server
        self._body = {
            "prompt": prompt, "max_tokens": new, "n_predict": new, "temperature": 0, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True}, "cache_prompt": False,
        }  # fmt: skip
        self.began = 0.0
        self.times: list[float] = []
        self.tokens = 0

    def run(self) -> None:
        with contextlib.closing(HTTPConnection("127.0.0.1", self._server.port, timeout=3600)) as connection:
            self.began = time.perf_counter()
            connection.request("POST", COMPLETIONS, json.dumps(self._body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            for event in events(iter(response.readline, b"")):
                self.times.append(time.perf_counter())
                self.tokens = event.get("usage", {}).get("completion_tokens", self.tokens)


def at_once(server: Server, prompts: list[list[int]], new: int) -> dict[str, Any]:
    """Tokens a second of all, and the seconds to their first ones."""
    clients = [Client(server, prompt, new) for prompt in prompts]
    began = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    if any(client.tokens != new for client in clients):
        raise SystemExit(f"the server made {[client.tokens for client in clients]} tokens instead of {new}")
    end = max(client.times[-1] for client in clients)
    return {"rate": len(prompts) * new / (end - began), "first": [c.times[0] - c.began for c in clients]}


def batch(llm: LLM, prompts: list[list[int]], new: int) -> float:
    """Tokens a second of the library alone."""
    sampling = SamplingParams(temperature=0.0, ignore_eos=True)
    began = time.perf_counter()
    llm.batch(prompts, max_tokens=new, sampling=sampling)
    return len(prompts) * new / (time.perf_counter() - began)


def cost(server: Server, requests: int) -> dict[str, float]:
    """Microseconds of the event loop's CPU for a whole request of one token, and for each token of a stream."""
    short = {"prompt": "x", "max_tokens": 1, "seed": 1, "ignore_eos": True}
    server.ask("POST", COMPLETIONS, short)

    def used(body: dict[str, Any]) -> float:
        before = server.cpu()
        with contextlib.closing(HTTPConnection("127.0.0.1", server.port, timeout=3600)) as connection:
            for _ in range(requests):
                connection.request("POST", COMPLETIONS, json.dumps(body), {"Content-Type": "application/json"})
                connection.getresponse().read()
        return (server.cpu() - before) / requests

    more = 100
    request, one = used(short), used({**short, "stream": True})
    many = used({**short, "stream": True, "max_tokens": 1 + more})
    return {"request_us": round(request * 1e6, 1), "token_us": round((many - one) / more * 1e6, 1)}


def measure(args: argparse.Namespace, servers: dict[str, Server], llm: LLM) -> dict[str, Any]:
    """All in turns, each round with prompts of its own."""
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {name: {} for name in servers}
    for clients in args.clients:
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in servers}
        alone: list[float] = []
        for _ in range(args.rounds):
            shape = (len(servers) + 1, clients, args.prompt)
            prompts = rng.integers(3, llm.hparams.vocab_size, shape).tolist()
            alone.append(batch(llm, prompts[0], args.new))
            for own, (name, server) in zip(prompts[1:], servers.items(), strict=True):
                rounds[name].append(at_once(server, own, args.new))
        for name, each in rounds.items():
            rates = [one["rate"] for one in each]
            ratios = [rate / library for rate, library in zip(rates, alone, strict=True)]
            found[name][str(clients)] = {
                "tokens_per_second": statistics.median(rates), "of_batch": statistics.median(ratios),
                "rates": spread(rates), "first_token_ms": spread(1e3 * s for one in each for s in one["first"]),
            }  # fmt: skip
        found.setdefault("batch", {})[str(clients)] = spread(alone)
    return found


def show(found: dict[str, Any], names: Sequence[str]) -> None:
    rows = [["clients", "batch, tokens/s"]]
    rows[0] += [head for name in names for head in (f"{name}, tokens/s", "of batch", "first token, ms")]
    for clients, library in found["batch"].items():
        row = [clients, f"{library['median']:.1f}"]
        for name in names:
            own = found[name][clients]
            row += [
                f"{own['tokens_per_second']:.1f}",
                f"{own['of_batch']:.3f}",
                f"{own['first_token_ms']['median']:.0f}",
            ]
        rows.append(row)
    print_table(rows)
    print(f"event loop: {found['cpu']['request_us']} us a request, {found['cpu']['token_us']} us a token")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200, help="of which the CPU is counted")
    parser.add_argument("--threads", type=int, help="of llamaq, in both")
    parser.add_argument("--peer", help="a command that serves OpenAI's protocol, with {port} in it")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    n_ctx, port = args.prompt + args.new + 8, free_port()
    most = max(args.clients)
    options = ["-np", str(most), "-c", str(max(n_ctx * most, 256)), "--log-format", "none"]
    options += [] if args.threads is None else ["-t", str(args.threads)]
    with contextlib.ExitStack() as stack:
        servers = {"llamaq": stack.enter_context(serving(llamaq_command(args.model, options, port), port))}
        if args.peer is not None:
            other = free_port()
            command = shlex.split(args.peer.format(port=other))
            servers["peer"] = stack.enter_context(serving(command, other))
        llm = stack.enter_context(LLM.load(args.model, threads=args.threads, n_ctx=n_ctx, n_cache=n_ctx * (most + 1)))
        found = measure(args, servers, llm)
        found["cpu"] = cost(servers["llamaq"], args.requests)
    show(found, list(servers))
    if args.json is not None:
        settings = {name: getattr(args, name) for name in ("prompt", "new", "rounds", "threads")}
        settings["peer"] = args.peer and " ".join(Path(word).name for word in shlex.split(args.peer))
        found |= {"model": Path(args.model).name, "settings": settings, "machine": machine()}
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
