"""Hugging Face folders as GGUF: logits beside a NumPy forward pass in their convention, vocabularies, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from command import Command
from hf_llama import BYTES, LETTERS, LLAMA_3, LLAMA_3_PATTERN, logits, nmse, save, tiny, tokenizer_json, tokenizer_model
from llamaq.convert import convert
from llamaq.convert.checkpoint import Checkpoint
from llamaq.convert.vocabulary import vocabulary
from llamaq.errors import ModelError, TokenizerError
from llamaq.gguf import GGUFFile
from llamaq.llm.llm import LLM
from llamaq.tokenizer import PRETOKENIZERS, load_tokenizer
from llamaq.tokenizer.bpe import _alphabet

PRE_TOKENIZERS: dict[str, Any] = {
    "llama-bpe": [
        {"type": "Split", "pattern": {"Regex": LLAMA_3_PATTERN}, "behavior": "Isolated", "invert": False},
        BYTES | {"use_regex": False},
    ],
    "gpt-2": [BYTES],
    "qwen2": [
        {"type": "Split", "pattern": {"Regex": LLAMA_3_PATTERN.replace("{1,3}", "")}, "behavior": "Isolated"},
        BYTES | {"use_regex": False},
    ],
    "starcoder": [{"type": "Digits", "individual_digits": True}, BYTES],
}


@pytest.fixture
def command(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


def found_logits(path: Path, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    with LLM.load(path, n_ctx=64, threads=1, cache_type="f32") as llm:
        return llm.logits(ids.tolist())


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"tie_word_embeddings": True, "biases": True, "head_dim": 24},
        {"rope_scaling": LLAMA_3, "num_key_value_heads": 4, "rope_theta": 500.0},
        {"rope_parameters": LLAMA_3 | {"rope_theta": 500.0}, "rope_theta": None},
        {"rope_scaling": {"type": "linear", "factor": 2.0}, "num_key_value_heads": 1},
    ],
    ids=str,
)
def test_logits_are_those_of_the_checkpoint(variant: dict[str, Any], tmp_path: Path) -> None:
    config, tensors = tiny(3, **variant)
    folder = save(tmp_path / "model", config, tensors, shards=3, tokenizer=LETTERS)
    ids = np.random.default_rng(0).integers(0, 50, 60)
    expected = logits(config, tensors, ids)
    for outtype, tolerance in (("f32", 1e-11), ("f16", 1e-5), ("bf16", 1e-3), ("q8_0", 1e-2)):
        convert(folder, tmp_path / "out.gguf", outtype)
        assert nmse(found_logits(tmp_path / "out.gguf", ids), expected) < tolerance


def test_types_names_and_metadata(tmp_path: Path) -> None:
    config, tensors = tiny(head_dim=24, intermediate_size=80)  # 80 columns are no blocks of Q8_0
    save(tmp_path / "my model", config, tensors, tokenizer=LETTERS)
    calls: list[tuple[int, int]] = []
    convert(
        tmp_path / "my model", tmp_path / "out.gguf", "q8_0", progress=lambda done, total: calls.append((done, total))
    )
    total = sum(x.size for x in tensors.values())
    assert calls[-1] == (total, total)
    with GGUFFile.open(tmp_path / "out.gguf") as file:
        formats = {name: info.format.name for name, info in file.tensors.items()}
        keys = file.metadata
    assert formats["blk.1.attn_q.weight"] == "Q8_0"
    assert formats["blk.0.ffn_down.weight"] == "F16"
    assert formats["blk.0.attn_norm.weight"] == formats["output_norm.weight"] == "F32"
    assert set(formats) >= {"token_embd.weight", "output.weight"}
    assert (keys["general.name"], keys["general.file_type"]) == ("my model", 7)
    assert (keys["llama.attention.key_length"], keys["llama.rope.dimension_count"]) == (24, 24)
    assert (keys["llama.context_length"], keys["llama.attention.head_count_kv"]) == (128, 2)
    tokens = keys["tokenizer.ggml.tokens"]
    assert list(tokens)[:5] == ["a", "b", "ab", "[PAD3]", "[PAD4]"]


def test_half_precision_checkpoints(tmp_path: Path) -> None:
    config, tensors = tiny()
    for dtype, outtype in ((np.dtype(ml_dtypes.bfloat16), "bf16"), (np.dtype(np.float16), "f16")):
        halves = {name: x.astype(dtype) for name, x in tensors.items()}
        folder = save(tmp_path / outtype, config, halves, tokenizer=LETTERS)
        convert(folder / "model.safetensors", tmp_path / "out.gguf", outtype)
        with GGUFFile.open(tmp_path / "out.gguf") as file:  # the bits are the same
            kept = file.data("token_embd.weight")
        np.testing.assert_array_equal(kept, halves["model.embed_tokens.weight"].view(np.uint8))


@pytest.mark.parametrize(("attention_factor", "kept"), [(None, None), (1.5, 1.5 / (1 + 0.1 * np.log(4)))])
def test_yarn(attention_factor: float | None, kept: float | None, tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 16}
    config, tensors = tiny(rope_scaling=scaling | {"attention_factor": attention_factor})
    convert(save(tmp_path / "model", config, tensors, tokenizer=LETTERS), tmp_path / "out.gguf")
    with GGUFFile.open(tmp_path / "out.gguf") as file:
        keys = {key.removeprefix("llama.rope.scaling."): v for key, v in file.metadata.items() if "scaling" in key}
    expected = {"type": "yarn", "factor": 4.0, "original_context_length": 32, "yarn_beta_fast": 16, "yarn_beta_slow": 1}
    assert keys == expected | ({} if kept is None else {"attn_factor": pytest.approx(kept)})


def folder_of(name: str, shared: Callable[[str], Path], tmp_path: Path, kind: str) -> tuple[Path, int]:
    with GGUFFile.open(shared(f"vocab/ggml-vocab-{name}.gguf")) as file:
        rows = len(file.metadata["tokenizer.ggml.tokens"])
        config, tensors = {"architectures": ["LlamaForCausalLM"]}, {"x": np.zeros((1, 1), np.float32)}
        if kind == "tokenizer.model":
            save(tmp_path, config, tensors, tokenizer_config={"add_bos_token": True})
            (tmp_path / kind).write_bytes(tokenizer_model(file))
        else:
            steps = {"type": "Sequence", "pretokenizers": PRE_TOKENIZERS[name]} if name in PRE_TOKENIZERS else None
            save(tmp_path, config, tensors, tokenizer=tokenizer_json(file, steps))
    return tmp_path, rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("llama-spm", "tokenizer.model"),
        ("llama-spm", "tokenizer.json"),
        *((n, "tokenizer.json") for n in PRE_TOKENIZERS),
    ],
)
def test_recorded_vocabularies(name: str, kind: str, shared: Callable[[str], Path], tmp_path: Path) -> None:
    folder, rows = folder_of(name, shared, tmp_path, kind)
    keys = vocabulary(Checkpoint(folder), rows)
    with GGUFFile.open(shared(f"vocab/ggml-vocab-{name}.gguf")) as file:
        assert keys["tokenizer.ggml.tokens"] == list(file.metadata["tokenizer.ggml.tokens"])
        np.testing.assert_array_equal(
            keys["tokenizer.ggml.token_type"],
            file.metadata["tokenizer.ggml.token_type"].numpy(),  # type: ignore[union-attr]
        )
    if name in PRE_TOKENIZERS:
        assert PRETOKENIZERS[keys["tokenizer.ggml.pre"]].patterns == PRETOKENIZERS[name].patterns
    else:
        assert keys["tokenizer.ggml.add_bos_token"]
        assert keys["tokenizer.ggml.add_space_prefix"]
    tokenizer = load_tokenizer(keys)
    cases = shared(f"vocab/ggml-vocab-{name}.gguf.inp")
    texts = cases.read_bytes().decode().split("\n__ggml_vocab_test__\n")
    for text, line in zip(texts, cases.with_suffix(".out").read_text().split("\n"), strict=False):
        assert tokenizer.encode(text, add_special=False) == [int(id) for id in line.split()], text


def test_special_tokens_and_templates(tmp_path: Path) -> None:
    added = [{"id": 3, "content": "<go>", "special": True}, {"id": 4, "content": "<mark>", "special": False}]
    settings = {
        "bos_token": {"content": "<go>"},
        "eos_token": "ab",
        "add_bos_token": True,
        "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}],
    }
    config, tensors = tiny(pad_token_id=[4])
    folder = save(tmp_path, config, tensors, tokenizer=LETTERS | {"added_tokens": added}, tokenizer_config=settings)
    keys = vocabulary(Checkpoint(folder), 50)
    assert keys["tokenizer.ggml.token_type"][:6].tolist() == [1, 1, 1, 3, 4, 5]
    ids = {key.split(".")[-1]: value for key, value in keys.items() if key.endswith("_id")}
    assert ids == {"bos_token_id": 3, "eos_token_id": 2, "padding_token_id": 4}
    assert keys["tokenizer.ggml.add_bos_token"] is True
    assert keys["tokenizer.chat_template"] == "yes"
    assert load_tokenizer(keys).encode("ab<mark>a") == [3, 2, 4, 0]
    (folder / "chat_template.jinja").write_text("own file")
    assert vocabulary(Checkpoint(folder), 50)["tokenizer.chat_template"] == "own file"


def test_an_unknown_pretokenizer_must_be_named(tmp_path: Path) -> None:
    config, tensors = tiny()
    odd = {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"String": "e"}}, BYTES]}
    folder = save(tmp_path, config, tensors, tokenizer=LETTERS | {"pre_tokenizer": odd})
    with pytest.raises(TokenizerError, match=r"no rule that llamaq knows.*name the nearest by pre"):
        vocabulary(Checkpoint(folder), 50)
    assert vocabulary(Checkpoint(folder), 50, pre="gpt-2")["tokenizer.ggml.pre"] == "gpt-2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"architectures": ["GPT2LMHeadModel"]},
            "'GPT2LMHeadModel' are not supported; llamaq converts Llama, Mistral and",
        ),
        ({"hidden_act": "gelu"}, "expected 'silu', got 'gelu'"),
        ({"quantization_config": {"quant_method": "gptq"}}, "got quantized ones"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "expected default, mrope, linear"),
        ({"num_hidden_layers": 3}, "block_count"),
        ({"num_attention_heads": "four"}, "num_attention_heads: expected a positive number, got 'four'"),
        ({"partial_rotary_factor": 0.5, "rope_scaling": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ],
    ids=str,
)
def test_configurations_that_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    config, tensors = tiny()
    folder = save(tmp_path / "model", config | change, tensors, tokenizer=LETTERS)
    with pytest.raises(ModelError, match=message):
        convert(folder, tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_folders_that_are_refused(tmp_path: Path) -> None:
    config, tensors = tiny()

    def refused(message: str, folder: Path, kind: type[Exception] = ModelError, outtype: str = "f16") -> None:
        with pytest.raises(kind, match=message):
            convert(folder, tmp_path / "out.gguf", outtype)
        assert not (tmp_path / "out.gguf").exists()

    name = "model.layers.0.mlp.up_proj.weight"
    refused("no such folder", tmp_path / "absent")
    (tmp_path / "text.txt").write_text("hello")
    refused("text.txt: expected a folder or a safetensors file, got another", tmp_path / "text.txt")
    refused("outtype must be 'f32', 'f16', ", tmp_path, ValueError, "q5_k")
    refused("neither; download it", save(tmp_path / "a", config, tensors))
    large = tensors | {name: tensors[name] * 1e6}
    refused("choose outtype bf16", save(tmp_path / "b", config, large, tokenizer=LETTERS))
    damaged = tensors | {name: np.full_like(tensors[name], np.nan)}
    refused("expected finite weights", save(tmp_path / "c", config, damaged, tokenizer=LETTERS))
    odd = tensors | {"model.layers.0.router.weight": tensors[name]}
    refused("got one that it does not have", save(tmp_path / "d", config, odd, tokenizer=LETTERS))
    ints = tensors | {name: np.ones((96, 64), np.int8)}
    refused("expected one of F32", save(tmp_path / "e", config, ints, tokenizer=LETTERS))
    many = {"model": {"type": "BPE", "vocab": {chr(i): i for i in range(60)}, "merges": []}, "pre_tokenizer": BYTES}
    refused("60 tokens, the embedding table 50", save(tmp_path / "f", config, tensors, tokenizer=many))
    sharded = save(tmp_path / "g", config, tensors, shards=2, tokenizer=LETTERS)
    (sharded / "model-00002-of-00002.safetensors").unlink()
    refused("model-00002-of-00002.safetensors is missing", sharded)
    (sharded / "model-00002-of-00002.safetensors").write_bytes(b"no tensors")
    refused("cannot be read as safetensors", sharded)
    (sharded / "config.json").write_text("{")
    refused("expected JSON", sharded)


def test_the_command(command: Command, tmp_path: Path) -> None:
    config, tensors = tiny(vocab_size=257)
    letters = {letter: id for id, letter in enumerate([*_alphabet(), "ab"])}
    model = {"type": "BPE", "vocab": letters, "merges": ["a b"]}
    folder = save(tmp_path / "model", config, tensors, tokenizer=LETTERS | {"model": model})
    done = command("convert", folder, tmp_path / "out.gguf", "--outtype", "BF16")
    assert (done.code, done.err) == (0, "")
    file_line, tokenizer_line = done.out.decode().splitlines()
    assert file_line.startswith(f"{tmp_path / 'out.gguf'}: ")
    assert tokenizer_line.startswith("tokenizer: ")
    with GGUFFile.open(tmp_path / "out.gguf") as file:
        assert file.metadata["general.file_type"] == 32
    assert command("convert", tmp_path, tmp_path / "out.gguf").code == 1


def test_metadata_of_your_own(command: Command, tmp_path: Path) -> None:
    config, tensors = tiny()
    folder = save(tmp_path / "model", config, tensors, tokenizer=LETTERS)
    more = tmp_path / "more.json"
    more.write_text('{"general.name": "Ada", "general.license": "mit", "general.tags": ["demo", "tiny"]}')
    assert command("convert", folder, tmp_path / "out.gguf", "--metadata", more).code == 0
    with GGUFFile.open(tmp_path / "out.gguf") as file:
        assert file.metadata["general.name"] == "Ada"
        assert file.metadata["general.license"] == "mit"
        assert list(file.metadata["general.tags"]) == ["demo", "tiny"]
    for bad, message in (
        ("[", "expected JSON"),
        ('{"general.x": 1}', "lists of texts"),
        ('{"llama.block_count": "3"}', "general."),
    ):
        more.write_text(bad)
        done = command("convert", folder, tmp_path / "bad.gguf", "--metadata", more)
        assert done.code == 1
        assert message in done.err
        assert not (tmp_path / "bad.gguf").exists()
