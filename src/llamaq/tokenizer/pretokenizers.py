"""How byte-level BPE cuts a text into words: the rules behind the names in ``tokenizer.ggml.pre``.

The names are llama.cpp's (src/llama-vocab.cpp), the patterns those of the models' own tokenizer.json. Where
llama.cpp approximates a pattern for want of Unicode classes in its regex library, the original stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from llamaq.errors import TokenizerError, naming

__all__ = ["PRETOKENIZERS", "Pretokenizer", "pretokenizer"]

# Parts that many patterns share. In a character class \p{L} is any letter, \p{N} any number, \p{M} a mark.
_SUFFIX = r"'(?:[sdmtSDMT]|[lL][lL]|[vV][eE]|[rR][eE])"  # I'm, she'll
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_PUNCTUATION = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_CASELESS = r"\p{Lm}\p{Lo}\p{M}"
_CASED_PUNCTUATION = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_CJK = r"[一-龥぀-ゟ゠-ヿ]+"
_ASCII_SIGN = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"


def _cased(suffix: str = "", without: str = "") -> str:
    """A word whose capitals come first: camelCase is two."""
    head = r"[^\r\n\p{L}\p{N}]?"
    upper, lower = rf"[[\p{{Lu}}\p{{Lt}}{_CASELESS}]{without}]", rf"[[\p{{Ll}}{_CASELESS}]{without}]"
    return f"{head}{upper}*{lower}+{suffix}|{head}{upper}+{lower}*{suffix}"


_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_SUFFIX}|{_WORD}|\p{{N}}{{1,3}}|{_PUNCTUATION}|{_SPACES}"
_QWEN2 = rf"{_SUFFIX}|{_WORD}|\p{{N}}|{_PUNCTUATION}|{_SPACES}"
_QWEN35 = (
    rf"{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_GPT4O = rf"{_cased(f'(?:{_SUFFIX})?')}|\p{{N}}{{1,3}}|{_CASED_PUNCTUATION}|{_SPACES}"
_TEKKEN = rf"{_cased()}|\p{{N}}|{_CASED_PUNCTUATION}|{_SPACES}"
_YOUTU = rf"{_cased(f'(?:{_SUFFIX})?')}|\p{{N}}|{_CASED_PUNCTUATION}|{_SPACES}"
_DEEPSEEK_WORD = rf"{_ASCII_SIGN}|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+"
_DEEPSEEK3 = rf"{_DEEPSEEK_WORD}[\r\n]*|{_SPACES}"
_SPARK = rf"{_DEEPSEEK_WORD}|[\r\n]|\s+(?!\S)|\s+"
_MINICPM5 = rf"{_SUFFIX}|{_WORD}|\p{{N}}+|{_PUNCTUATION}|{_SPACES}"
_BAILING = rf"{_SUFFIX}|{_WORD}|\p{{N}}|{_PUNCTUATION}|\s*[\r\n]|\s+(?!\S)|\s+"
_SEED = rf"{_SUFFIX}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"
_EXAONE_MOE = (
    rf"{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
_JAIS2 = (
    rf"{_SUFFIX}|{_WORD}|\p{{N}}{{1,3}}|{_PUNCTUATION}|\s*[\r\n]+|"
    + "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4, "1,2"))
    + r"|\s"
)
_KIMI_WORD = _cased(f"(?:{_SUFFIX})?", without=r"--\p{Han}")
_KIMI = rf"\p{{Han}}+|{_KIMI_WORD}|\p{{N}}{{1,3}}|{_PUNCTUATION}|{_SPACES}"
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
_HAN_HANGUL = "[一-龥ࠀ-一가-퟿]+"
_DEEPSEEK_LETTERS = (  # cased letters; escaped where an editor's normalization would change them
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕ"
    r"\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    r"\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4"
    r"\u1ff6-\u1ffcℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗ"
    r"Ａ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
)
_AFMOE_ASIAN = r"[一-鿿㐀-䶿\uf900-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+"
_YOUTU_ASIAN = "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" + _CJK
_THOUSANDS = "thousands:"  # marks a pattern for runs of digits that fall into threes from the right


@dataclass(frozen=True)
class Pretokenizer:
    """The rule of one name in ``tokenizer.ggml.pre``.

    Attributes:
        patterns: each cuts the pieces of the one before, into its matches and what lies between them.
        ignore_merges: a word that is a token is that token, whatever the merges would make of it.
        add_bos: whether BOS begins a text where the file does not say.
        clean_spaces: whether the model's authors clean up spaces in decoding, see `Tokenizer.decode`.
        byte_level: False where merges run over characters and spaces are spelled ▁, with no patterns.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False
    clean_spaces: bool = False
    byte_level: bool = True

    def split(self, text: str) -> list[str]:
        """The words of a text; joined they are the text."""
        words = [text]
        for cut in self._cuts:
            pieces = {piece: cut(piece) for piece in set(words)}  # most words come more than once
            words = list(chain.from_iterable(pieces[piece] for piece in words))
        return words

    @cached_property
    def _cuts(self) -> list[Callable[[str], list[str]]]:
        return [_cut(pattern) for pattern in self.patterns]


