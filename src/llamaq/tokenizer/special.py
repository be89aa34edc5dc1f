"""Tokens with a role: the beginning and end of a text, the end of a turn, fill-in-the-middle marks.

Files name some of them by id. Others are known by their text alone, as llama.cpp (src/llama-vocab.cpp) finds
them, because many converters left the ids out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from .metadata import Metadata, log, numbers, token_id
from .vocab import TokenType, Vocab

__all__ = ["SpecialTokens", "read_special"]

_KEYS = {  # role: keys of the file, the first one present counts
    "bos": ("bos_token_id", "cls_token_id"),
    "eos": ("eos_token_id",),
    "eot": ("eot_token_id",),
    "eom": ("eom_token_id",),
    "unk": ("unknown_token_id",),
    "sep": ("seperator_token_id",),
    "pad": ("padding_token_id",),
    "mask": ("mask_token_id",),
    "fim_pre": ("fim_pre_token_id", "prefix_token_id"),
    "fim_suf": ("fim_suf_token_id", "suffix_token_id"),
    "fim_mid": ("fim_mid_token_id", "middle_token_id"),
    "fim_pad": ("fim_pad_token_id",),
    "fim_rep": ("fim_rep_token_id",),
    "fim_sep": ("fim_sep_token_id",),
}

_TEXTS = {  # role: texts that have it where the file names no id
    "eot": (
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>"),
        *("<EOT>", "_<EOT>", "▁<EOT>", "[EOT]", "<｜end▁of▁sentence｜>", "<end_of_utterance>", "<|eot|>"),
    ),
    "eom": ("<|eom_id|>", "<|eom|>"),
    "fim_pre": (
        *("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>"),
        *("<|code_prefix|>", "<|prefix|>"),
    ),
    "fim_suf": (
        *("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>"),
        *("<|code_suffix|>", "<|suffix|>"),
    ),
    "fim_mid": (
        *("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>"),
        *("<|code_middle|>", "<|middle|>"),
    ),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}

_END_OF_GENERATION = (
    *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>"),
    *("<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]"),
    *("<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<start_function_response>"),
    *("<｜end▁of▁sentence｜>", "[e~["),
)
_ALWAYS_SHOWN = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")  # these frame gpt-oss' answers


@dataclass(frozen=True)
class SpecialTokens:
    """Ids by role, None where the vocabulary has no such token.

    ``eog_ids`` are all tokens at which generation ends: the end of a text, of a turn, of a message.
    """

    bos: int | None = None
    eos: int | None = None
    eot: int | None = None
    eom: int | None = None
    unk: int | None = None
    sep: int | None = None
    pad: int | None = None
    mask: int | None = None
    fim_pre: int | None = None
    fim_suf: int | None = None
    fim_mid: int | None = None
    fim_pad: int | None = None
    fim_rep: int | None = None
    fim_sep: int | None = None
    eog_ids: frozenset[int] = frozenset()


def read_special(metadata: Metadata, vocab: Vocab, defaults: Mapping[str, int]) -> SpecialTokens:
    """Finds every role's token; ``defaults`` are the scheme's own ids for roles that the file leaves out.

    Also corrects ``vocab.types``: a token that ends a turn is a control token, whatever the file says.
    """
    roles: dict[str, int] = {role: id for role, id in defaults.items() if id < len(vocab)}
    for role, keys in _KEYS.items():
        named = (token_id(metadata, f"tokenizer.ggml.{key}", len(vocab)) for key in keys)
        roles.update((role, id) for id in named if id is not None)
    for role, texts in _TEXTS.items():
        found = None if role in roles else next(_present(vocab, texts), None)
        if found is not None:
            roles[role] = found
            _mark_control(vocab, found)
    listed = numbers(metadata, "tokenizer.ggml.eos_token_ids")  # ollama's own files have several
    ends = [] if listed is None else [int(id) for id in listed if 0 <= id < len(vocab)]
    return SpecialTokens(**roles, eog_ids=_end_of_generation(vocab, roles, ends))


def _end_of_generation(vocab: Vocab, roles: Mapping[str, int], listed: Iterable[int]) -> frozenset[int]:
    """All ids that end generation: those listed, by role and by text."""
    by_text = {vocab.text(id): id for id in _present(vocab, _END_OF_GENERATION)}
    strikeout = by_text.get("</s>")
    if strikeout is not None and vocab.types[strikeout] == TokenType.NORMAL:
        del by_text["</s>"]  # here it is HTML and no end of text, as in Qwen's and Gemma 4's vocabularies
    for id in by_text.values():
        _mark_control(vocab, id)
    for id in _present(vocab, _ALWAYS_SHOWN):
        vocab.types[id] = TokenType.USER_DEFINED
    ends = {roles[role] for role in ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep") if role in roles}
    ends.update(listed, by_text.values())
    # In OpenAI's harmony format and in Solar's, <|end|> closes one message of an answer that goes on.
    if {"<|return|>", "<|call|>", "<|end|>"} <= by_text.keys() or (
        {"<|flush|>", "<|end|>"} <= by_text.keys() and by_text.keys() & {"<|call|>", "<|calls|>"}
    ):
        ends.discard(by_text["<|end|>"])
        vocab.types[by_text["<|end|>"]] = TokenType.USER_DEFINED
    return frozenset(ends)


def _present(vocab: Vocab, texts: Iterable[str]) -> Iterator[int]:
    return (vocab.ids[text.encode()] for text in texts if text.encode() in vocab.ids)


def _mark_control(vocab: Vocab, id: int) -> None:
    if vocab.types[id] != TokenType.CONTROL:
        log.info("token %d %r is marked as a control token, which its text says it is", id, vocab.text(id))
        vocab.types[id] = TokenType.CONTROL
