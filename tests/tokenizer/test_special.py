"""Which tokens end generation, family by family: by the file's keys, by their text, and the exceptions."""

from __future__ import annotations

import pytest

from llamaq.tokenizer import Tokenizer, TokenType, load_tokenizer
from tokenizer_cases import CONTROL, NORMAL, USER_DEFINED, recorded, spm

HARMONY = ("<|return|>", "<|call|>", "<|end|>", "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>")


def ends(tokenizer: Tokenizer) -> set[str]:
    return {tokenizer.token_text(id) for id in tokenizer.eog_ids}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("<|im_start|>", "<|im_end|>", "<|endoftext|>"), {"<|im_end|>", "<|endoftext|>"}),  # Qwen, SmolLM
        (("<start_of_turn>", "<end_of_turn>"), {"<end_of_turn>"}),  # Gemma
        (("<start_function_call>", "<start_function_response>"), {"<start_function_response>"}),  # FunctionGemma
        (("<|user|>", "<|end|>", "<|endoftext|>"), {"<|end|>", "<|endoftext|>"}),  # Phi-3
        (("<|start_of_role|>", "<|end_of_text|>"), {"<|end_of_text|>"}),  # Granite
        (("<|eot|>", "<|eom|>", "<|header_start|>"), {"<|eot|>", "<|eom|>"}),  # Llama 4
        (("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"), {"▁<EOT>"}),  # Code Llama
        (HARMONY, {"<|return|>", "<|call|>"}),  # gpt-oss, where <|end|> closes one message of several
        (HARMONY[1:], {"<|call|>", "<|end|>"}),
    ],
)
@pytest.mark.parametrize("kind", [CONTROL, USER_DEFINED, NORMAL])
def test_ends_by_their_text(texts: tuple[str, ...], expected: set[str], kind: int) -> None:
    tokenizer = load_tokenizer(spm(*((text, 0.0, kind) for text in texts)))
    assert ends(tokenizer) == {"</s>", *expected}
    assert all(tokenizer.vocab.types[id] == TokenType.CONTROL for id in tokenizer.eog_ids)


def test_ends_by_a_list() -> None:
    words = [(text, 0.0, CONTROL) for text in ("<|user|>", "<|observation|>")]
    keys = spm(*words) | {"tokenizer.ggml.eos_token_ids": [2, 259, 260, -1, 261]}  # the last two are no tokens
    assert ends(load_tokenizer(keys)) == {"</s>", "<|user|>", "<|observation|>"}


def test_the_frame_of_gpt_oss_is_shown() -> None:
    tokenizer = load_tokenizer(spm(*((text, 0.0, CONTROL) for text in HARMONY)))
    ids = [tokenizer.token_to_id(text) or 0 for text in HARMONY]
    assert tokenizer.decode(ids) == "".join(HARMONY[2:])


def test_gemma_4_strikes_text_out_with_what_ends_others() -> None:
    assert "</s>" not in ends(recorded("gemma-4"))
    assert recorded("gemma-4").token_to_id("</s>") is not None
    assert {"<eos>", "<turn|>", "<|tool_response>"} <= ends(recorded("gemma-4"))


def test_keys_name_ends_and_marks() -> None:
    words = [(text, 0.0, NORMAL) for text in ("p", "s", "m", "e")]
    names = ("prefix", "suffix", "middle", "eot")
    tokenizer = load_tokenizer(spm(*words, **{f"{name}_token_id": 259 + i for i, name in enumerate(names)}))
    special = tokenizer.special
    assert (special.fim_pre, special.fim_suf, special.fim_mid, special.eot) == (259, 260, 261, 262)
    assert ends(tokenizer) == {"</s>", "e"}
