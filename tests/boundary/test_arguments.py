"""Wrong arguments, all over the public API: an error names the argument or is llamaq's own, never a foreign one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import LLM, GGUFFile, SamplingParams, quantize, structure
from llamaq.boundary.arguments import real, shown, whole, wholes
from llamaq.convert import convert
from llamaq.errors import LlamaqError
from llamaq.gguf import imatrix
from llamaq.quantization import file_type_by_name
from llamaq.sampling import Sampler

GREEDY = SamplingParams(temperature=0)


class Hostile:
    """Nothing can be done with it, not even show it."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


WRONG: list[Any] = [
    *(None, "", "5", "\ud800", b"5", bytearray(b"ab"), memoryview(b"ab")),
    *(True, 1.5, math.nan, math.inf, -math.inf, 1j, 2**31, 2**63, 2**200, -(2**200), 10**5000, -1),
    *(np.int64(3), np.int64(-3), np.uint64(2**64 - 1), np.float64("nan"), np.bool_(True)),
    *(np.array(3), np.array([]), np.array([1, 2]), np.array([1.5]), np.array([[1, 2]]), np.array(["a"])),
    *([], [[]], [1, "a"], [None], [1.5], [2**200], [-1], (1,), {}, {1: 2}, {"a": 1}, set(), range(3)),
    *(object(), object, Hostile(), Path("absent"), lambda *_: None),
]


@pytest.fixture(scope="module")
def llm(stories: Path) -> Iterator[LLM]:
    with LLM.load(stories, threads=1, n_ctx=64) as llm:
        yield llm


def sweep(name: str, call: Callable[[Any], Any], values: list[Any] = WRONG) -> None:
    """Whatever ``call`` makes of a value, it makes it itself, or says that ``name`` is wrong."""
    for value in values:
        try:
            call(value)
        except LlamaqError:
            pass
        except (ValueError, TypeError) as error:
            if name not in str(error):
                raise AssertionError(f"{name}={shown(value)} is not told") from error


@pytest.mark.parametrize(
    "name",
    [
        "path", "n_ctx", "n_cache", "threads", "n_batch", "cache_type", "pack", "numerics", "speculation", "draft",
        "pre", "progress",
    ],
)  # fmt: skip
def test_loading(stories: Path, name: str) -> None:
    values = [value for value in WRONG if value is not object]  # that is a function, though not one of two arguments
    sweep(name, lambda v: LLM.load(**{"path": stories, "n_ctx": 64, "threads": 1, name: v}).close(), values)


@pytest.mark.parametrize(
    "name", ["max_tokens", "sampling", "stop", "special", "overflow", "keep", "timeout", "prediction"]
)
def test_generating(llm: LLM, name: str) -> None:
    sweep(name, lambda v: llm.generate("Tom", **{"max_tokens": 2, "sampling": GREEDY, name: v}))
    sweep(name, lambda v: llm.session().generate("Tom", **{"max_tokens": 2, "sampling": GREEDY, name: v}))


def test_texts_and_ids(llm: LLM) -> None:
    sweep("prompt", lambda v: llm.generate(v, max_tokens=1))
    sweep("prompts", lambda v: llm.batch(v, max_tokens=1))
    sweep("prompts", lambda v: llm.batch([v], max_tokens=1))
    sweep("samplings", lambda v: llm.batch(["Tom"], samplings=v, max_tokens=1))
    sweep("samplings", lambda v: llm.batch(["Tom"], samplings=[v], max_tokens=1))
    sweep("tokens", llm.logits)
    sweep("first", lambda v: llm.logits([1, 2, 3], first=v))
    sweep("text", llm.forward)
    sweep("capture", lambda v: llm.forward("Tom", capture=v))
    sweep("capture", lambda v: llm.forward("Tom", capture=[v]))
    sweep("layers", lambda v: llm.forward("Tom", capture=["attention"], layers=v))
    sweep("text", llm.score)
    sweep("prompt", lambda v: llm.score("Tom", prompt=v))
    sweep("texts", llm.embed)
    sweep("texts", lambda v: llm.embed([v]))
    sweep("pooling", lambda v: llm.embed("Tom", pooling=v))
    sweep("normalize", lambda v: llm.embed("Tom", normalize=v))


