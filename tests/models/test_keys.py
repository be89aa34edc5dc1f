"""Hyperparameters: what is read, what is refused, and that nothing but a ModelError comes of nonsense."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq.errors import LlamaqError, ModelError
from llamaq.formats import decode
from llamaq.gguf import GGUFFile
from llamaq.models import ROPE_FREQS, Keys, build_plan, llama
from llamaq.models.hparams import Decoder
from llamaq.plan.rope import make_rope
from tiny_llama import tiny_llama

METADATA, TENSORS = tiny_llama()
SHAPES = {name: x.shape for name, x in TENSORS.items()}


def read_hparams(metadata: Any, shapes: Any) -> Decoder:
    return llama.read(Keys(metadata, shapes, "llama"))


def read(**keys: Any) -> Decoder:
    """Hyperparameters of the tiny model with some "llama." keys replaced, or removed where None."""
    changed = {f"llama.{key.replace('__', '.')}": value for key, value in keys.items()}
    metadata = {k: v for k, v in (METADATA | changed).items() if v is not None}
    return read_hparams(metadata, SHAPES)


def open_plan(path: Path) -> Decoder:
    with GGUFFile.open(path) as file:
        freqs = {}
        if ROPE_FREQS in file.tensors:
            freqs[ROPE_FREQS] = decode(file.tensors[ROPE_FREQS].format, file.data(ROPE_FREQS)).tolist()
        shapes = {name: info.shape for name, info in file.tensors.items()}
        hp = build_plan(file.metadata, shapes, vectors=freqs)[0]
        assert isinstance(hp, Decoder)
        return hp


def test_a_real_file(shared: Callable[[str], Path]) -> None:
    hp = open_plan(shared("models") / "stories260K-F32.gguf")
    assert (hp.layers, hp.width, hp.vocab_size, hp.context_length, hp.head_dim) == (5, 64, 512, 512, 8)
    assert hp.heads == (8,) * 5
    assert hp.kv_heads == (4,) * 5
    assert hp.eps == np.float32(1e-5)
    assert hp.rope == make_rope(8, 10000.0)


def test_defaults() -> None:
    hp = read(attention__head_count_kv=None, rope__dimension_count=None)
    assert hp.kv_heads == hp.heads == (4, 4)
    assert hp.rope == make_rope(16, 10000.0)
    hp = read(attention__key_length=None, attention__value_length=None, feed_forward_length=None)
    assert hp.head_dim == 64 // 4


def test_one_value_for_each_layer() -> None:
    hp = read(attention__head_count=[4, 8], attention__head_count_kv=np.array([2, 4], np.uint32))
    assert hp.heads == (4, 8)
    assert hp.kv_heads == (2, 4)
    with pytest.raises(ModelError, match=r"head_count is 'an array of 3'; expected one integer, or 2"):
        read(attention__head_count=[4, 4, 4])
    with pytest.raises(ModelError, match=r"head_count_kv is 3; expected a divisor of the 8 heads"):
        read(attention__head_count=[4, 8], attention__head_count_kv=[4, 3])


def test_blocks_that_guess_may_have_values_of_their_own() -> None:
    keys = Keys({"x.nextn_predict_layers": 1, "x.a": [1, 2, 3], "x.b": [1, 2], "x.c": [1, 2, 3, 4]}, {}, "x")
    assert keys.per_layer("a", 2) == keys.per_layer("b", 2) == (1, 2)
    with pytest.raises(ModelError, match=r"x\.c is 'an array of 4'; expected one integer, or 2"):
        keys.per_layer("c", 2)


def test_rope_scaling() -> None:
    assert read(rope__scaling__factor=4.0).rope == make_rope(16, 10000.0, factor=4.0)
    assert read(rope__scale_linear=2.0).rope == make_rope(16, 10000.0, factor=2.0)
    assert read(rope__scaling__factor=4.0, rope__scale_linear=2.0).rope == make_rope(16, 10000.0, factor=4.0)
    assert read(rope__scaling__factor=0.0).rope == make_rope(16, 10000.0)
    assert read(rope__scaling__type="none", rope__scaling__factor=4.0).rope == make_rope(16, 10000.0)
    yarn = read(rope__scaling__type="yarn", rope__scaling__factor=4.0).rope
    assert yarn.attention_factor == pytest.approx(1 + 0.1 * math.log(4))
    original = read(
        rope__scaling__type="yarn",
        rope__scaling__factor=4.0,
        rope__scaling__original_context_length=512,
        rope__scaling__attn_factor=0.5,
    ).rope
    assert original.frequencies != yarn.frequencies
    assert original.attention_factor == yarn.attention_factor / 2
    assert read(rope__freq_base=500000).rope == make_rope(16, 500000.0)


def test_rope_freqs_must_come_with_their_tensor() -> None:
    shapes = SHAPES | {ROPE_FREQS: (8,)}
    hp, _ = build_plan(METADATA, shapes, vectors={ROPE_FREQS: [2.0] * 8})
    assert isinstance(hp, Decoder)
    assert hp.rope == make_rope(16, 10000.0, divisors=[2.0] * 8)
    for wrong_shapes, freqs in ((shapes, {}), (SHAPES, {ROPE_FREQS: [2.0] * 8})):
        with pytest.raises(ValueError, match=ROPE_FREQS):
            build_plan(METADATA, wrong_shapes, vectors=freqs)
    for bad in ([2.0] * 7, [0.0] * 8, [math.nan] * 8, [math.inf] * 8, [-1.0] * 8):
        with pytest.raises(ModelError, match="expected 8 positive numbers"):
            build_plan(METADATA, shapes, vectors={ROPE_FREQS: bad})


REFUSED = [
    ("block_count", 0, "from 1"),
    ("block_count", 1, "2, the number of blocks"),
    ("block_count", 100000, "2, the number of blocks"),
    ("block_count", "2", "an integer"),
    ("block_count", True, "an integer"),
    ("block_count", None, "lacks the key llama.block_count"),
    ("embedding_length", 0, "from 1"),
    ("embedding_length", 32, "64, the columns of 'token_embd.weight'"),
    ("feed_forward_length", 100, "96, the rows of 'blk.0.ffn_up.weight'"),
    ("context_length", 0, "from 1"),
    ("vocab_size", -1, "from 1"),
    ("attention.head_count", 0, "from 1"),
    ("attention.head_count", None, "lacks the key llama.attention.head_count"),
    ("attention.head_count", 3, None),
    ("attention.head_count_kv", 3, "a divisor of the 4 heads"),
    ("attention.head_count_kv", 8, "a divisor of the 4 heads"),
    ("attention.key_length", 2**31, "from 1"),
    ("attention.key_length", 32, "the 64 rows of 'blk.0.attn_q.weight' / 4 heads"),
    ("attention.value_length", 8, "16 as key_length"),
    ("attention.layer_norm_rms_epsilon", math.nan, "a finite number"),
    ("attention.layer_norm_rms_epsilon", -1e-5, "a positive number"),
    ("attention.layer_norm_rms_epsilon", None, "lacks the key"),
    ("rope.dimension_count", 4096, "an even number up to 16"),
    ("rope.dimension_count", 5, "an even number up to 16"),
    ("rope.dimension_count", 0, "from 1"),
    ("rope.freq_base", 0.0, "a positive number"),
    ("rope.freq_base", 1.0, "greater than 1"),
    ("rope.freq_base", math.inf, "a finite number"),
    ("rope.scaling.type", "longrope", "the tensors rope_factors_long.weight and"),
    ("rope.scaling.type", 3, "a string"),
    ("rope.scaling.factor", -2.0, "not negative"),
    ("expert_count", -1, "from 0"),
]


@pytest.mark.parametrize(("key", "value", "expected"), REFUSED)
def test_refusals_name_key_value_and_expectation(key: str, value: Any, expected: str | None) -> None:
    metadata = {k: v for k, v in (METADATA | {f"llama.{key}": value}).items() if v is not None}
    with pytest.raises(ModelError) as caught:
        build_plan(metadata, SHAPES)
    if expected is not None:
        assert f"llama.{key}" in str(caught.value)
        assert expected in str(caught.value)
        assert value is None or repr(value) in str(caught.value)


def test_heads_must_divide_the_width_where_no_length_is_given() -> None:
    with pytest.raises(ModelError, match=r"head_count is 5; expected a divisor of embedding_length \(64\)"):
        read(attention__head_count=5, attention__head_count_kv=5, attention__key_length=None)


def test_yarn_bounds_must_be_in_order() -> None:
    with pytest.raises(ModelError, match=r"yarn_beta_slow is 64\.0; expected at most yarn_beta_fast"):
        read(rope__scaling__type="yarn", rope__scaling__yarn_beta_slow=64.0)


EXPERTS = {"expert_count": 8, "expert_used_count": 2}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"expert_used_count": None}, "lacks the key llama.expert_used_count"),
        ({"expert_used_count": 9}, "llama.expert_used_count is 9; expected an integer from 1 to 8"),
        ({"expert_gating_func": 4}, "llama.expert_gating_func is 4; expected 1 (softmax)"),
        ({"expert_group_count": 3}, "llama.expert_group_count is 3; expected a divisor of the 8 experts"),
        ({"expert_group_count": 4, "expert_group_used_count": 5}, "llama.expert_group_used_count is 5; expected"),
        ({"expert_group_count": 8, "expert_group_used_count": 1}, "expert_used_count is 2; expected an integer from 1"),
        ({"expert_weights_norm": 1}, "llama.expert_weights_norm is 1; expected true or false"),
        ({"expert_weights_scale": -1.0}, "llama.expert_weights_scale is -1.0"),
        ({}, "no tensor 'blk.0.ffn_gate_inp.weight'"),
    ],
    ids=str,
)
def test_refusals_of_experts(keys: dict[str, Any], expected: str) -> None:
    metadata = METADATA | {f"llama.{k}": v for k, v in (EXPERTS | keys).items() if v is not None}
    with pytest.raises(ModelError, match=re.escape(expected)):
        build_plan(metadata, SHAPES)


def test_old_files_with_a_tensor_for_each_expert_are_refused_with_a_hint() -> None:
    shapes = SHAPES | {"blk.0.ffn_gate.0.weight": (96, 64)}
    with pytest.raises(ModelError, match="made before April 2024, so download a newer one"):
        build_plan(METADATA | {f"llama.{k}": v for k, v in EXPERTS.items()}, shapes)


@pytest.mark.parametrize("name", ["nosucharch", None, 3])
def test_an_unknown_architecture_lists_the_known_ones(name: Any) -> None:
    with pytest.raises(ModelError, match="llamaq runs Llama, Mistral and Mixtral, "):
        build_plan({"general.architecture": name}, {})


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_tensor_is_needed_in_its_shape(name: str) -> None:
    without = {k: v for k, v in SHAPES.items() if k != name}
    if name != "output.weight":  # the embedding table takes its place
        with pytest.raises(ModelError, match=name.removesuffix(".weight")):
            build_plan(METADATA, without)
    with pytest.raises(ModelError):
        build_plan(METADATA, SHAPES | {name: (7, *SHAPES[name])})
    with pytest.raises(ModelError):
        build_plan(METADATA, SHAPES | {name: (*SHAPES[name][:-1], 7)})


def test_a_block_with_a_strange_number_is_not_counted() -> None:
    assert read_hparams(METADATA, SHAPES | {"blk.x.attn_q.weight": (1, 1), "blk.": (1,)}).layers == 2


def test_one_tensor_of_a_far_block_does_not_make_so_many() -> None:
    shapes = SHAPES | {"blk.59999999.attn_q.weight": (64, 64)}
    with pytest.raises(ModelError, match="block_count is 60000000; expected 3, the number of blocks"):
        read_hparams(METADATA | {"llama.block_count": 60_000_000}, shapes)


@pytest.mark.parametrize("name", ["rope_dims_2g", "block_count_60m"])
def test_a_small_file_that_claims_much_is_refused_before_anything_is_computed(
    name: str, shared: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llamaq.models.ropes.make_rope", lambda *_, **__: pytest.fail("decimals were computed"))
    with pytest.raises(ModelError, match=r"key_length is 2147483646|block_count is 60000000; expected 6"):
        open_plan(shared(f"cases/{name}.gguf"))


def test_a_head_as_long_as_a_wide_tensor_is_refused() -> None:
    shapes = SHAPES | {"token_embd.weight": (1, 1 << 30), "blk.0.attn_q.weight": (1 << 30, 1 << 30)}
    keys = {"llama.embedding_length": 1 << 30, "llama.attention.head_count": 1, "llama.attention.head_count_kv": 1}
    metadata = {k: v for k, v in (METADATA | keys).items() if not k.endswith(("_length", "_count"))} | keys
    with pytest.raises(ModelError, match="key_length is 1073741824; expected an integer from 1 to 65536"):
        read_hparams(metadata | {"llama.block_count": 2, "llama.context_length": 8}, shapes)


# The tokenizer or the engine meets this damage, which says nothing to the plan.
ELSEWHERE = {"mv_ggml_model_bnosuch", "mv_ggml_eos_token_id_4294967295"}


def test_damaged_files(shared: Callable[[str], Path]) -> None:
    folder = shared("gguf-torture")
    seen = 0
    for path in sorted([*folder.glob("mv_*.gguf"), *folder.glob("missing_llama_*.gguf")]):
        if path.stem in ELSEWHERE:
            open_plan(path)
        elif path.stem == "mv_vocab_size_100":
            assert open_plan(path).vocab_size == 512
        else:
            with pytest.raises(ModelError):
                open_plan(path)
        seen += 1
    assert seen == 15
    assert open_plan(folder / "ok_identity.gguf").layers == 5


nonsense = st.one_of(
    st.integers(-(2**63), 2**64),
    st.integers(-2, 40),
    st.floats(),
    st.booleans(),
    st.text(max_size=5),
    st.lists(st.integers(-3, 70), max_size=3),
    st.lists(st.text(max_size=2), max_size=3),
    st.none(),
)
keys = st.sampled_from(
    sorted({k for k in METADATA if k.startswith("llama.")} | {f"llama.{k}" for k, _, _ in REFUSED})
    + [f"llama.rope.scaling.{k}" for k in ("original_context_length", "attn_factor", "yarn_ext_factor")]
    + [f"llama.rope.scaling.yarn_{k}" for k in ("beta_fast", "beta_slow", "log_multiplier")]
)


@settings(max_examples=300)
@given(st.dictionaries(keys, nonsense, max_size=4), st.sampled_from(["none", "linear", "yarn"]))
def test_nonsense_is_accepted_or_refused_but_never_crashes(changes: dict[str, Any], scaling: str) -> None:
    metadata = METADATA | {"llama.rope.scaling.type": scaling, "llama.rope.scaling.factor": 2.0} | changes
    try:
        hp, plan = build_plan(metadata, SHAPES)
    except LlamaqError:
        return
    assert isinstance(hp, Decoder)
    assert all(math.isfinite(f) for f in hp.rope.frequencies)
    assert plan.out_cols == 50
