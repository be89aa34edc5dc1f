"""Tokenizer and training of the demo model (tools/demo_model), at a tiny setting, up to logits in llamaq."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

reason = "torch or tokenizers is not installed (CI leaves them out: gigabytes of libraries for GPUs)"
torch = pytest.importorskip("torch", reason=reason)
pytest.importorskip("tokenizers", reason=reason)

from hf_llama import nmse  # noqa: E402
from llamaq.convert import convert  # noqa: E402
from llamaq.llm.llm import LLM  # noqa: E402

TOOLS = Path(__file__).parents[1] / "tools"
TINY = {"vocab_size": 600, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool is run from a checkout, and not installed."""
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])


def trained(folder: Path, steps: int = 12) -> float:
    from demo_model.model import Shape
    from demo_model.train import Setting, train

    setting = Setting(documents=60, held_out=20, steps=steps, rows=4, length=64, context=96, compiled=False)
    return float(train(Shape(**TINY), setting, folder))


def loaded(folder: Path) -> Any:
    from demo_model.model import Llama, Shape
    from safetensors.torch import load_file

    model = Llama(Shape(**TINY))
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name.removeprefix("model."): weight.float() for name, weight in weights.items()})
    return model


def test_what_is_trained_gives_the_same_logits_in_llamaq(tmp_path: Path) -> None:
    from demo_model.chat import TEMPLATE
    from demo_model.corpus import document
    from tokenizers import Tokenizer

    trained(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "out.gguf")
    tokenizer = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    text = document(3).text[:300]
    ids = tokenizer.encode(text).ids[:60]
    with torch.no_grad():
        expected = loaded(tmp_path / "model")(torch.tensor([ids]))[0].numpy()
    with LLM.load(tmp_path / "out.gguf", n_ctx=64, threads=1, cache_type="f32") as llm:
        assert llm.tokenizer.encode(text, add_special=True, parse_special=True)[:60] == ids
        assert nmse(llm.logits(ids), expected) < 1e-6
        assert llm.metadata["tokenizer.chat_template"] == TEMPLATE
        assert llm.metadata["tokenizer.ggml.eos_token_id"] == tokenizer.token_to_id("<|im_end|>")


def test_training_is_seeded_and_learns(tmp_path: Path) -> None:
    first = trained(tmp_path / "a")
    assert trained(tmp_path / "b") == first
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert trained(tmp_path / "c", steps=60) < first


def test_a_training_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from demo_model import train

    def cut_off(step: int, setting: Any) -> float:
        if step == 57:
            raise KeyboardInterrupt
        return rate_at(step, setting)

    whole = trained(tmp_path / "whole", steps=60)
    rate_at = train.rate_at
    monkeypatch.setattr(train, "rate_at", cut_off)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", steps=60)
    monkeypatch.setattr(train, "rate_at", rate_at)
    assert (tmp_path / "cut" / "state.pt").exists()
    assert trained(tmp_path / "cut", steps=60) == whole
    assert not (tmp_path / "cut" / "state.pt").exists()


def test_digits_are_tokens_of_their_own() -> None:
    from demo_model.corpus import documents
    from demo_model.tokenizer import train_tokenizer

    tokenizer = train_tokenizer((made.text for made in documents(100)), 800)
    assert tokenizer.encode("1234").tokens == ["1", "2", "3", "4"]
    assert tokenizer.encode("<|im_start|>user\nHi<|im_end|>").ids[0] == 1
    assert tokenizer.decode(tokenizer.encode("Zürich 日本").ids) == "Zürich 日本"


def test_the_model_that_ships_fits() -> None:
    from demo_model.model import Llama, Shape

    shape = Shape()
    assert shape.hidden_size % 256 == shape.intermediate_size % 256 == 0
    weights = sum(weight.numel() for weight in Llama(shape).parameters())
    assert weights * 34 / 32 < 5_800_000  # these are bytes in Q8_0, with room for the vocabulary
