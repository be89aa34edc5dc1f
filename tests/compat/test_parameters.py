"""What becomes of the parameters of ``Llama``; loading from the hub; the module in the place of llama_cpp."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from adapters import random_factors, write_adapter
from hub_server import Hub, hub_server
from llamaq.compat import install, llama_cpp
from llamaq.compat.llama_cpp import Llama
from llamaq.compat.llama_cpp.llama_speculative import LlamaDraftModel, LlamaPromptLookupDecoding
from llamaq.compat.llama_cpp.parameters import PARAMETERS, parameter_table
from llamaq.errors import DownloadError, GGUFError, LlamaqError
from model_places import Places

PAGE = Path(__file__).parents[2] / "docs" / "llama-cpp-python.md"
REFUSED: dict[str, Any] = {
    "rope_scaling_type": 2, "attention_type": 1, "yarn_ext_factor": 1.0, "yarn_attn_factor": 2.0,
    "yarn_beta_fast": 16.0, "yarn_beta_slow": 2.0, "yarn_orig_ctx": 4096,
}  # fmt: skip
ASKS: dict[str, Any] = {
    "n_gpu_layers": -1, "split_mode": 2, "main_gpu": 1, "tensor_split": [0.5, 0.5], "use_mlock": True,
    "n_threads_batch": 8, "lora_base": "base.gguf", "numa": True,
}  # fmt: skip


def test_the_table_of_the_documentation() -> None:
    assert parameter_table() in PAGE.read_text(encoding="utf-8"), f"put into {PAGE.name}:\n{parameter_table()}"


def test_each_refused_one_says_what_to_do(story: Path) -> None:
    assert {each.name for each in PARAMETERS if each.fate == "refused"} == set(REFUSED)
    for name, value in REFUSED.items():
        advice = next(each.what for each in PARAMETERS if each.name == name)
        with pytest.raises(ValueError) as caught:
            Llama(str(story), **{name: value})
        assert str(caught.value) == f"{name}={value!r} is not possible here: {advice}"


def test_what_changes_nothing_is_one_line_of_the_log(story: Path, caplog: pytest.LogCaptureFixture) -> None:
    loud = {each.name for each in PARAMETERS if each.fate == "ignored" and each.silent is not None}
    assert loud == set(ASKS)
    with caplog.at_level(logging.WARNING, "llamaq"):
        Llama(str(story), n_ctx=64, **ASKS, f16_kv=True, n_parts=-1).close()
    (record,) = caplog.records
    values = ", ".join(f"{name}={value!r}" for name, value in {**ASKS, "f16_kv": True, "n_parts": -1}.items())
    assert record.getMessage() == f"llama_cpp.Llama: these change nothing: {values}"


def test_what_asks_for_nothing_is_silent(story: Path, caplog: pytest.LogCaptureFixture) -> None:
    usual = {each.name: each.default for each in PARAMETERS}
    quiet: dict[str, Any] = {"verbose": False, "use_mmap": False, "flash_attn": True, "n_ubatch": 64, "lora_path": None}
    with caplog.at_level(logging.WARNING, "llamaq"):
        Llama(str(story), **{**usual, **quiet, "n_ctx": 64}).close()
    assert caplog.records == []


def test_those_that_are_honoured(story: Path) -> None:
    given: dict[str, Any] = {
        "n_ctx": 96, "n_batch": 32, "n_threads": 2, "type_k": llama_cpp.GGML_TYPE_F32, "type_v": 0, "seed": 5,
        "last_n_tokens_size": 16, "draft_model": LlamaPromptLookupDecoding(), "chat_format": "chatml",
    }  # fmt: skip
    with Llama(model_path=str(story), **given) as llama:
        parts = llama.llm.model.parts
        assert (llama.n_ctx(), llama.n_batch, llama.n_threads) == (96, 32, 2)
        assert (parts.cache.cache_type, llama.last_n_tokens_size, llama.seeds.seed) == ("f32", 16, 5)
        assert llama.context_params.n_ctx == 96
    with Llama(str(story), n_ctx=0) as llama:
        assert llama.n_ctx() == llama.llm.hparams.context_length


def test_an_adapter(story: Path, tmp_path: Path) -> None:
    a, b = random_factors("blk.0.attn_q.weight", 64, 64, 4)
    path = write_adapter(tmp_path / "a.gguf", {"blk.0.attn_q.weight": (a, b)}, alpha=4.0)
    half = write_adapter(tmp_path / "half.gguf", {"blk.0.attn_q.weight": (a, b)}, alpha=2.0)
    logits = []
    for given in ({}, {"lora_path": str(path), "lora_scale": 0.5}, {"lora_path": str(half)}):
        with Llama(str(story), n_ctx=64, n_threads=1, **given) as llama:
            logits.append(llama.llm.logits(llama.tokenize(b"Once upon a time there was")))
    assert not np.array_equal(logits[0], logits[1])
    np.testing.assert_array_equal(logits[1], logits[2])


def test_keys_of_the_file_can_be_others(story: Path) -> None:
    def likely(**given: Any) -> Any:
        with Llama(str(story), n_ctx=64, n_threads=1, **given) as llama:
            return llama.llm.logits(llama.tokenize(b"Once upon a time there was"))[-1]

    plain = likely()
    same = {"rope_freq_base": 10000.0, "rope_freq_scale": 1.0}  # LangChain gives these with every model
    assert (likely(**same) == plain).all()
    changed = likely(rope_freq_base=500.0)
    assert (changed != plain).any()
    assert (likely(kv_overrides={"llama.rope.freq_base": 500.0}) == changed).all()
    assert (likely(kv_overrides={"llama.rope.freq_base": 500.0}, **same) == changed).all()
    slow = likely(rope_freq_scale=0.5)
    overrides = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
    assert (likely(kv_overrides=overrides) == slow).all()
    assert (slow != plain).any()


def test_values_that_cannot_be(story: Path) -> None:
    wrong: dict[str, Any] = {
        "draft_model must be a LlamaDraftModel or a function, got 7": {"draft_model": 7},
        "type_k and type_v must be the same one of": {"type_k": 8},
        "type_k and type_v": {"type_k": 3, "type_v": 3},
        "pooling_type must be -1": {"pooling_type": 4},
        "kv_overrides\\['a'\\] must be true or false, a number or text, got list": {"kv_overrides": {"a": []}},
    }
    for message, given in wrong.items():
        with pytest.raises(ValueError, match=message):
            Llama(str(story), **given)
    with pytest.raises(ValueError, match=r"Model path does not exist: nowhere\.gguf"):
        Llama("nowhere.gguf")
    with pytest.raises(LlamaqError, match=r"Failed to load model: .*expected") as caught:
        Llama(__file__)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value.__cause__, GGUFError)
    with pytest.raises(TypeError):
        Llama()  # type: ignore[call-arg]


def test_drafts() -> None:
    import numpy as np

    find = LlamaPromptLookupDecoding.find_candidate_pred_tokens
    assert find(np.array([1, 2, 3, 1, 2, 3, 1, 2, 3]), 3, 2).tolist() == [1, 2]
    assert find(np.array([1, 2, 3, 4]), 3, 2).tolist() == []
    assert LlamaPromptLookupDecoding(2, 3)(np.array([5, 6, 7, 8, 5, 6])).tolist() == [7, 8, 5]


def test_a_draft_is_asked_and_decides_nothing(story: Path) -> None:
    import numpy as np

    class Draft(LlamaDraftModel):
        def __init__(self) -> None:
            self.asked: list[Any] = []

        def __call__(self, input_ids: Any, /, **kwargs: Any) -> Any:
            self.asked.append(input_ids)
            return np.array([7, 8, 9], np.intc)

    draft = Draft()
    with Llama(str(story), n_ctx=64) as plain, Llama(str(story), n_ctx=64, draft_model=draft) as guessing:
        answers = [each("Once upon a time", max_tokens=20, temperature=0, logprobs=2) for each in (plain, guessing)]
    assert answers[0]["choices"] == answers[1]["choices"]
    assert guessing.draft_model is draft
    assert [len(ids) for ids in draft.asked] == sorted({len(ids) for ids in draft.asked}) != []
    assert {ids.dtype for ids in draft.asked} == {np.dtype(np.intc)}


@pytest.fixture
def hub(tmp_path: Path, story: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    Places(tmp_path / "home", monkeypatch)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with hub_server() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.files = {"q4/m-Q4_0.gguf": b"GGUF", "q8/m-Q8_0.gguf": story.read_bytes(), "README.md": b"hello"}
        yield hub


def test_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"local_dir": None, "cache_dir": str(tmp_path / "c"), "local_dir_use_symlinks": "auto"}
    with Llama.from_pretrained("u/r", "*Q8_0.gguf", additional_files=["*.md"], n_ctx=64, **options) as llama:
        assert llama.n_ctx() == 64
        assert Path(llama.model_path).is_relative_to(tmp_path / "c")
    assert hub.downloads() == ["m-Q8_0.gguf", "README.md"]
    with pytest.raises(ValueError, match=r"No file found in u/r that match .*Q2.*; it has q4/m-Q4_0.gguf, q8"):
        Llama.from_pretrained("u/r", "*Q2*")
    with pytest.raises(ValueError, match="Multiple files found in u/r"):
        Llama.from_pretrained("u/r", "*.gguf")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="pip install huggingface_hub"):
        Llama.from_pretrained("u/r", "*.gguf")


def test_the_hubs_errors_say_what_to_do(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be reached, that is said at once, without the library's five tries."""
    hub.status["/api/models/u/r"] = (403, "GatedRepo")
    with pytest.raises(DownloadError, match=r"u/r is gated: accept its terms"):
        Llama.from_pretrained("u/r", "*Q8_0.gguf")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="refused; check the network"):
        Llama.from_pretrained("u/r", "*Q8_0.gguf")


