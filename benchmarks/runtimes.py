"""llamaq and llama.cpp behind the same few methods, so that a comparison treats them alike.

``begin`` makes room for sequences; ``forward`` takes ids of sequence 0 at positions from ``start`` on and gives
float32 logits, (ids, vocabulary) or, without ``all_logits``, (1, vocabulary) after the last id; ``step`` takes one id
of every sequence at one position. A position that was read before rewinds to it. Each class imports its runtime when
it is made: a process needs only the one that it measures. ``limits`` probes the machine: bytes a second out of memory
and int8 operations a second at best, on the threads and level in use; llama.cpp has no such probe.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["CACHE_TYPES", "FLASH_ATTENTION", "LlamaCpp", "Llamaq", "Runtime", "open_runtime"]

FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}  # llama.cpp's enum llama_flash_attn_type
CACHE_TYPES = {"f32": 0, "f16": 1}  # ggml's type numbers


class Runtime(Protocol):
    """A loaded model."""

    def begin(self, sequences: int, n_ctx: int) -> None: ...
    def tokenize(self, text: str) -> list[int]: ...
    def forward(self, ids: Sequence[int], start: int, *, all_logits: bool = False) -> NDArray[np.float32]: ...
    def step(self, ids: Sequence[int], position: int) -> NDArray[np.float32]: ...
    def describe(self) -> dict[str, Any]: ...
    def limits(self) -> tuple[float, float] | None: ...
    def close(self) -> None: ...


def open_runtime(name: str, path: str, args: argparse.Namespace) -> Runtime:
    """``name`` "llamaq" or "llama.cpp", with the settings of the command line."""
    common: dict[str, Any] = {"threads": args.threads, "n_batch": args.batch, "cache_type": args.cache_type}
    if name == "llamaq":
        return Llamaq(path, **common)
    return LlamaCpp(path, flash_attention=args.flash_attention, **common)


class Llamaq:
    """A model in llamaq."""

    def __init__(self, path: str, *, threads: int, n_batch: int, cache_type: str) -> None:
        from llamaq import LLM

        kind: Any = cache_type
        self._llm = LLM.load(path, n_ctx=n_batch, threads=threads, n_batch=n_batch, cache_type=kind)
        self._cache_type = kind

    def begin(self, sequences: int, n_ctx: int) -> None:
        """Room for so many sequences of up to ``n_ctx`` tokens each."""
        from llamaq.engine.kv_cache import KVCache

        pages = 64  # tokens: whole pages, whatever their size
        self._cache = KVCache(self._llm.plan, sequences * (-(-n_ctx // pages) * pages), self._cache_type)

    def tokenize(self, text: str) -> list[int]:
        """Ids, with the special tokens that the file asks for."""
        return self._llm.tokenizer.encode(text)

    def forward(self, ids: Sequence[int], start: int, *, all_logits: bool = False) -> NDArray[np.float32]:
        """Logits, see the module."""
        from llamaq.plan.step import Step

        step = Step.of(ids, start=start, wanted="all" if all_logits else "last")
        return self._llm.engine.forward(step, self._cache)

    def step(self, ids: Sequence[int], position: int) -> NDArray[np.float32]:
        """Logits of every sequence."""
        from llamaq.plan.step import Step

        n = len(ids)
        step = Step(
            np.array(ids, np.int32), np.arange(n, dtype=np.int32), np.full(n, position, np.int32), np.ones(n, bool)
        )
        return self._llm.engine.forward(step, self._cache)

    def describe(self) -> dict[str, Any]:
        """Version and settings."""
        from llamaq import __version__

        engine = self._llm.engine
        return {"version": __version__, "level": engine.isa, "threads": engine.threads}

    def limits(self) -> tuple[float, float]:
        """See the module."""
        from llamaq.measure.limits import probe

        found = probe(self._llm.engine.threads)
        return found.read_bandwidth, found.int8_peak

    def close(self) -> None:
        """Frees the model."""
        self._llm.close()


class LlamaCpp:
    """The same model in llama.cpp, through the C API that llama-cpp-python exposes."""

    def __init__(self, path: str, *, threads: int, n_batch: int, cache_type: str, flash_attention: str) -> None:
        from llama_cpp import llama_cpp as api

        self._api: Any = api
        self._quiet = api.llama_log_callback(lambda level, text, data: None)
        api.llama_log_set(self._quiet, ctypes.c_void_p(0))
        api.llama_backend_init()
        model_params = api.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self._path = path
        self._model = api.llama_model_load_from_file(path.encode(), model_params)
        if not self._model:
            raise RuntimeError(f"llama.cpp refuses {path}")
        self._params = api.llama_context_default_params()
        self._params.n_batch = self._params.n_ubatch = n_batch
        self._params.n_threads = self._params.n_threads_batch = threads
        self._params.type_k = self._params.type_v = CACHE_TYPES[cache_type]
        self._params.flash_attn_type = FLASH_ATTENTION[flash_attention]
        self._settings = {"threads": threads, "flash_attention": flash_attention}
        self._vocab = api.llama_model_get_vocab(self._model)
        self._n_vocab: int = api.llama_vocab_n_tokens(self._vocab)
        self._batch = api.llama_batch_init(n_batch, 0, 1)
        self._context: Any = None

    def begin(self, sequences: int, n_ctx: int) -> None:
        """Room for so many sequences of up to ``n_ctx`` tokens each."""
        if self._context:
            self._api.llama_free(self._context)
        self._params.n_ctx = sequences * (-(-n_ctx // 256) * 256)  # llama.cpp rounds up to 256 as well
        self._params.n_seq_max = sequences
        self._context = self._api.llama_init_from_model(self._model, self._params)
        if not self._context:
            raise RuntimeError(f"llama.cpp makes no context for {self._path}")

    def tokenize(self, text: str) -> list[int]:
        """Ids, with the special tokens that the file asks for."""
        raw = text.encode()
        room = len(raw) + 8
        ids = (ctypes.c_int32 * room)()
        count = self._api.llama_tokenize(self._vocab, raw, len(raw), ids, room, True, False)
        if count < 0:
            raise RuntimeError(f"llama.cpp needs {-count} tokens for {len(raw)} bytes")
        return list(ids[:count])

    def forward(self, ids: Sequence[int], start: int, *, all_logits: bool = False) -> NDArray[np.float32]:
        """Logits, see the module."""
        last = len(ids) - 1
        return self._decode([(id, 0, start + i, all_logits or i == last) for i, id in enumerate(ids)], start)

    def step(self, ids: Sequence[int], position: int) -> NDArray[np.float32]:
        """Logits of every sequence."""
        return self._decode([(id, sequence, position, True) for sequence, id in enumerate(ids)], position)

    def _decode(self, rows: Sequence[tuple[int, int, int, bool]], start: int) -> NDArray[np.float32]:
        """``rows``: token, sequence, position, whether its logits are wanted."""
        api, batch = self._api, self._batch
        memory = api.llama_get_memory(self._context)
        if start == 0:
            api.llama_memory_clear(memory, False)  # states can't be rewound
        else:
            api.llama_memory_seq_rm(memory, -1, start, -1)
        batch.n_tokens = len(rows)
        for i, (token, sequence, position, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, position, 1, sequence
            batch.logits[i] = wanted
        if api.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode failed for {len(rows)} rows at position {start}")
        count = sum(wanted for *_, wanted in rows)
        logits = np.ctypeslib.as_array(api.llama_get_logits(self._context), shape=(count * self._n_vocab,))
        return logits.reshape(count, self._n_vocab).copy()

    def describe(self) -> dict[str, Any]:
        """Version and settings; ``system`` lists the instruction sets that this build uses."""
        system = self._api.llama_print_system_info().decode().strip(" |")
        return {"llama_cpp_python": version("llama_cpp_python"), "system": system, **self._settings}

    def limits(self) -> None:
        """See the module."""

    def close(self) -> None:
        """Frees the model."""
        self._api.llama_batch_free(self._batch)
        if self._context:
            self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)