def test_tokenizing(llm: LLM) -> None:
    tokenizer = llm.tokenizer
    sweep("text", llm.tokenize)
    sweep("tokens", llm.detokenize)
    sweep("special", lambda v: llm.detokenize([1], special=v))
    sweep("add_special", lambda v: llm.tokenize("a", add_special=v))
    sweep("parse_special", lambda v: llm.tokenize("a", parse_special=v))
    sweep("ids", tokenizer.decode_bytes)
    sweep("text", tokenizer.token_to_id)
    for call in (tokenizer.token_text, tokenizer.token_bytes, tokenizer.stream().push):
        sweep("id", call)


def test_sessions(llm: LLM) -> None:
    session = llm.session()
    sweep("n", session.truncate)
    session.extend("Tom")
    sweep("text", lambda v: session.fork().extend(v))
    sweep("path", session.load)
    sweep("path", session.save, ["\0", "\ud800", None, b"a", 1.5, 2**200, [], object(), Hostile()])


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(SamplingParams)])
def test_sampling(llm: LLM, field: str) -> None:
    def call(value: Any) -> None:
        others = {} if field == "mirostat" else {"dry_multiplier": 1.0, "repeat_penalty": 1.1, "xtc_probability": 0.5}
        sampling = SamplingParams(**{"seed": 1, **others, field: value})
        hash(sampling)
        llm.generate([1, 5, 6, 5, 6], max_tokens=2, sampling=sampling)

    sweep(field, call)


def test_what_sampling_is_given(llm: LLM) -> None:
    def bias(**settings: Any) -> None:
        llm.generate("Tom", max_tokens=1, sampling=SamplingParams(**settings))

    hashable = [value for value in WRONG if type(value).__hash__ is not None and not isinstance(value, memoryview)]
    sweep("logit_bias", lambda v: bias(logit_bias={v: 1.0}), hashable)
    sweep("logit_bias", lambda v: bias(logit_bias={5: v}))
    sweep("index", SamplingParams(seed=1).nth)
    sweep("params", Sampler)
    sweep("tokenizer", lambda v: Sampler(GREEDY, v))
    sweep("ids", lambda v: Sampler(GREEDY).feed(v))
    sweep("token", lambda v: Sampler(GREEDY).accept(v))


def test_files(stories: Path) -> None:
    sweep("path", GGUFFile.open)
    sweep("path", imatrix.read)
    with GGUFFile.open(stories) as file:
        sweep("name", file.data, [value for value in WRONG if not isinstance(value, str)])


@pytest.mark.parametrize("make", [structure.json_schema, structure.regex, structure.lark, structure.gbnf])
def test_structures(make: Callable[[Any], Any]) -> None:
    name = {"json_schema": "schema", "regex": "pattern"}.get(make.__name__, "grammar")
    sweep(name, make)


@pytest.mark.parametrize(
    "name", ["tools", "template", "template_kwargs", "tool_format", "max_tokens", "stop", "special", "timeout"]
)
def test_chatting(llm: LLM, name: str) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    said = {"tools": "tool"}.get(name, name)
    sweep(said, lambda v: llm.chat(messages, **{"template": "chatml", "max_tokens": 1, name: v}))


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("source", {"type": "Q8_0"}),
        ("type", {}),
        ("imatrix", {"type": "Q8_0"}),
        ("tensor_types", {"type": "Q8_0"}),
        ("output_tensor_type", {"type": "Q8_0"}),
        ("override_kv", {"type": "Q8_0"}),
        ("threads", {"type": "Q8_0"}),
        ("progress", {"type": "Q8_0"}),
        ("target_size", {}),
        ("target_bpw", {}),
        ("text", {"max_kl": 1.0}),
    ],
)
def test_quantizing(stories: Path, tmp_path: Path, name: str, others: dict[str, Any]) -> None:
    """Values of the right kind have errors in the words of what they are."""
    right = str | int | float | np.number | Path
    wrong = [value for value in WRONG if not isinstance(value, right) and value is not object]
    fixed = {"source": stories, "target": tmp_path / "out.gguf", "threads": 1}
    sweep(name, lambda v: quantize(**{**fixed, **others, name: v}), wrong)