def _cut(pattern: str) -> Callable[[str], list[str]]:
    """A function that cuts a text into the matches of a pattern and what lies between them."""
    import regex  # it takes long to import, and only these tokenizers need it

    thousands = pattern.startswith(_THOUSANDS)
    pattern = pattern.removeprefix(_THOUSANDS)
    find = regex.compile(pattern, regex.V1).findall
    split = regex.compile(f"({pattern})", regex.V1).split

    def cut(text: str) -> list[str]:
        words: list[str] = find(text)
        if sum(map(len, words)) == len(text):
            return words  # nothing lies between, as with most patterns
        return [word for word in split(text) if word]

    def cut_thousands(text: str) -> list[str]:
        words: list[str] = []
        for i, piece in enumerate(split(text)):
            if i % 2:  # odd pieces are matches
                first = len(piece) % 3 or 3
                words += [piece[:first], *(piece[k : k + 3] for k in range(first, len(piece), 3))]
            elif piece:
                words.append(piece)
        return words

    return cut_thousands if thousands else cut


_PLAIN = Pretokenizer((_GPT2,))  # it has no cleanup of spaces; others in the table have it as llama.cpp does
_CLEAN = replace(_PLAIN, clean_spaces=True)
_DIGITS = replace(_PLAIN, patterns=(r"\p{N}", _GPT2))
_LLAMA_3 = Pretokenizer((_LLAMA3,), ignore_merges=True, add_bos=True, clean_spaces=True)
_QWEN_2 = Pretokenizer((_QWEN2,))
_GPT_4O = Pretokenizer((_GPT4O,))
_DEEPSEEK_3 = Pretokenizer((r"\p{N}{1,3}", _CJK, _DEEPSEEK3))
_BAILING_MOE = Pretokenizer((_BAILING,))
_GEMMA_4 = Pretokenizer((), add_bos=True, clean_spaces=True, byte_level=False)
_TINY_AYA = Pretokenizer((rf"{_THOUSANDS}(?<!\d)\d++(?![\p{{L}}\p{{M}}\p{{N}}\p{{Pc}}])", _GPT4O))


def _clean(*patterns: str) -> Pretokenizer:
    return Pretokenizer(patterns, clean_spaces=True)


