"""llamaq and llama.cpp behind the same few methods, so that a comparison treats them alike.

Both take ``ids`` at positions from ``start`` on and give float32 logits, (ids, vocabulary) or, without
``all_logits``, (1, vocabulary) after the last id. A ``start`` that was read before rewinds to it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq import LLM, __version__
from llamaq.step import Step

__all__ = ["FLASH_ATTENTION", "LlamaCpp", "Llamaq"]

FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}  # llama.cpp's enum llama_flash_attn_type
_CACHE_TYPES = {"f32": 0, "f16": 1}  # ggml's type numbers


class Llamaq:
    """A model in llamaq."""

    def __init__(self, path: str, *, n_ctx: int, threads: int, n_batch: int, cache_type: str) -> None:
        if cache_type not in ("f16", "f32"):
            raise ValueError(f"cache_type must be f16 or f32, got {cache_type!r}")
        kind: Any = cache_type
        self._llm = LLM.load(path, n_ctx=n_ctx, threads=threads, n_batch=n_batch, cache_type=kind)

    def tokenize(self, text: str) -> list[int]:
        """Ids, with the special tokens that the file asks for."""
        return self._llm.tokenizer.encode(text)

    def forward(self, ids: Sequence[int], start: int, *, all_logits: bool = False) -> NDArray[np.float32]:
        """Logits, see the module."""
        step = Step.of(ids, start=start, wanted="all" if all_logits else "last")
        return self._llm.engine.forward(step, self._llm.cache)

    def describe(self) -> dict[str, Any]:
        """Version and settings."""
        engine = self._llm.engine
        return {"version": __version__, "isa": engine.isa, "threads": engine.threads}

    def close(self) -> None:
        """Frees the model."""
        self._llm.close()


class LlamaCpp:
    """The same model in llama.cpp, through the C API that llama-cpp-python exposes."""

    def __init__(
        self, path: str, *, n_ctx: int, threads: int, n_batch: int, cache_type: str, flash_attention: str
    ) -> None:
        from llama_cpp import llama_cpp as api

        self._api: Any = api
        self._quiet = api.llama_log_callback(lambda level, text, data: None)
        api.llama_log_set(self._quiet, ctypes.c_void_p(0))
        api.llama_backend_init()
        model_params = api.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self._model = api.llama_model_load_from_file(path.encode(), model_params)
        if not self._model:
            raise RuntimeError(f"llama.cpp refuses {path}")
        params = api.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, n_batch, n_batch
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = _CACHE_TYPES[cache_type]
        params.flash_attn_type = FLASH_ATTENTION[flash_attention]
        self._context = api.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError(f"llama.cpp makes no context for {path}")
        self._settings = {"threads": threads, "flash_attention": flash_attention}
        self._vocab = api.llama_model_get_vocab(self._model)
        self._n_vocab: int = api.llama_vocab_n_tokens(self._vocab)
        self._batch = api.llama_batch_init(n_batch, 0, 1)

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
        api, batch, count = self._api, self._batch, len(ids)
        api.llama_memory_seq_rm(api.llama_get_memory(self._context), 0, start, -1)
        batch.n_tokens = count
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, start + i, 1, 0
            batch.logits[i] = all_logits or i == count - 1
        if api.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode failed for {count} tokens at position {start}")
        rows = count if all_logits else 1
        logits = np.ctypeslib.as_array(api.llama_get_logits(self._context), shape=(rows * self._n_vocab,))
        return logits.reshape(rows, self._n_vocab).copy()

    def describe(self) -> dict[str, Any]:
        """Version and settings; ``system`` lists the instruction sets that this build uses."""
        system = self._api.llama_print_system_info().decode().strip(" |")
        return {"llama_cpp_python": version("llama_cpp_python"), "system": system, **self._settings}

    def close(self) -> None:
        """Frees the model."""
        self._api.llama_batch_free(self._batch)
        self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)
