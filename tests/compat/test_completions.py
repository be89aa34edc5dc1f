"""``Llama.create_completion``: settings, stops, log-probabilities, criteria; and embeddings."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from llamaq import LLM, SamplingParams
from llamaq.compat.llama_cpp import (
    Llama,
    LlamaGrammar,
    LogitsProcessorList,
    MinTokensLogitsProcessor,
    StoppingCriteriaList,
)
from llamaq.compat.llama_cpp.calls import bound
from llamaq.compat.llama_cpp.settings import Seeds, sampling_of
from llamaq.errors import StructureError, TokenizerError

PROMPT = "Once upon a time"


def text_of(answer: Any) -> str:
    text: str = answer["choices"][0]["text"]
    return text


def settings(**given: Any) -> SamplingParams:
    return sampling_of(bound("create_completion", (PROMPT,), given), seed=7, last_n=64)


def test_the_defaults_are_theirs(llama: Llama) -> None:
    assert settings() == SamplingParams(seed=7, temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repeat_penalty=1.0)
    answer = llama(PROMPT)
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 16, "total_tokens": 21}
    assert answer["model"] == llama.model_path
    assert llama(PROMPT, model="mine")["model"] == "mine"


def test_settings_are_llamaqs(llama: Llama) -> None:
    given = settings(
        temperature=0.5, top_p=0.9, top_k=-1, min_p=0.1, typical_p=0.8, repeat_penalty=1.2, frequency_penalty=0.3,
        presence_penalty=0.4, mirostat_mode=2, mirostat_tau=4.0, mirostat_eta=0.2, logit_bias={"3": -1},
    )  # fmt: skip
    assert given == SamplingParams(
        seed=7, temperature=0.5, top_p=0.9, top_k=0, min_p=0.1, typical_p=0.8, repeat_penalty=1.2,
        frequency_penalty=0.3, presence_penalty=0.4, mirostat=2, mirostat_tau=4.0, mirostat_eta=0.2,
        logit_bias={3: -1.0},
    )  # fmt: skip
    assert settings(temperature=-1).samplers == ("penalties",)
    with pytest.raises(ValueError, match=r"tfs_z=0\.9 is not possible: llama.cpp has dropped that sampler"):
        settings(tfs_z=0.9)


def test_an_answer_is_that_of_llamaq(llama: Llama) -> None:
    own = llama.llm.generate(PROMPT, max_tokens=20, sampling=SamplingParams(seed=5))
    assert text_of(llama(PROMPT, max_tokens=20, seed=5)) == own.text
    assert text_of(llama(llama.tokenize(PROMPT.encode()), max_tokens=20, seed=5)) == own.text


def test_seeds_go_on_from_the_models(llama: Llama) -> None:
    seeds = Seeds(3)
    first = [seeds.next(None) for _ in range(3)]
    again = Seeds(3)
    assert [again.next(None) for _ in range(3)] == first
    assert len({*first}) == 3
    assert (seeds.next(9), seeds.next(-1), seeds.next(0xFFFFFFFF)) == (9, None, None)
    assert Seeds(-1).next(None) != Seeds(-1).next(None)
    llama.set_seed(4)
    text = text_of(llama(PROMPT))
    llama.set_seed(4)
    assert text_of(llama(PROMPT)) == text


def test_without_max_tokens_the_context_ends_it(llama: Llama) -> None:
    for most in (None, 0, -1):
        answer = llama(PROMPT, max_tokens=most, temperature=0, logit_bias={llama.token_eos(): float("-inf")})
        assert answer["usage"]["total_tokens"] in (256, 257)  # the last token needs no room
        assert answer["choices"][0]["finish_reason"] == "length"


def test_stop_texts(llama: Llama) -> None:
    whole = text_of(llama(PROMPT, temperature=0, max_tokens=30))
    stop = whole[10:14]
    for stops in (stop, [stop], ["never there", stop]):
        answer = llama(PROMPT, temperature=0, max_tokens=30, stop=stops)
        assert (text_of(answer), answer["choices"][0]["finish_reason"]) == (whole[: whole.index(stop)], "stop")
    assert text_of(llama(PROMPT, temperature=0, max_tokens=30, stop=None)) == whole
    pieces = [*llama(PROMPT, temperature=0, max_tokens=30, stop=stop, stream=True)]
    assert "".join(map(text_of, pieces)) == whole[: whole.index(stop)]
    assert [piece["choices"][0]["finish_reason"] for piece in pieces[-2:]] == [None, "stop"]


def test_log_probabilities(llama: Llama) -> None:
    answer = llama(PROMPT, temperature=0, max_tokens=5, logprobs=2, echo=True)
    found = answer["choices"][0]["logprobs"]
    ids = llama.tokenize(PROMPT.encode())
    score = llama.llm.score(ids)
    # BOS is left out, and of the first token after it nothing is told.
    assert found["token_logprobs"][0] is None
    np.testing.assert_array_equal(found["token_logprobs"][1 : len(ids) - 1], score.logprobs[1:])
    assert "".join(found["tokens"]) == answer["choices"][0]["text"].rjust(len("".join(found["tokens"])))
    for token, logprob, likely in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
        assert likely is None or (likely[token] == logprob and 2 <= len(likely) <= 3)
    assert found["text_offset"] == [sum(map(len, found["tokens"][:i])) for i in range(len(found["tokens"]))]
    pieces = [*llama(PROMPT, temperature=0, max_tokens=5, logprobs=2, stream=True)]
    lists = [piece["choices"][0]["logprobs"] for piece in pieces[:-1]]
    assert [each["token_logprobs"][0] for each in lists] == found["token_logprobs"][-5:]
    alone = llama(PROMPT, temperature=0, max_tokens=5, logprobs=2)["choices"][0]["logprobs"]
    assert [each["text_offset"][0] for each in lists] == alone["text_offset"]
    assert alone["text_offset"][0] == len(PROMPT)
    assert text_of(llama("a", max_tokens=1, logprobs=0, echo=True))


def test_a_grammar_and_its_errors(llama: Llama, tmp_path: Any) -> None:
    file = tmp_path / "choice.gbnf"
    file.write_text('root ::= "yes" | "no"')
    schema = LlamaGrammar.from_json_schema('{"enum": ["yes", "no"]}')
    for grammar, answers in ((LlamaGrammar.from_file(file), ("yes", "no")), (schema, ('"yes"', '"no"'))):
        assert text_of(llama(PROMPT, grammar=grammar)).strip() in answers
    with pytest.raises(StructureError, match="line 1"):
        LlamaGrammar.from_string("root := 3")
    with pytest.raises(TypeError, match=r"grammar must be a LlamaGrammar, got str; see LlamaGrammar\.from_string"):
        llama(PROMPT, grammar='root ::= "a"')
    file.write_text(" ")
    with pytest.raises(ValueError, match="expected a grammar, got an empty file"):
        LlamaGrammar.from_file(file)


def test_processors_see_ids_and_logits(llama: Llama) -> None:
    seen: list[tuple[list[int], tuple[int, ...]]] = []

    def only(ids: Any, logits: Any) -> Any:
        seen.append((ids.tolist(), logits.shape))
        logits[:] = -np.inf
        logits[50] = 0
        return logits

    answer = llama(PROMPT, max_tokens=3, logits_processor=LogitsProcessorList([only]))
    assert answer["choices"][0]["text"] == llama.detokenize([50, 50, 50]).decode()
    ids = llama.tokenize(PROMPT.encode())
    assert seen == [(ids + [50] * n, (llama.n_vocab(),)) for n in range(3)]
    assert text_of(llama(PROMPT, max_tokens=3, logits_processor=only)) == text_of(answer)
    both = LogitsProcessorList([lambda ids, logits: logits + 1, lambda ids, logits: logits * 2])
    assert both(np.array([1]), np.array([1.0])).tolist() == [4.0]


def test_min_tokens(llama: Llama) -> None:
    eos = llama.token_eos()
    answer = llama(PROMPT, max_tokens=9, logit_bias={eos: 100}, logits_processor=[MinTokensLogitsProcessor(4, eos)])
    assert answer["usage"]["completion_tokens"] == 4


def test_criteria_end_an_answer_before_the_next_token(llama: Llama) -> None:
    lengths: list[int] = []

    def long_enough(ids: Any, logits: Any) -> bool:
        lengths.append(len(ids))
        assert logits.shape == (llama.n_vocab(),)
        return len(ids) >= 8

    whole = llama(PROMPT, temperature=0, max_tokens=3)
    answer = llama(PROMPT, temperature=0, max_tokens=30, stopping_criteria=StoppingCriteriaList([long_enough]))
    assert (text_of(answer), answer["choices"][0]["finish_reason"]) == (text_of(whole), "stop")
    assert lengths == [5, 6, 7, 8]
    pieces = [*llama(PROMPT, temperature=0, max_tokens=30, stream=True, stopping_criteria=[long_enough])]
    assert "".join(map(text_of, pieces)) == text_of(whole)
    # What may begin a stop text is let go at the end.
    held = llama(PROMPT, temperature=0, max_tokens=30, stopping_criteria=long_enough, stop=text_of(whole) + "#")
    assert text_of(held) == text_of(whole)
    counted = StoppingCriteriaList([lambda ids, logits: True, long_enough])
    lengths.clear()
    assert counted(np.array([1, 2]), np.zeros(llama.n_vocab()))
    assert lengths == [2]


def test_a_suffix_needs_a_model_that_fills_in(llama: Llama, story: Any) -> None:
    with pytest.raises(TokenizerError, match="the model cannot fill in"):
        llama(PROMPT, suffix="the end")
    marks = {f"tokenizer.ggml.fim_{role}_token_id": 500 + i for i, role in enumerate(("pre", "suf", "mid"))}
    for spm, order in ((False, None), (True, "spm")):
        with Llama(str(story), n_ctx=256, n_threads=1, kv_overrides=marks, spm_infill=spm) as filling:
            own = filling.llm.infill(
                PROMPT, "the end", order=order, max_tokens=6, sampling=SamplingParams(temperature=0)
            )
            assert text_of(filling(PROMPT, suffix="the end", max_tokens=6, temperature=0)) == own.text


def test_many_threads_at_once(llama: Llama) -> None:
    alone = [text_of(llama(PROMPT, seed=i, max_tokens=12)) for i in range(6)]
    found: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: text_of(llama(PROMPT, seed=i, max_tokens=12))}))
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(6)] == alone


def test_embeddings(llama: Llama, story: Any) -> None:
    whole = llama.create_embedding(["Once upon", "a"])
    assert [entry["index"] for entry in whole["data"]] == [0, 1]
    ids = llama.tokenize(b"Once upon")
    # Nothing pools the states of this file's tokens.
    vectors = np.array(whole["data"][0]["embedding"], np.float32)
    assert vectors.shape == (len(ids), llama.n_embd())
    assert whole["usage"] == {"prompt_tokens": len(ids) + 2, "total_tokens": len(ids) + 2}
    np.testing.assert_array_equal(llama.embed("Once upon"), vectors)
    np.testing.assert_allclose(np.linalg.norm(llama.embed("Once upon", normalize=True), axis=1), 1, rtol=1e-6)
    with LLM.load(story, threads=1, n_ctx=256) as own:
        for number, pooling in ((1, "mean"), (2, "cls"), (3, "last")):
            with Llama(str(story), n_ctx=256, n_threads=1, embedding=True, pooling_type=number) as pooled:
                found = np.array(pooled.embed(["Once upon", "a"]), np.float32)
                expected = own.embed(["Once upon", "a"], pooling=pooling, normalize=False)
                np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(
            vectors.mean(axis=0), own.embed("Once upon", normalize=False)[0], rtol=1e-5, atol=1e-6
        )


def test_texts_to_embed_are_cut_to_a_batch(story: Any) -> None:
    with Llama(str(story), n_ctx=256, n_batch=8, n_threads=1, embedding=True) as llama:
        vectors, count = llama.embed("Once upon a time. " * 5, return_count=True)
        assert (len(vectors), count) == (8, 8)
        with pytest.raises(ValueError, match=r"Requested tokens \(\d+\) exceed batch size of 8"):
            llama.embed("Once upon a time. " * 5, truncate=False)
