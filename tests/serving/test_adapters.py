"""Adapters of requests: each text has the bits of its own adapter, whatever company it has and whatever the cache
holds, and files that fit no model are refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import random_factors, write_adapter
from llamaq import LLM, SamplingParams
from llamaq.errors import GGUFError, LlamaqError, ModelError, SessionError
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.quantization import merge_adapters

SAMPLED = SamplingParams(seed=3)
PROMPT = "Once upon a time there was a little girl named Lily. She had a red ball and a big brown dog. One day"


def factors_for(model: Path, seed: int, only: str = "", rank: int = 4) -> dict[str, Any]:
    with GGUFFile.open(model) as file:
        shapes = {name: info.shape for name, info in file.tensors.items() if len(info.shape) == 2}
    return {
        name: random_factors(name, *shape, rank, seed)
        for name, shape in shapes.items()
        if only in name and name != "token_embd.weight"
    }


@pytest.fixture(scope="module")
def files(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters: one of all matrices, one of some."""
    folder = tmp_path_factory.mktemp("adapters")
    return [
        write_adapter(folder / "all.gguf", factors_for(stories, 1), alpha=1.0),
        write_adapter(folder / "some.gguf", factors_for(stories, 2, "attn_"), alpha=2.0),
    ]


@pytest.fixture
def llm(stories: Path, files: list[Path]) -> Iterator[LLM]:
    with LLM.load(stories, threads=2, n_ctx=256, n_cache=2048) as llm:
        for file in files:
            llm.load_adapter(file)
        yield llm


CHOICES: list[Any] = [None, "all", "some", {"all": 0.5, "some": 1.5}, {"some": 1.5, "all": 0.5}, {}, {"all": 0.0}]


def test_answers_in_one_batch_are_those_alone(llm: LLM, stories: Path, files: list[Path]) -> None:
    with LLM.load(stories, threads=1, n_ctx=256) as alone:
        base = alone.generate(PROMPT, max_tokens=24, sampling=SAMPLED).tokens
        want = []
        for choice in CHOICES:
            for name in [*(choice if isinstance(choice, dict) else [choice] if choice else [])]:
                alone.load_adapter(next(file for file in files if file.stem == name))
            want.append(alone.generate(PROMPT, max_tokens=24, sampling=SAMPLED, adapter=choice).tokens)
            for adapter in alone.adapters:
                alone.unload_adapter(adapter)
    assert want[0] == want[5] == want[6] == base
    assert want[3] == want[4]
    assert len({tuple(tokens) for tokens in want}) == 4
    streams = [llm.stream(PROMPT, max_tokens=24, sampling=SAMPLED, adapter=choice) for choice in CHOICES * 2]
    assert [stream.result().tokens for stream in streams] == want * 2


def test_no_text_takes_pages_of_another_adapter(llm: LLM) -> None:
    ids = llm.prompt_ids(PROMPT)
    want = {}
    choices: list[Any] = ["all", "some", {}]
    for choice in choices:
        want[str(choice)] = llm.score(PROMPT, adapter=choice)
        assert llm.generate(ids, max_tokens=1, adapter=choice).usage.cached_tokens >= 32
    again = {str(choice): llm.score(PROMPT, adapter=choice) for choice in choices}
    assert [x.sum for x in want.values()] == [x.sum for x in again.values()]
    assert len({x.sum for x in want.values()}) == 3
    assert llm.generate(ids, max_tokens=1, adapter={"all": 0.25}).usage.cached_tokens == 0
    logits = llm.logits(ids, adapter="all")  # these read all themselves
    assert not np.array_equal(logits, llm.logits(ids))
    np.testing.assert_array_equal(logits, llm.logits(ids, adapter={"all": 1.0}))


def test_the_default_is_that_of_load_and_can_be_set(stories: Path, files: list[Path], llm: LLM) -> None:
    ids = llm.prompt_ids(PROMPT)
    with LLM.load(stories, threads=1, n_ctx=256, adapters={files[0]: 0.5}) as loaded:
        assert loaded.adapter == {"all": 0.5}
        np.testing.assert_array_equal(loaded.logits(ids), llm.logits(ids, adapter={"all": 0.5}))
        np.testing.assert_array_equal(loaded.embed(PROMPT), _embedded(llm, {"all": 0.5}))
        np.testing.assert_array_equal(loaded.logits(ids, adapter={}), llm.logits(ids))
        loaded.adapter = None
        np.testing.assert_array_equal(loaded.logits(ids), llm.logits(ids))
        loaded.adapter = "all"
        assert loaded.adapter == {"all": 0.5}  # the scale that it was loaded with
        loaded.unload_adapter("all")
        assert loaded.adapters == ()
        assert loaded.adapter == {}
    with LLM.load(stories, threads=1, n_ctx=256, adapters=files) as loaded:
        assert loaded.adapter == {"all": 1.0, "some": 1.0}


