"""What ``LLM`` answers who asks it as another library is asked: how that is said here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from llamaq.boundary.habits import COMPAT, Habits

__all__ = ["HabitsOfLLMs"]

_CALLED = "an LLM is not called: llm.generate(prompt) gives the whole answer, llm.stream(prompt) its pieces"
_COMPAT = f"{COMPAT} has it"
_SESSION = "llm.session() is a text that grows, is saved, loaded and forked"
_HERE = {
    "create_chat_completion": f"llm.chat(messages) gives the answer to a conversation; {_COMPAT}",
    "create_completion": f"llm.generate(prompt) gives the whole answer, llm.stream(prompt) its pieces; {_COMPAT}",
    "create_embedding": f"llm.embed(texts) gives vectors; {_COMPAT}",
    "complete": "llm.generate(prompt) gives the whole answer",
    "invoke": "llm.generate(prompt) gives an answer; llamaq.integrations.langchain has LangChain's classes",
    "apply_chat_template": "llm.render_chat(messages) gives a conversation's prompt and its ids",
    "encode": "llm.tokenize(text) gives ids, llm.embed(texts) vectors",
    "decode": "llm.detokenize(ids) gives text",
    "eval": "llm.logits(tokens) reads tokens",
    "sample": "llm.stream(prompt) samples; llm.logits(tokens) gives what to sample from",
    "reset": "each call stands for itself, so nothing need be reset",
    "set_cache": "beginnings that were read are found again, so nothing need be set",
    "save_state": _SESSION,
    "load_state": _SESSION,
    "token_bos": "it is llm.tokenizer.bos_id",
    "token_eos": "they are llm.tokenizer.eog_ids",
    "n_vocab": "it is llm.hparams.vocab_size",
    "n_ctx_train": "it is llm.hparams.context_length",
}
"""Methods and attributes of other libraries, of llama-cpp-python above all."""


class HabitsOfLLMs(Habits):
    """What an ``LLM`` has not."""

    _said_here: ClassVar = _HERE

    if not TYPE_CHECKING:  # a type checker shall go on to see such calls as errors

        def __call__(self, *args: Any, **options: Any) -> NoReturn:
            """Raises ``TypeError``, which says what to call."""
            raise TypeError(f"{_CALLED}; {_COMPAT}")
