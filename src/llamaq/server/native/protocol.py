"""The fields of llama-server's own requests."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from llamaq.boundary.arguments import INT32, real, shown, whole
from llamaq.server.fields import Field, boolean, integer, list_of_texts, mapping, string
from llamaq.server.openai.protocol import LORA, MOST_ANSWERS, MOST_BIASES, MOST_PROMPTS, SAMPLING, count, token_bias

__all__ = ["COMPLETION", "DETOKENIZE", "EMBEDDING", "INFILL", "RERANK", "TOKENIZE", "Parts"]

Parts: TypeAlias = "str | list[str | int]"
"""A prompt: a text, or texts and token ids in turn."""

_MOST_DOCUMENTS = 1024
_MOST_FILES = 1024


def _is_prompt(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(type(x) in (int, str) for x in value))


def _parts(name: str, value: Any) -> Parts:
    if isinstance(value, dict) and set(value) == {"prompt_string"}:
        value = value["prompt_string"]
    if not _is_prompt(value):
        raise TypeError(f"{name} must be a text, or a list of texts and token ids, got {shown(value)}")
    found: Parts = value
    return found


def _prompts(name: str, value: Any) -> list[Parts]:
    """One prompt, or a list of prompts; a list of texts alone is as many prompts."""
    several = isinstance(value, list) and value and all(not isinstance(each, int) for each in value)
    given = value if several else [value]
    if len(given) > MOST_PROMPTS:
        raise ValueError(f"{name} must be at most {MOST_PROMPTS} prompts, got {len(given)}")
    return [_parts(name, each) for each in given]


def _contents(name: str, value: Any) -> list[Parts]:
    return [each or "" for each in _prompts(name, value)]


def _logit_bias(name: str, value: Any) -> list[tuple[int | str, float]]:
    """Pairs of a token id, or a text whose tokens are all meant, and a number; false forbids."""
    if isinstance(value, dict):
        return [*token_bias(name, value).items()]
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise TypeError(f"{name} must be an object, or a list of pairs of token and number, got {shown(value)}")
    if len(value) > MOST_BIASES:
        raise ValueError(f"{name} must have at most {MOST_BIASES} pairs, got {len(value)}")
    found: list[tuple[int | str, float]] = []
    for token, bias in value:
        token = token if isinstance(token, str) else whole(f"each token of {name}", token, 0, INT32)
        change = -math.inf if bias is False else real(f"each number of {name}", bias, -1e6, 1e6)
        found.append((token, change))
    return found


def _files(name: str, value: Any) -> list[tuple[str, str]]:
    if not isinstance(value, list) or len(value) > _MOST_FILES:
        raise ValueError(f"{name} must be a list of at most {_MOST_FILES} files, got {shown(value)}")
    found = []
    for i, each in enumerate(value):
        file = mapping(f"{name}[{i}]", each)
        found.append((string(f"{name}[{i}].filename", file.get("filename", "tmp")),
                      string(f"{name}[{i}].text", file.get("text", ""))))  # fmt: skip
    return found


def _documents(name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_DOCUMENTS:
        raise ValueError(f"{name} must be a list of 1 to {_MOST_DOCUMENTS} texts, got {shown(value)}")
    return [string(f"each of {name}", each) for each in value]


def _ids(name: str, value: Any) -> list[int]:
    if not isinstance(value, list) or not all(type(id) is int for id in value):
        raise TypeError(f"{name} must be a list of token ids, got {shown(value)}")
    return value


_MODEL = Field("model", "one of the server's names; need not be given", string)

_ANSWER = (
    Field("n_predict", "tokens of the answer; -1: until its end or that of the context", count),
    Field("max_tokens", "the same; `n_predict` comes before it", count),
    Field("n_cmpl", f"1 to {MOST_ANSWERS} answers, each with the seed after that of the one before",
          integer(1, MOST_ANSWERS)),
    Field("stream", "server-sent events", boolean),
    Field("stop", "a text or up to 64", list_of_texts(64, 1024)),
    *(field for field in SAMPLING if field.name != "logit_bias"),
    Field("logit_bias", "as OpenAI has it, or pairs of a token or text and a number; false forbids", _logit_bias),
    Field("grammar", "GBNF", string),
    Field("json_schema", "what the answer must match; `{}`: any object", mapping),
    Field("n_probs", "0 to 20: log-probabilities of every token, and of so many most likely ones", integer(0, 20)),
    Field("return_tokens", "token ids of the answer; a stream has them always", boolean),
    Field("response_fields", "the fields that are wanted; `a/b` is field `b` of `a`", list_of_texts(64, 256)),
    Field("timings_per_token", "`timings` with each piece of a stream", boolean),
    Field("return_progress", "pieces of a stream that tell how much of the prompt has been read", boolean),
    Field("post_sampling_probs", "probabilities are told as the model gives them", neutral=(False,)),
    Field("t_max_predict_ms", "answers are not bound in time: hang up, or bound `n_predict`", neutral=(0, -1)),
    Field("n_indent", "answers are not bound by indentation", neutral=(0,)),
    LORA,
    Field("n_keep", "a prompt that is too long is refused"),
    Field("n_discard", "nothing is dropped from a context"),
    Field("cache_prompt", "what was read is always reused"),
    Field("n_cache_reuse", "what was read is always reused"),
    Field("id_slot", "there are no slots"),
    Field("sse_ping_interval", "silent streams give a sign of life in any case"),
    _MODEL,
)  # fmt: skip

COMPLETION = (
    Field("prompt", "a text, a list of texts and token ids, `prompt_string`, or up to 64 of them", _prompts),
    *_ANSWER,
)

INFILL = (
    Field("input_prefix", "what stands before", string),
    Field("input_suffix", "what stands behind", string),
    Field("input_extra", "files to look at, as `filename` and `text`; as much as there is room for", _files),
    Field("prompt", "a text that goes on the prefix", string),
    *_ANSWER,
)

TOKENIZE = (
    Field("content", "a text, or a list of texts and token ids", _parts),
    Field("add_special", "BOS and the like; not where not given", boolean),
    Field("parse_special", "special tokens spelled out in the text; understood where not given", boolean),
    Field("with_pieces", "each token's text, too, or its bytes where they are no whole characters", boolean),
    _MODEL,
)

DETOKENIZE = (Field("tokens", "token ids", _ids), _MODEL)

EMBEDDING = (
    Field("content", "a text, a list of texts and token ids, or up to 64 of them", _contents),
    Field("input", "the same", _contents),
    Field("embd_normalize", "2: length 1 (the default); -1: as they are; 0: the largest 32760; p: p-norm 1",
          integer(-1, 64)),
    _MODEL,
)  # fmt: skip

RERANK = (
    Field("query", "what the documents are to answer", string),
    Field("documents", f"1 to {_MOST_DOCUMENTS} texts", _documents),
    Field("texts", "the same; the answer then has the form of text-embeddings-inference", _documents),
    Field("top_n", "so many of the best", integer(1, INT32)),
    Field("return_text", "with `texts`: their texts, too", boolean),
    _MODEL,
)