def _embedded(llm: LLM, choice: Any) -> Any:
    llm.adapter = choice
    try:
        return llm.embed(PROMPT)
    finally:
        llm.adapter = None


def test_an_adapter_that_is_unloaded_serves_what_runs(llm: LLM) -> None:
    want = llm.generate(PROMPT, max_tokens=40, sampling=SAMPLED, adapter="all").tokens
    stream = llm.stream(PROMPT, max_tokens=40, sampling=SAMPLED, adapter="all")
    first = next(stream)
    llm.unload_adapter("all")
    assert (first.token, *stream.result().tokens) == want
    with pytest.raises(ValueError, match="loaded \\('some'\\), got 'all'"):
        llm.generate(PROMPT, adapter="all")


def test_sessions_and_their_files_go_with_their_adapter(llm: LLM, tmp_path: Path) -> None:
    session = llm.session(adapter={"all": 0.5})
    first = session.generate(PROMPT, max_tokens=8, sampling=SAMPLED)
    assert first.tokens == llm.generate(PROMPT, max_tokens=8, sampling=SAMPLED, adapter={"all": 0.5}).tokens
    fork = session.fork()
    session.save(tmp_path / "s")
    want = session.generate(" Then", max_tokens=8, sampling=SAMPLED).tokens
    assert fork.n_past >= 32
    assert fork.generate(" Then", max_tokens=8, sampling=SAMPLED).tokens == want
    for other in (llm.session(), llm.session(adapter="all"), llm.session(adapter="some")):
        with pytest.raises(SessionError, match="expected a session with adapter"):
            other.load(tmp_path / "s")
    loaded = llm.session(adapter={"all": 0.5})
    loaded.load(tmp_path / "s")
    assert loaded.generate(" Then", max_tokens=8, sampling=SAMPLED).tokens == want
    llm.session().save(tmp_path / "plain")
    with pytest.raises(SessionError, match="expected a session with adapter"):
        loaded.load(tmp_path / "plain")
    with pytest.raises(ValueError, match="session as a whole"):
        session.generate("x", adapter="some")


def test_embeddings_and_a_head_of_their_own(shared: Callable[[str], Path], tmp_path: Path) -> None:
    """Of a model whose table serves both ends, an adapter changes the one that it names; merging parts them."""
    stories = shared("models/stories260K-F32.gguf")
    with GGUFFile.open(stories) as file:
        rows, cols = file.tensors["token_embd.weight"].shape
    a, b = random_factors("table", rows, cols, 4)
    head = random_factors("head", rows, cols, 4)
    write_adapter(tmp_path / "table.gguf", {"token_embd.weight": (3 * b, a.T)}, alpha=4.0)
    both = {"token_embd.weight": (3 * b, a.T), "output.weight": head}
    write_adapter(tmp_path / "both.gguf", both, alpha=4.0)
    ids = list(range(3, 40))
    with LLM.load(stories, threads=1, n_ctx=64, cache_type="f32") as llm:
        base = llm.logits(ids)
        for name in ("table", "both"):
            llm.load_adapter(tmp_path / f"{name}.gguf")
            got = llm.logits(ids, adapter=name)
            merge_adapters(stories, tmp_path / "merged.gguf", {tmp_path / f"{name}.gguf": 1.0})
            with LLM.load(tmp_path / "merged.gguf", threads=1, n_ctx=64, cache_type="f32") as merged:
                want = merged.logits(ids)
            assert np.abs(got - base).max() > 0.1 * np.abs(base).max()
            assert np.abs(got - want).max() < 1e-3 * np.abs(want).max()


def test_wrong_choices_are_told(llm: LLM, files: list[Path]) -> None:
    wrong: list[tuple[Any, type[Exception]]] = [
        ("none", ValueError),
        (3, TypeError),
        ({"all": "x"}, TypeError),
        ({"all": 1e9}, ValueError),
    ]
    for choice, error in wrong:
        with pytest.raises(error, match="adapter"):
            llm.generate(PROMPT, adapter=choice)
    with pytest.raises(ValueError, match="new among the loaded"):
        llm.load_adapter(files[0])
    assert llm.load_adapter(files[0], name="again").digest == llm.adapters[0].digest


