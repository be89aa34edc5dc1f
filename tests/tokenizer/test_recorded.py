"""Real vocabularies: every id and every text that llama.cpp gave, and the real models' own texts."""

from __future__ import annotations

import json

import pytest

from llamaq.gguf import GGUFFile
from llamaq.tokenizer import load_tokenizer
from shared_files import shared_path
from tokenizer_cases import RECORDED, recorded

REAL_TEXT = ("bert-bge", "gemma-4", "llama-bpe", "llama-spm", "nomic-bert-moe")
EXACT = ("deepseek-llm", "falcon", "gemma-4", "gpt-2", "llama-bpe", "llama-spm", "mpt", "qwen2", "starcoder")


@pytest.mark.parametrize("name", [name for name in RECORDED if name != "nomic-bert-moe"])
def test_ids_of_llama_cpp_cases(name: str) -> None:
    path = shared_path(f"vocab/ggml-vocab-{name}.gguf.inp")
    texts = path.read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = path.with_suffix(".out").read_text().split("\n")
    assert len(texts) >= 46
    for text, line in zip(texts, lines, strict=False):
        assert recorded(name).encode(text, add_special=False) == [int(id) for id in line.split()], text


@pytest.mark.parametrize("name", REAL_TEXT)
def test_ids_and_text_of_real_texts(name: str) -> None:
    tokenizer = recorded(name)
    cases = json.loads(shared_path(f"vocab/real-text/{name}.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) > 200
    for case in cases:
        assert tokenizer.encode(case["text"], add_special=False) == case["ids"], case["src"]
        # llama.cpp's detokenizer cleans up spaces for some models, which loses the text; ours does if asked.
        assert tokenizer.decode(case["ids"], clean_spaces=tokenizer.clean_spaces) == case["detok"], case["src"]


@pytest.mark.parametrize("name", REAL_TEXT)
def test_special_tokens_as_recorded(name: str) -> None:
    cases = json.loads(shared_path(f"vocab/real-text/{name}.json").read_text(encoding="utf-8"))["special"]
    assert len(cases) >= 24
    for case in cases:
        ids = recorded(name).encode(
            case["text"],
            add_special=bool(case["add_special"]),
            parse_special=bool(case["parse_special"]),
        )
        assert ids == case["ids"], case


@pytest.mark.parametrize("name", EXACT)
def test_real_texts_come_back(name: str) -> None:
    for case in json.loads(shared_path("vocab/real-text/llama-bpe.json").read_text(encoding="utf-8"))["cases"]:
        ids = recorded(name).encode(case["text"])
        assert recorded(name).decode(ids) == case["text"], case["src"]


def test_a_long_text_comes_back() -> None:
    text = shared_path("text/wiki.test.raw").read_text(encoding="utf-8")
    for name in ("llama-bpe", "llama-spm", "gemma-4"):
        assert recorded(name).decode(recorded(name).encode(text)) == text


def test_texts_of_real_models() -> None:
    texts = [(path, json.loads(path.read_text(encoding="utf-8"))) for path in shared_path("models").glob("*.ref.json")]
    beside = [(path, reference) for path, reference in texts if "model" in reference]
    assert len(beside) >= 11
    for path, reference in beside:
        with GGUFFile.open(path.with_name(reference["model"])) as file:
            tokenizer = load_tokenizer(file.metadata)
        assert tokenizer.encode("") == reference["prompt_ids"] == [tokenizer.bos_id]
        assert tokenizer.decode(reference["greedy_ids"]).strip() == reference["text"].strip()


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("deepseek-llm", {"<｜end▁of▁sentence｜>"}),
        ("gemma-4", {"<eos>", "<turn|>", "<|tool_response>"}),
        ("gpt-2", {"<|endoftext|>"}),
        ("llama-bpe", {"<|end_of_text|>", "<|eot_id|>"}),
        ("llama-spm", {"</s>"}),
        ("phi-3", {"<|endoftext|>", "<|end|>", "</s>"}),
        ("qwen2", {"<|endoftext|>", "<|im_end|>"}),  # </s> is a normal token there
    ],
)
def test_tokens_that_end_generation(name: str, ends: set[str]) -> None:
    tokenizer = recorded(name)
    assert {tokenizer.token_text(id) for id in tokenizer.eog_ids} == ends


def test_phi_3_swallows_spaces_after_its_control_tokens() -> None:
    encode = recorded("phi-3").encode
    assert encode("<|user|>\n Hi", add_special=False, parse_special=True) == encode(
        "<|user|>Hi", add_special=False, parse_special=True
    )
    assert len(encode("<s> \nHi", parse_special=True)) > len(encode("<s>Hi", parse_special=True))


def test_mask_of_nomic_bert_swallows_spaces_before_it() -> None:
    encode = recorded("nomic-bert-moe").encode
    assert encode("a  <mask> b", parse_special=True) == encode("a<mask> b", parse_special=True)
