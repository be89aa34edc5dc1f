"""Step by step: tokens, ``eval``, ``sample``, ``generate``, states; pickling; what a ``Llama`` says of itself."""

from __future__ import annotations

import copy
import ctypes
import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaq import SamplingParams
from llamaq.compat import llama_cpp
from llamaq.compat.llama_cpp import Llama, LlamaDiskCache, LlamaRAMCache, LlamaTokenizer, StoppingCriteriaList
from llamaq.compat.llama_cpp.llama_tokenizer import BaseLlamaTokenizer, LlamaHFTokenizer
from llamaq.errors import ClosedError

TEXT = b"Once upon a time"


def test_tokens_and_bytes(llama: Llama, story: Path) -> None:
    ids = llama.tokenize(TEXT)
    assert ids[0] == llama.token_bos() == 1
    assert llama.detokenize(ids) == TEXT
    assert llama.detokenize(ids[1:]) == b" " + TEXT
    assert llama.tokenize(TEXT, add_bos=False) == ids[1:]
    assert llama.tokenize(b"Once</s>", special=True)[-1] == llama.token_eos()
    assert llama.detokenize([1], special=True) == b"<s>"
    assert llama.detokenize(llama.tokenize(b"\xff")) == b"\xff"
    assert isinstance(llama.tokenizer_, LlamaTokenizer)
    for tokenizer in (llama.tokenizer(), llama.tokenizer_, LlamaTokenizer.from_ggml_file(str(story))):
        assert tokenizer.decode(tokenizer.encode("Once")) == "Once"
    assert Llama.longest_token_prefix([1, 2, 3], [1, 2]) == 2
    assert Llama.longest_token_prefix([1], [2]) == Llama.longest_token_prefix([], [2]) == 0


def test_what_a_model_says_of_itself(llama: Llama) -> None:
    assert (llama.n_ctx(), llama.context_params.n_ctx, llama.n_batch) == (256, 256, 256)
    assert (llama.n_vocab(), llama.n_embd(), llama.token_nl()) == (512, 64, 13)
    assert llama.metadata["general.architecture"] == "llama"
    assert llama.metadata["llama.block_count"] == "5"
    assert all(isinstance(value, str) for value in llama.metadata.values())
    assert llama.model.model.ctx is llama