PRETOKENIZERS: dict[str, Pretokenizer] = {
    "default": _clean(r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral"), _LLAMA_3),
    **dict.fromkeys(("midm-2.0", "lfm2", "jina-v5-nano"), _LLAMA_3),
    **dict.fromkeys(("gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de"), _CLEAN),
    **dict.fromkeys(("a.x-4.0", "mellum", "modern-bert", "mpt", "olmo", "jais", "exaone4"), _CLEAN),
    **dict.fromkeys(("jina-v1-en", "jina-v2-code", "roberta-bpe"), _CLEAN),
    **dict.fromkeys(("trillion", "granite-docling"), _PLAIN),
    **dict.fromkeys(("command-r", "smollm"), _DIGITS),
    **dict.fromkeys(
        ("starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"),
        replace(_DIGITS, clean_spaces=True),
    ),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "hunyuan", "solar-open"), _QWEN_2),
    **dict.fromkeys(("grok-2",), _QWEN_2),
    **dict.fromkeys(("stablelm2", "megrez"), replace(_QWEN_2, clean_spaces=True)),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe"), _clean(_LLAMA3)),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), _GPT_4O),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"), _DEEPSEEK_3),
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), _BAILING_MOE),
    **dict.fromkeys(("tiny_aya", "cohere2moe"), _TINY_AYA),
    **dict.fromkeys(("bloom", "gpt3-finnish"), _clean(_BLOOM)),
    **dict.fromkeys(("gemma4", "granite-embed-multi-311m"), _GEMMA_4),
    "afmoe": Pretokenizer((rf"{_THOUSANDS}\p{{N}}+", _AFMOE_ASIAN, _DEEPSEEK3)),
    "chameleon": Pretokenizer(
        (
            *("<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", r"[\t\n]|    |  ", r"\p{N}"),
            *(r"[\p{P}!-/:-@\[-`{-~]", _GPT2),
        ),
        add_bos=True,
    ),
    "deepseek-coder": Pretokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN_HANGUL, r"\p{N}")),
    "deepseek-llm": Pretokenizer(
        (
            *(r"[\r\n]", _DEEPSEEK_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"(?<!\s)\s++\Z"),
            *(_HAN_HANGUL, r"\p{N}+"),
        )
    ),
    "exaone-moe": _clean(_EXAONE_MOE),
    "falcon": _clean(r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]"),
    "glm4": replace(_clean(_LLAMA3), ignore_merges=True),
    "granite-embed-multi-97m": replace(_GPT_4O, ignore_merges=True),
    "jais-2": _clean(_JAIS2),
    "kimi-k2": Pretokenizer((_KIMI,)),
    "laguna": Pretokenizer((r"[^\n]+|\n+", _QWEN2)),
    "minicpm5": Pretokenizer((r"\p{N}{1,3}", _MINICPM5), ignore_merges=True, clean_spaces=True),
    "poro-chat": Pretokenizer((_BLOOM,)),
    "qwen35": Pretokenizer((_QWEN35,)),
    "sarvam-moe": replace(_GEMMA_4, add_bos=False, clean_spaces=False),
    "seed-coder": Pretokenizer((_SEED,)),
    "spark2_5": Pretokenizer((r"\p{N}{1,3}", _CJK, _SPARK, r"\p{N}")),
    "superbpe": Pretokenizer((r"\p{N}+", rf"{_THOUSANDS}\d+")),
    "tekken": Pretokenizer((_TEKKEN,), ignore_merges=True, add_bos=True),
    "ufakzeka": Pretokenizer((rf"{_WORD}|\p{{N}}|{_PUNCTUATION}|{_SPACES}",)),
    "viking": Pretokenizer((_BLOOM, r"\p{N}")),
    "youtu": Pretokenizer((_YOUTU_ASIAN, _YOUTU), ignore_merges=True),
}


def pretokenizer(name: str | None) -> Pretokenizer:
    """The rule of a name; TokenizerError for an unknown one or none, which lists those that exist."""
    rule = PRETOKENIZERS.get(name) if name is not None else None
    if rule is not None:
        return rule
    problem = (
        "the file names no pre-tokenizer (tokenizer.ggml.pre)"
        if name is None
        else f"unknown pre-tokenizer {name!r} (tokenizer.ggml.pre)"
    )
    message = f"{problem}; name the one the model was trained with by pre (known: {', '.join(sorted(PRETOKENIZERS))})"
    raise naming(TokenizerError(message), "pre")
