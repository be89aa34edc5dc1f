"""llama-server as the package xllamacpp carries it, for ``--peer`` of serve_speed.py:

    python benchmarks/serve_speed.py model.gguf --threads 2 --peer \\
        "python benchmarks/serve_xllamacpp.py model.gguf --threads 2 --parallel 8 --ctx 4096 --port {port}"

Its binaries fit many CPUs and are not tuned for one, so a llama-server that was built here is the better peer.
"""

from __future__ import annotations

import argparse
import signal
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--ctx", type=int, required=True, help="tokens of all answers together")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--guesses", default="none", help="how it speculates: ngram-simple, draft-simple, …")
    parser.add_argument("--draft", metavar="MODEL", help="the model that guesses")
    args = parser.parse_args()
    import xllamacpp

    params: Any = xllamacpp.CommonParams()
    params.model.path = args.model
    params.hostnames, params.port = ["127.0.0.1"], args.port
    params.n_ctx, params.n_parallel = args.ctx, args.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    params.warmup = True
    kind = f"COMMON_SPECULATIVE_TYPE_{args.guesses.upper().replace('-', '_')}"
    params.speculative.types = [getattr(xllamacpp.common_speculative_type, kind)]
    if args.draft:
        params.speculative.draft.mparams.path = args.draft
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