def refusals(model: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """What ``write_adapter`` makes a file with, and what is said of it."""
    good = factors_for(model, 1, "blk.0.")
    a, b = good["blk.0.attn_q.weight"]
    return {
        "model": ({"metadata": {"general.type": "model"}}, "it may be a model"),
        "kind": ({"metadata": {"adapter.type": "ia3"}}, "'lora'.*'ia3'"),
        "architecture": ({"architecture": "qwen2"}, "'llama'.*'qwen2'"),
        "alpha": ({"metadata": {"adapter.lora.alpha": float("inf")}}, "adapter.lora.alpha"),
        "alpha text": ({"metadata": {"adapter.lora.alpha": "eight"}}, "adapter.lora.alpha"),
        "aLoRA": ({"metadata": {"adapter.alora.invocation_tokens": np.array([1, 2], np.uint32)}}, "aLoRA"),
        "empty": ({"factors": {}}, "no tensors"),
        "unknown": ({"factors": {"blk.99.attn_q.weight": (a, b)}}, "blk.99.attn_q.weight.*another model"),
        "half": ({"skip": ["blk.0.attn_q.weight.lora_b"]}, "blk.0.attn_q.weight.lora_b.*missing"),
        "other half": ({"skip": ["blk.0.attn_q.weight.lora_a"]}, "blk.0.attn_q.weight.lora_a.*missing"),
        "columns": ({"factors": {"blk.0.attn_q.weight": (a[:, :-1], b)}}, "lora_a.*expected shape"),
        "rows": ({"factors": {"blk.0.attn_q.weight": (a, b[:-1])}}, "lora_b.*expected shape"),
        "ranks": ({"factors": {"blk.0.attn_q.weight": (a, b[:, :-1])}}, "lora_b.*expected shape"),
        "embeddings": ({"factors": {"token_embd.weight": (a, b)}}, "token_embd.weight.lora_a.*expected shape"),
        "vector": ({"factors": {"blk.0.attn_norm.weight": (a, b)}}, "attn_norm.weight.*no matrix"),
        "experts": ({"factors": {"blk.0.attn_q.weight": (a[None], b[None])}}, "attn_q.weight.lora_a.*expected shape"),
    }


@pytest.mark.parametrize("case", [
    "model", "kind", "architecture", "alpha", "alpha text", "aLoRA", "empty", "unknown", "half", "other half",
    "columns", "rows", "ranks", "embeddings", "vector", "experts",
])  # fmt: skip
def test_files_that_do_not_fit_are_refused_by_name(case: str, llm: LLM, stories: Path, tmp_path: Path) -> None:
    options, message = refusals(stories)[case]
    factors = options.pop("factors", factors_for(stories, 1, "blk.0."))
    path = write_adapter(tmp_path / "bad.gguf", factors, **options)
    before = llm.adapters
    with pytest.raises(ModelError, match=f"bad.gguf: .*{message}"):
        llm.load_adapter(path)
    assert llm.adapters == before


def test_tensors_of_no_known_name_or_format_are_refused(llm: LLM, tmp_path: Path) -> None:
    keys = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
    path, f32, q4 = tmp_path / "bad.gguf", format_by_name("F32"), format_by_name("Q4_0")
    write_gguf(path, keys, [TensorData("blk.0.attn_norm.weight", f32, (64,), np.ones(64, np.float32))])
    with pytest.raises(ModelError, match=r"blk.0.attn_norm.weight.*lora_a or .lora_b"):
        llm.load_adapter(path)
    a = TensorData("blk.0.attn_q.weight.lora_a", q4, (4, 64), np.zeros(4 * 36, np.uint8))
    b = TensorData("blk.0.attn_q.weight.lora_b", f32, (64, 4), np.zeros(256, np.float32))
    write_gguf(path, keys, [a, b])
    with pytest.raises(ModelError, match=r"lora_a.*Q8_0, got Q4_0"):
        llm.load_adapter(path)


def test_damaged_files_never_load_and_never_crash(llm: LLM, files: list[Path], tmp_path: Path) -> None:
    whole = files[1].read_bytes()
    path = tmp_path / "damaged.gguf"
    rng = np.random.default_rng(5)
    for size in [0, 3, 24, *rng.integers(24, len(whole), 30).tolist()]:
        path.write_bytes(whole[:size])
        with pytest.raises((GGUFError, ModelError)):
            llm.load_adapter(path)
    header = whole.index(b"blk.0")
    for _ in range(200):
        data = bytearray(whole)
        for at in rng.integers(0, header + 600, rng.integers(1, 4)).tolist():
            data[at] = int(rng.integers(256))
        path.write_bytes(data)
        try:
            adapter = llm.load_adapter(path)
        except LlamaqError:
            continue
        llm.unload_adapter(adapter)  # what changed was a number, or a name that nothing asks for


def test_numbers_that_are_none_end_in_an_error(llm: LLM, stories: Path, tmp_path: Path) -> None:
    factors = factors_for(stories, 1, "blk.0.attn_q")
    for value in (np.nan, np.inf):
        a, b = factors["blk.0.attn_q.weight"]
        broken = a.copy()
        broken[0, 0] = value
        write_adapter(tmp_path / "nan.gguf", {"blk.0.attn_q.weight": (broken, b)})
        adapter = llm.load_adapter(tmp_path / "nan.gguf")
        with pytest.raises(ModelError, match="not numbers"):
            llm.generate(PROMPT, max_tokens=2, adapter=adapter)
        llm.unload_adapter(adapter)
    assert llm.generate(PROMPT, max_tokens=2, sampling=SAMPLED).text
