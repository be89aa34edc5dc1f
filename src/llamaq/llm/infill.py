"""Filling in the middle: the prompt that asks a model for what stands between two pieces of a text."""

from __future__ import annotations

from typing import Literal

from llamaq.boundary.arguments import one_of, text_or_bytes, texts
from llamaq.errors import TokenizerError
from llamaq.serving.stream import Options
from llamaq.tokenizer import Tokenizer

__all__ = ["InfillOrder", "infill_ids", "with_stops"]

_NEXT_FILE = ("<file_sep>", "<repo_name>")
"""Where StarCoder 2 and its relatives go on with another file; in other texts they end nothing."""

InfillOrder = Literal["psm", "spm"]
"""Whether the prefix comes before the suffix in the prompt, or after it."""


def infill_ids(
    tokenizer: Tokenizer, prefix: str | bytes, suffix: str | bytes, order: InfillOrder | None = None
) -> list[int]:
    """Token ids of the prompt for what stands between ``prefix`` and ``suffix``.

    ``order`` None is the one that the marks of the vocabulary are known for. Special tokens spelled out in the texts
    are taken for text. Raises ``TokenizerError`` for a vocabulary without the marks, ``ValueError`` for another order.
    """
    if order is not None:
        one_of("order", order, ("psm", "spm"))
    begin = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    before = tokenizer.encode(text_or_bytes("prefix", prefix), add_special=False)
    # The space that SentencePiece puts before a text belongs to none that goes on.
    after = tokenizer.encode(text_or_bytes("suffix", suffix), add_special=False, continuation=True)
    marks = (tokenizer.special.fim_pre, tokenizer.special.fim_suf, tokenizer.special.fim_mid)
    pre, suf, mid = marks
    if pre is not None and suf is not None and mid is not None:
        if order == "spm":
            return [*begin, pre, suf, *after, mid, *before]
        return [*begin, pre, *before, suf, *after, mid]
    pre, suf = tokenizer.token_to_id("[PREFIX]"), tokenizer.token_to_id("[SUFFIX]")  # Codestral has no middle
    if pre is None or suf is None:
        raise TokenizerError(_missing(marks))
    if order == "psm":
        raise TokenizerError("the marks of this vocabulary, [SUFFIX] and [PREFIX], have the order spm only")
    return [*begin, suf, *after, pre, *before]


def with_stops(tokenizer: Tokenizer, options: Options) -> Options:
    """Options with which an answer ends where the model begins another file."""
    marks = {mark: id for mark in _NEXT_FILE if (id := tokenizer.token_to_id(mark)) is not None}
    if not marks or options.get("special", False) is not False:
        return options
    stop = options.get("stop", ())
    return {**options, "stop": (*texts("stop", stop), *marks), "special": frozenset(marks.values())}


def _missing(marks: tuple[int | None, ...]) -> str:
    names = ("prefix", "suffix", "middle")
    missing = [name for name, id in zip(names, marks, strict=True) if id is None]
    what = "no marks" if len(missing) == 3 else f"no mark for the {' and the '.join(missing)}"
    return (
        f"the model cannot fill in: its vocabulary has {what} of fill-in-the-middle (tokenizer.ggml.fim_pre_token_id "
        "and the like, or tokens such as <|fim_prefix|>); take one that was trained for it, such as Qwen2.5-Coder, "
        "StarCoder 2 or Code Llama 7B and 13B"
    )
