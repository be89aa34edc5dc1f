"""What tokenizer.json does to a text before its model sees it, said as far as GGUF can say it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence

from llamaq.convert.section import Section
from llamaq.errors import TokenizerError, naming
from llamaq.tokenizer import PRETOKENIZERS
from llamaq.tokenizer.merging import SPACE

__all__ = ["add_space_prefix", "check_normalizers", "rule_name", "steps"]

logger = logging.getLogger("llamaq")

_USUAL = ("llama-bpe", "gpt-2", "qwen2", "smollm", "gpt-4o", "tekken", "deepseek-llm", "deepseek-coder", "falcon")
"""The names to write for rules that have several."""
_PROBE = (
    "Hello  world,\tI'm she'LL don't WE'VE   \n\n \r\n x=3.14159+2,718 1234567 ١٢٣ ²³ ½ camelCase HTTPServer "
    "ÀÉîõü ça Straße naïve e\u0301te\u0301 日本語のテキスト、漢字123 한국어 ไทย العربية हिन्दी 🦙🦙 ok!!!???...\n\n\n "
    " (a|b)[c]{d}<e>^~`$€£ /* path/to */ foo_bar __init__ a\u00a0b \u3000全角 ＡＢＣ\n\t\tdef f(x):\n    return "
    "x**2 'tis 'Twas \"q\" — … 'S 'Ll\n"
)
"""A text that rules cut differently: the name whose rule cuts it as the file's own does is the file's."""
_SECONDS = 10.0  # seconds of one core's time: real rules cut the probe within milliseconds
_MOST_STEPS = 64
_LONGEST_PATTERN = 10_000  # characters
_COMPOSED = ("NFC", "NFKC", "Nmt", "Precompiled")  # they leave most texts as they are
_INNER = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}


def steps(described: Section, key: str) -> list[Section]:
    """The steps of ``key`` (normalizer, pre_tokenizer, decoder) in order, those of sequences one by one."""
    found = _flat(described.section(key), _INNER[key])
    if len(found) > _MOST_STEPS:
        raise TokenizerError(f"tokenizer.json: {key}: expected up to {_MOST_STEPS} steps, got {len(found)}")
    return found


def _flat(part: Section, inner: str) -> list[Section]:
    if inner in part:
        return [step for each in part.sections(inner) for step in _flat(each, inner)]
    return [part] if part else []


def check_normalizers(normalizers: Sequence[Section], *, spaces: bool) -> None:
    """Warns of what most texts do not need, and raises TokenizerError for other changes of the text.

    ``spaces``: the scheme spells spaces ▁, so the steps that do it need nothing more.
    """
    for step in normalizers:
        kind = step.text("type")
        if spaces and (_prepends_space(step) or _replaces_spaces(step)):
            continue
        if kind not in _COMPOSED:
            raise TokenizerError(
                f"tokenizer.json: normalizer: expected none, got {kind!r}, which changes texts in a way that GGUF "
                "cannot say; use the model with its own library"
            )
        logger.warning(
            "tokenizer.json: the normalizer %s is left out, as GGUF cannot say it: texts that it changes become "
            "other tokens",
            kind,
        )


def _prepends_space(step: Section) -> bool:
    return step.text("type") == "Prepend" and step.text("prepend") == SPACE


def _replaces_spaces(step: Section) -> bool:
    if step.text("type") != "Replace" or step.text("content") != SPACE:
        return False
    return step.section("pattern").values in ({"String": " "}, {"Regex": " "})


def add_space_prefix(normalizers: Sequence[Section], pretokenizers: Sequence[Section]) -> bool:
    """Whether a text gets a space before it, where spaces are spelled ▁.

    Raises TokenizerError where they are not; warns of steps that the scheme ``llama`` does not have.
    """
    spelled = prefixed = any(map(_prepends_space, normalizers))
    spelled = spelled or any(map(_replaces_spaces, normalizers))
    for step in pretokenizers:
        kind = step.text("type")
        if kind == "Metaspace" and step.text("replacement", SPACE) == SPACE:
            spelled = True
            scheme = step.text("prepend_scheme", "always")
            if scheme != "never" and step.flag("add_prefix_space", True):
                prefixed = True
                logger.warning(
                    "tokenizer.json: GGUF's llama cannot say %s: a space is put before every text and after every "
                    "special token, also where one stands already",
                    f"the pre_tokenizer Metaspace with prepend_scheme {scheme!r}",
                )
        elif not (kind == "Split" and step.section("pattern").values == {"String": " "}):  # no spaces are left
            logger.warning("tokenizer.json: the pre_tokenizer %s is left out, as GGUF's llama has none", kind)
    if not spelled:
        raise TokenizerError(f"tokenizer.json: normalizer: expected one that spells spaces {SPACE}, got none")
    return prefixed


def rule_name(parts: Sequence[Section], ignore_merges: bool) -> str:
    """The name of the pre-tokenizer that cuts `_PROBE` as these steps do. Raises TokenizerError where none does."""
    words = _cut([pattern for part in parts if (pattern := _pattern(part))])
    for name in (*_USUAL, *PRETOKENIZERS):
        rule = PRETOKENIZERS[name]
        if rule.byte_level and rule.ignore_merges == ignore_merges and rule.split(_PROBE) == words:
            return name
    raise _unknown(f"no rule that llamaq knows cuts texts like it (known: {', '.join(sorted(PRETOKENIZERS))})")


def _cut(patterns: Sequence[str]) -> list[str]:
    """The probe's words: each pattern cuts the pieces of the one before."""
    import regex

    words, end = [_PROBE], time.process_time() + _SECONDS
    try:
        for pattern in patterns:
            if len(pattern) > _LONGEST_PATTERN:
                raise ValueError(f"a pattern of {len(pattern)} characters")
            split = regex.compile(f"({pattern})", regex.V1).split
            cut = (split(word, timeout=max(0.001, end - time.process_time())) for word in words)
            words = [piece for pieces in cut for piece in pieces if piece]
    except (regex.error, ValueError, RecursionError, TimeoutError, OverflowError, MemoryError) as error:
        reason = "it takes too long" if isinstance(error, TimeoutError) else str(error)
        raise _unknown(f"cannot be understood: {reason}") from None
    return words


def _pattern(part: Section) -> str | None:
    """The pattern that a step cuts by; None where it does not cut."""
    kind = part.text("type")
    if kind == "ByteLevel":
        return PRETOKENIZERS["gpt-2"].patterns[0] if part.flag("use_regex", True) else None
    if kind == "Digits":
        return r"\p{N}" if part.flag("individual_digits") else r"\p{N}+"
    behavior = part.text("behavior", "Isolated")
    if kind == "Split" and (behavior == "Isolated" or (behavior == "Removed" and part.flag("invert"))):
        pattern = part.section("pattern")
        return pattern.text("Regex") if "Regex" in pattern else re.escape(pattern.text("String"))
    if kind == "Punctuation" and behavior in ("Isolated", "Contiguous"):
        return r"[\p{P}$+<=>\^`|~]" + ("+" if behavior == "Contiguous" else "")
    given = f"{kind!r} of behavior {behavior!r}" if kind in ("Split", "Punctuation") else repr(kind)
    raise _unknown(f"expected steps that llamaq knows, got {given}")


def _unknown(wrong: str) -> TokenizerError:
    return naming(TokenizerError(f"tokenizer.json: pre_tokenizer: {wrong}; name the nearest by pre"), "pre")