def test_what_the_hubs_cache_has_is_loaded_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    Llama.from_pretrained("u/r", "*Q8_0.gguf", n_ctx=64).close()
    asked = len(hub.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Llama.from_pretrained("u/r", "*Q8_0.gguf", n_ctx=64).close()
    assert len(hub.asked) == asked


@pytest.mark.subprocess
def test_the_module_in_the_place_of_llama_cpp() -> None:
    script = """
import llamaq.compat
llamaq.compat.install()
llamaq.compat.install()
import llama_cpp, llama_cpp.llama_chat_format as format
from llama_cpp import Llama, CreateChatCompletionResponse, llama_chat_format
from llama_cpp.llama import LogitsProcessorList
from llama_cpp.llama_types import ChatCompletionTool
from llama_cpp.llama_tokenizer import LlamaHFTokenizer
from llama_cpp.llama_cache import LlamaRAMCache
from llama_cpp.llama_grammar import LlamaGrammar, JSON_GBNF
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding
assert format is llama_chat_format is llamaq.compat.llama_cpp.llama_chat_format
LlamaGrammar.from_string(JSON_GBNF)
try:
    llama_cpp.llama_decode
except AttributeError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    advice = "llamaq has no C interface; what it does is in llamaq.LLM and llamaq.Session"
    assert said == f"llamaq.compat has no llama_decode: {advice}\n"


def test_a_module_that_is_there_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType("llama_cpp")
    other.__file__ = "elsewhere.py"
    monkeypatch.setitem(sys.modules, "llama_cpp", other)
    with pytest.raises(
        LlamaqError, match=r"imported already, from elsewhere.py; call llamaq.compat.install\(\) before"
    ):
        install()
    assert sys.modules["llama_cpp"] is other
