"""Filling in the middle: the prompt's tokens for each family's marks, the answer, and its twins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bigrams import bigram_file
from gguf_files import copy_with
from llamaq import LLM, SamplingParams
from llamaq.errors import TokenizerError
from llamaq.gguf import GGUFFile
from llamaq.llm.infill import infill_ids
from llamaq.tokenizer import Tokenizer, load_tokenizer

GREEDY = SamplingParams(temperature=0)
PREFIX, SUFFIX = "def f(x):\n    return ", "\n\nprint(f(1))<|endoftext|>"
CODE_LLAMA = {
    f"tokenizer.ggml.{role}_token_id": 500 + i for i, role in enumerate(("prefix", "suffix", "middle", "eot"))
}


def tokenizer_of(path: Path, **entries: Any) -> Tokenizer:
    with GGUFFile.open(path) as file:
        return load_tokenizer({**file.metadata, **entries})


def ids_of(tokenizer: Tokenizer, *parts: str | int) -> list[int]:
    """Ids of marks by their number or text, and of texts as the tokenizer alone would have them."""
    found: list[int] = []
    for part in parts:
        id = part if isinstance(part, int) else tokenizer.token_to_id(part)
        found += [id] if id is not None else tokenizer.encode(part, add_special=False)
    return found


def test_marks_by_their_text(shared: Callable[[str], Path], tmp_path: Path) -> None:
    qwen = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    made = bigram_file(tmp_path / "m.gguf", [*qwen, "<|endoftext|>"], {}, tokenizer__ggml__add_bos_token=False)
    starcoder = shared("vocab/ggml-vocab-starcoder.gguf")
    for path, (pre, suf, mid) in ((made, qwen), (starcoder, ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"))):
        tokenizer = tokenizer_of(path)
        assert infill_ids(tokenizer, PREFIX, SUFFIX) == ids_of(tokenizer, pre, PREFIX, suf, SUFFIX, mid)
        assert infill_ids(tokenizer, PREFIX, SUFFIX, "spm") == ids_of(tokenizer, pre, suf, SUFFIX, mid, PREFIX)
        assert infill_ids(tokenizer, "", b"") == ids_of(tokenizer, pre, suf, mid)
        assert tokenizer.token_to_id("<|endoftext|>") not in infill_ids(tokenizer, PREFIX, SUFFIX)


def test_code_llama_names_its_marks(shared: Callable[[str], Path]) -> None:
    tokenizer = tokenizer_of(shared("models/stories260K-F32.gguf"), **CODE_LLAMA)
    before = tokenizer.encode("Tom ran", add_special=False)
    after = tokenizer.encode("home.", add_special=False, continuation=True)
    assert after != tokenizer.encode("home.", add_special=False)
    assert infill_ids(tokenizer, "Tom ran", "home.") == [1, 500, *before, 501, *after, 502]
    assert infill_ids(tokenizer, "Tom ran", "home.", "spm") == [1, 500, 501, *after, 502, *before]
    assert 503 in tokenizer.eog_ids


def test_codestral_puts_the_suffix_first(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(bigram_file(tmp_path / "m.gguf", ["[PREFIX]", "[SUFFIX]", "a", "b"], {}))
    assert infill_ids(tokenizer, "a", "b") == ids_of(tokenizer, 1, "[SUFFIX]", "b", "[PREFIX]", "a")
    with pytest.raises(TokenizerError, match="the order spm only"):
        infill_ids(tokenizer, "a", "b", "psm")


def test_models_that_cannot_are_refused(shared: Callable[[str], Path]) -> None:
    path = shared("models/stories260K-F32.gguf")
    with pytest.raises(
        TokenizerError, match="the model cannot fill in: its vocabulary has no marks of fill-in-the-mid"
    ):
        infill_ids(tokenizer_of(path), "a", "b")
    without = {key: id for key, id in CODE_LLAMA.items() if "middle" not in key}
    with pytest.raises(TokenizerError, match="its vocabulary has no mark for the middle of"):
        infill_ids(tokenizer_of(path, **without), "a", "b")
    with pytest.raises(ValueError, match="order must be 'psm' or 'spm', got 'mps'"):
        infill_ids(tokenizer_of(path, **CODE_LLAMA), "a", "b", "mps")
    with pytest.raises(TypeError, match="suffix must be text or bytes, got None"):
        infill_ids(tokenizer_of(path, **CODE_LLAMA), "a", None)


@pytest.fixture(scope="module")
def llm(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    path = tmp_path_factory.mktemp("infill") / "model.gguf"
    copy_with(CODE_LLAMA, shared("models/stories260K-F32.gguf"), path)
    with LLM.load(path, threads=1) as llm:
        yield llm


def test_it_is_the_answer_to_that_prompt(llm: LLM) -> None:
    expected = llm.generate(infill_ids(llm.tokenizer, "Tom", "home."), max_tokens=12, sampling=GREEDY)
    done = llm.infill("Tom", "home.", max_tokens=12, sampling=GREEDY)
    assert (done.text, done.tokens) == (expected.text, expected.tokens)
    assert len(done.tokens) == 12
    assert asyncio.run(llm.ainfill("Tom", "home.", max_tokens=12, sampling=GREEDY)).tokens == expected.tokens
    events = list(llm.infill("Tom", "home.", stream=True, max_tokens=12, sampling=GREEDY))
    assert "".join(event.text for event in events) == expected.text
    other = llm.infill("Tom", "home.", order="spm", max_tokens=12, sampling=GREEDY)
    assert other.tokens != expected.tokens
    with pytest.raises(ValueError, match="overflow must be 'error' for infill, got 'shift'"):
        llm.infill("a", "b", overflow="shift")


def test_it_ends_where_another_file_begins(tmp_path: Path) -> None:
    tokens = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<file_sep>", "x", "y"]
    for mark in ("<file_sep>", "</s>"):
        follow = {"<|fim_middle|>": {"x": 1.0}, "x": {mark: 1.0}, "<file_sep>": {"y": 1.0}}
        with LLM.load(bigram_file(tmp_path / "m.gguf", tokens, follow), threads=1) as llm:
            done = llm.infill("a", "b", sampling=GREEDY)
            assert (done.text, done.finish_reason) == ("x", "stop")
            assert llm.infill("a", "b", sampling=GREEDY, stop="x").text == ""
            assert llm.generate([*infill_ids(llm.tokenizer, "a", "b")], sampling=GREEDY).text.startswith("x")