def test_logits_of_each_token(llama: Llama) -> None:
    ids = llama.tokenize(TEXT)
    llama.reset()
    llama.eval(ids[:2])
    llama.eval(ids[2:])
    assert (llama.n_tokens, llama.input_ids[:6].tolist()) == (5, [*ids, 0])
    np.testing.assert_array_equal(llama._scores, llama.llm.logits(ids))
    assert [*llama.eval_tokens] == ids
    assert len(llama.eval_logits) == 5
    likely = llama.llm.logits(ids).argmax(axis=1)
    assert llama.sample(temp=0) == likely[-1]
    assert llama.sample(temp=0, idx=1) == likely[1]
    llama.n_tokens = 2
    assert llama.sample(temp=0) == likely[1]
    logprobs = Llama.logits_to_logprobs(llama._scores)
    np.testing.assert_allclose(np.exp(logprobs).sum(axis=1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match=r"Requested tokens \(\d+\) exceed context window of 256"):
        llama.eval([5] * 256)
    llama.reset()
    with pytest.raises(RuntimeError, match="call eval before sample"):
        llama.sample()


def test_without_logits_all_the_latest_can_be_sampled(story: Path) -> None:
    with Llama(str(story), n_ctx=64, n_threads=1) as llama:
        ids = llama.tokenize(TEXT)
        llama.eval(ids)
        assert llama.sample(temp=0) == llama.llm.logits(ids).argmax(axis=1)[-1]
        with pytest.raises(RuntimeError, match="logits_all=True"):
            llama.sample(idx=1)


def test_generate(llama: Llama) -> None:
    ids = llama.tokenize(TEXT)
    own = llama.llm.generate(ids, max_tokens=9, sampling=SamplingParams(temperature=0)).tokens
    assert tuple(islice(llama.generate(ids, temp=0), 9)) == own
    assert llama.n_tokens == len(ids) + 8  # the ninth has not been read
    sampled = llama.llm.generate(ids, max_tokens=40, sampling=SamplingParams(seed=11, presence_penalty=9.0)).tokens
    llama.set_seed(11)
    assert tuple(islice(llama.generate(ids, presence_penalty=9.0), 40)) == sampled
    # What is sent in comes after the latest token.
    tokens = llama.generate(ids, temp=0)
    first = next(tokens)
    tokens.send(ids[1:])
    assert llama.eval_tokens.__len__() == len(ids) + 1 + len(ids) - 1
    assert [*llama.eval_tokens] == [*ids, first, *ids[1:]]
    # Without a reset it goes on.
    more = llama.generate([7], reset=False, temp=0)
    next(more)
    assert [*llama.eval_tokens] == [*ids, first, *ids[1:], 7]
    criteria = StoppingCriteriaList([lambda ids, logits: len(ids) == 8])
    assert tuple(llama.generate(ids, temp=0, stopping_criteria=criteria)) == own[:3]


def test_states(llama: Llama) -> None:
    ids = llama.tokenize(TEXT)
    llama.reset()
    llama.eval(ids)
    expected, state = [*islice(llama.generate(ids, temp=0), 4)], llama.save_state()
    llama.reset()
    llama.eval(llama.tokenize(b"Another text"))
    llama.load_state(pickle.loads(pickle.dumps(state)))
    assert [*llama.eval_tokens] == [*ids, *expected[:3]]
    assert llama.sample(temp=0) == expected[3]
    np.testing.assert_array_equal(llama._scores, llama.llm.logits([*ids, *expected[:3]]))


def test_caches_take_the_calls(llama: Llama, tmp_path: Path) -> None:
    for cache in (LlamaRAMCache(), LlamaDiskCache(str(tmp_path / "cache"))):
        llama.set_cache(cache)
        assert llama.cache is cache
        assert llama(TEXT.decode(), max_tokens=2, temperature=0)["choices"]
        assert (cache.cache_size, [1] in cache) == (0, False)
        with pytest.raises(KeyError):
            cache[[1]]
    assert not (tmp_path / "cache").exists()
    llama.set_cache(None)


def test_a_copy_is_loaded_anew(llama: Llama) -> None:
    text = llama(TEXT.decode(), temperature=0)["choices"][0]["text"]
    for again in (pickle.loads(pickle.dumps(llama)), copy.deepcopy(llama)):
        assert again.n_ctx() == 256
        assert again(TEXT.decode(), temperature=0)["choices"][0]["text"] == text
        again.close()
        with pytest.raises(ClosedError):
            again(TEXT.decode())


class Letters(BaseLlamaTokenizer):
    """A tokenizer of its own: each letter is a byte token of the vocabulary."""

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        return [1] * add_bos + [3 + byte for byte in text]

    def detokenize(self, tokens: Any, prev_tokens: Any = None, special: bool = False) -> bytes:
        return bytes(token - 3 for token in tokens if token >= 3)


def test_a_tokenizer_of_the_callers(story: Path) -> None:
    with Llama(str(story), n_ctx=64, n_threads=1, tokenizer=Letters()) as llama:
        assert llama.tokenize(b"ab") == [1, 100, 101]
        assert llama.detokenize([100, 101]) == b"ab"
        assert llama("Once", max_tokens=2)["usage"]["prompt_tokens"] == 5


def test_a_tokenizer_of_transformers() -> None:
    class Words:
        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            return [0] * add_special_tokens + [len(word) for word in text.split()]

        def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
            return " ".join("x" * id for id in ids if id or not skip_special_tokens)

    tokenizer = LlamaHFTokenizer(Words())
    assert tokenizer.tokenize(b"a bc", special=True) == [0, 1, 2]
    assert tokenizer.detokenize([1, 2]) == b"x xx"
    assert tokenizer.detokenize([2], prev_tokens=[1]) == b" xx"


def test_the_vocabulary_alone(story: Path) -> None:
    with Llama(str(story), vocab_only=True) as llama:
        assert llama.detokenize(llama.tokenize(TEXT)) == TEXT
        assert (llama.n_vocab(), llama.n_embd()) == (512, 64)
        with pytest.raises(ValueError, match=r"the vocabulary alone was loaded \(vocab_only=True\)"):
            llama("Once")


def test_the_functions_of_c_that_frameworks_call(llama: Llama) -> None:
    vocab = llama_cpp.llama_model_get_vocab(llama.model)
    buffer = (ctypes.c_char * 8)()
    pieces = []
    for token in llama.tokenize(TEXT):
        size = llama_cpp.llama_token_to_piece(vocab, token, buffer, 8, 0, False)
        pieces.append(bytes(buffer[:size]))
    assert b"".join(pieces) == b" " + TEXT
    token = llama.tokenize(TEXT)[1]
    assert llama_cpp.llama_token_to_piece(vocab, token, buffer, 8, 1, False) == len(pieces[1]) - 1
    assert llama_cpp.llama_token_to_piece(vocab, 1, buffer, 1, 0, True) == -3  # three bytes are needed