@pytest.mark.parametrize("name", ["pure", "leave_output_tensor", "allow_requantize", "keep_split", "reference"])
def test_flags_of_quantizing(stories: Path, tmp_path: Path, name: str) -> None:
    fixed = {"source": stories, "target": tmp_path / "out.gguf", "threads": 1, "type": "COPY"}
    for value in (np.array([]), np.array([1, 2]), np.array([[True]])):
        with pytest.raises(TypeError, match=f"^{name} must be true or false, got array"):
            quantize(**{**fixed, name: value})
    assert not (tmp_path / "out.gguf").exists()


def test_other_files(tmp_path: Path) -> None:
    wrong = [value for value in WRONG if not isinstance(value, str | Path)]

    def converted(name: str, value: Any) -> None:
        convert(**{"source": tmp_path, "target": tmp_path / "x", name: value})

    for name in ("source", "target", "outtype", "metadata"):
        sweep(name, partial(converted, name), wrong)
    sweep("path", lambda v: imatrix.save(v, imatrix.Imatrix()), wrong)
    sweep("imatrix", lambda v: imatrix.save(tmp_path / "x", v))
    sweep("parts", imatrix.merged)
    sweep("name", file_type_by_name, wrong)


def test_a_bias_beyond_the_vocabulary_is_told(llm: LLM) -> None:
    size = llm.hparams.vocab_size
    message = f"logit_bias has token {size}, but the vocabulary's {size} tokens are 0 to {size - 1}"
    for call in (llm.generate, llm.stream):
        with pytest.raises(ValueError, match=message):
            call("Tom", sampling=SamplingParams(logit_bias={3: 1.0, size: 1.0}))
    allowed = SamplingParams(temperature=0, logit_bias={size - 1: 1e6})
    assert llm.generate("Tom", max_tokens=1, sampling=allowed).tokens == (size - 1,)


def test_numpy_is_taken_where_integers_are(llm: LLM) -> None:
    ids = np.array(llm.prompt_ids("Once upon a time"))
    want = llm.generate(ids.tolist(), max_tokens=5, sampling=GREEDY).tokens
    for prompt in (ids, ids.astype(np.uint16), list(ids), tuple(ids)):
        done = llm.generate(prompt, max_tokens=np.int64(5), sampling=GREEDY)
        assert done.tokens == want
    assert llm.detokenize(ids) == llm.detokenize(ids.tolist())
    np.testing.assert_array_equal(llm.logits(ids, first=np.int32(2)), llm.logits(ids.tolist(), first=2))
    np.testing.assert_array_equal(llm.score(ids).logprobs, llm.score(ids.tolist()).logprobs)
    np.testing.assert_array_equal(llm.embed([ids]), llm.embed([ids.tolist()]))
    assert [done.tokens for done in llm.batch(np.stack([ids, ids]), max_tokens=5, sampling=GREEDY)] == [want] * 2
    session = llm.session()
    session.extend(ids)
    assert session.tokens == tuple(ids.tolist())
    assert {type(id) for id in session.tokens} == {int}
    settings = SamplingParams(top_k=np.int64(5), seed=np.uint32(7), temperature=np.float32(0.5))
    assert settings == SamplingParams(top_k=5, seed=7, temperature=0.5)


@pytest.mark.parametrize(
    ("check", "kind", "message"),
    [
        (lambda: whole("n", 1.0), TypeError, "n must be a whole number, got 1.0"),
        (lambda: whole("n", True, 0), TypeError, "n must be a whole number of at least 0, got True"),
        (lambda: whole("n", -1, 0, 5), ValueError, "n must be a whole number from 0 to 5, got -1"),
        (lambda: whole("n", 10**5000, 0, 5), ValueError, "n must be a whole number from 0 to 5, got <int"),
        (lambda: real("x", math.nan, 0.0), ValueError, "x must be a number of at least 0, got nan"),
        (lambda: real("x", "1"), TypeError, "x must be a number, got '1'"),
        (lambda: wholes("ids", "12", "ids"), TypeError, "ids must be a list of ids, got '12'"),
        (lambda: wholes("ids", [1, "2"], "ids"), TypeError, "each of ids must be a whole number, got '2'"),
        (lambda: wholes("ids", [-2], "ids", 0), ValueError, "each of ids must be a whole number of at least 0, got -2"),
        (lambda: whole("n", Hostile()), TypeError, "n must be a whole number, got <Hostile"),
    ],
)
def test_messages(check: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        check()
    assert str(caught.value).startswith(message)
