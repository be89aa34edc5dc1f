"""Byte-pair encoding as tokenizer.json describes it: over bytes (GPT-2, Llama 3), or over characters (Llama 2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llamaq.errors import ModelError, TokenizerError
from llamaq.tokenizer import PRETOKENIZERS, TokenType
from llamaq.tokenizer.pretokenizers import Pretokenizer

__all__ = ["read_bpe"]

Put = Callable[[int, str, TokenType, float], None]

_USUAL = ("llama-bpe", "gpt-2", "qwen2", "smollm", "gpt-4o", "tekken", "deepseek-llm", "deepseek-coder", "falcon")
"""Of several names for one rule, the one to write."""
_PROBE = (
    "Hello  world,\tI'm she'LL don't WE'VE   \n\n \r\n x=3.14159+2,718 1234567 ١٢٣ ²³ ½ camelCase HTTPServer "
    "ÀÉîõü ça Straße naïve e\u0301te\u0301 日本語のテキスト、漢字123 한국어 ไทย العربية हिन्दी 🦙🦙 ok!!!???...\n\n\n "
    " (a|b)[c]{d}<e>^~`$€£ /* path/to */ foo_bar __init__ a\u00a0b \u3000全角 ＡＢＣ\n\t\tdef f(x):\n    return "
    "x**2 'tis 'Twas \"q\" — … 'S 'Ll\n"
)
"""A text that rules cut differently: the name whose rule cuts it as the file's own does is the file's."""


def read_bpe(described: Mapping[str, Any], put: Put, pre: str | None = None) -> dict[str, Any]:
    """Hands over every token, and returns the scheme's keys. Raises TokenizerError for a scheme that is unknown."""
    model = described.get("model") or {}
    if model.get("type", "BPE") != "BPE" or "merges" not in model or "vocab" not in model:
        raise TokenizerError(
            f"tokenizer.json: model: expected BPE, got {model.get('type')!r}; llamaq converts BPE and tokenizer.model"
        )
    merges = [_pair(merge) for merge in model["merges"]]
    parts = list(_flat(described.get("pre_tokenizer")))
    if any(part.get("type") == "ByteLevel" for part in (*parts, *_flat(described.get("decoder")))):
        for text, id in model["vocab"].items():
            put(id, text, TokenType.NORMAL, 0.0)
        name = pre or _rule_name(parts, bool(model.get("ignore_merges")))
        spelled = [" ".join(half.replace(" ", "Ġ") for half in pair) for pair in merges]
        return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": name, "tokenizer.ggml.merges": spelled}
    if not model.get("byte_fallback"):
        raise TokenizerError("tokenizer.json: expected BPE over bytes, or with byte_fallback, got neither")
    scores: dict[str, float] = {}
    for left, right in merges:  # the first merge that makes a token says when its turn comes
        scores.setdefault(left + right, -1.0 - len(scores))
    for text, id in model["vocab"].items():
        kind = TokenType.BYTE if len(text) == 6 and text.startswith("<0x") else TokenType.NORMAL
        kind = TokenType.UNKNOWN if text == model.get("unk_token") else kind
        put(id, text, kind, scores.get(text, 0.0))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.add_space_prefix": _adds_space(described, parts),
    }


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge if isinstance(merge, list) else merge.split(" ")
    return left, right


def _flat(part: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The steps of a sequence of steps, or the one that it is."""
    for key in ("pretokenizers", "normalizers", "decoders"):
        if part and key in part:
            for inner in part[key]:
                yield from _flat(inner)
            return
    if part:
        yield part


def _adds_space(described: Mapping[str, Any], parts: list[Mapping[str, Any]]) -> bool:
    """Whether a text gets a space before it."""
    for part in (*_flat(described.get("normalizer")), *parts):
        if part.get("type") == "Prepend":
            return True
        if part.get("type") == "Metaspace":
            return part.get("prepend_scheme", "always") != "never" and part.get("add_prefix_space") is not False
    return False


def _rule_name(parts: list[Mapping[str, Any]], ignore_merges: bool) -> str:
    """The name of the pre-tokenizer that cuts `_PROBE` as these steps do."""
    patterns = tuple(pattern for part in parts if (pattern := _pattern(part)))
    try:
        words = Pretokenizer(patterns).split(_PROBE)
    except Exception as error:  # `regex` has its own class of errors, and loads late
        raise TokenizerError(f"tokenizer.json: pre_tokenizer: cannot be understood: {error}; give --pre NAME") from None
    for name in (*_USUAL, *PRETOKENIZERS):
        rule = PRETOKENIZERS[name]
        if rule.byte_level and rule.ignore_merges == ignore_merges and rule.split(_PROBE) == words:
            return name
    raise TokenizerError(
        "tokenizer.json: pre_tokenizer: no rule that llamaq knows cuts texts like it; "
        f"give the name of the nearest as --pre NAME. Known: {', '.join(sorted(PRETOKENIZERS))}"
    )


def _pattern(part: Mapping[str, Any]) -> str | None:
    """The pattern that a step cuts by; None where it does not cut."""
    kind = part.get("type")
    if kind == "ByteLevel":
        return PRETOKENIZERS["gpt-2"].patterns[0] if part.get("use_regex", True) else None
    if kind == "Digits":
        return r"\p{N}" if part.get("individual_digits") else r"\p{N}+"
    if kind == "Split":
        pattern = part["pattern"]
        return str(pattern["Regex"]) if "Regex" in pattern else re.escape(pattern["String"])
    if kind == "Punctuation":
        return r"[\p{P}$+<=>\^`|~]" + ("+" if part.get("behavior") == "Contiguous" else "")
    raise ModelError(f"tokenizer.json: pre_tokenizer: expected steps that llamaq knows, got {kind!r}; give --pre NAME")
