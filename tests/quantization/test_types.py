"""Which format each tensor gets: llama.cpp's recorded choices, and what the user's options do to them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llamaq.formats import FORMATS, format_by_name
from llamaq.gguf import GGUFFile
from llamaq.quantization import FILE_TYPES, file_type_by_name
from llamaq.quantization.choice import ModelFacts, TypeOptions, allows_quantization, choose, sort_key

Shapes = dict[str, tuple[int, ...]]

MODELS = ["gemma-3-4b-it", "gpt-oss-120b", "meta-llama-3.1-70b-instruct", "qwen3-0.6b", "qwen3-14b"]
ARCHITECTURE = {"gemma": "gemma3", "gpt": "gpt-oss", "meta": "llama", "qwen3": "qwen3"}
HEAD_DIM = {"gemma-3-4b-it": 256, "gpt-oss-120b": 64}


def shapes_of(name: str, sizes: dict[str, int]) -> Shapes:
    """The matrices of a model, and some of its vectors."""
    width, ff, heads, kv_heads = (sizes[key] for key in ("n_embd", "n_ff", "n_head", "n_head_kv"))
    head, experts = HEAD_DIM.get(name, 128), sizes.get("n_expert", 0)
    shapes: Shapes = {"token_embd.weight": (32, width), "output_norm.weight": (width,)}
    if not name.startswith("gemma"):
        shapes["output.weight"] = (32, width)
    for layer in range(sizes["n_layer"]):
        b = f"blk.{layer}."
        shapes |= {
            b + "attn_q.weight": (heads * head, width),
            b + "attn_k.weight": (kv_heads * head, width),
            b + "attn_v.weight": (kv_heads * head, width),
            b + "attn_v.bias": (kv_heads * head,),
            b + "attn_output.weight": (width, heads * head),
            b + "attn_norm.weight": (width,),
        }
        if experts:
            shapes |= {
                b + "ffn_gate_inp.weight": (experts, width),
                b + "ffn_gate_exps.weight": (experts, ff, width),
                b + "ffn_up_exps.weight": (experts, ff, width),
                b + "ffn_down_exps.weight": (experts, width, ff),
            }
        else:
            shapes |= {b + f"ffn_{part}.weight": (ff, width) for part in ("gate", "up")}
            shapes[b + "ffn_down.weight"] = (width, ff)
    return shapes


def sections(text: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Type, its default format, and the formats that differ from it."""
    for section in text.split("\n[")[1:]:
        head, *lines = section.strip().splitlines()
        type, default = head.split("] ")
        yield type, default, dict(line.split() for line in lines)


@pytest.mark.parametrize("name", MODELS)
def test_choices_equal_the_recorded_ones(shared: Callable[[str], Path], name: str) -> None:
    text = shared(f"quant-types/{name}.schema").read_text()
    sizes = {key: int(value) for key, value in re.findall(r"(n_\w+)=(\d+)", text)}
    shapes = shapes_of(name, sizes)
    facts = ModelFacts(
        ARCHITECTURE[name.split("-")[0]],
        sizes["n_layer"],
        sizes["n_head"] // sizes["n_head_kv"],
        sizes.get("n_expert", 0),
    )
    seen = set()
    for type, default, expected in sections(text):
        seen.add(type)
        chosen = choose(shapes, file_type_by_name(type), facts, TypeOptions())
        formats = {tensor: choice.format.name for tensor, choice in chosen.items() if choice is not None}
        assert file_type_by_name(type).format.name == default.upper()
        differing = {tensor: format for tensor, format in formats.items() if format != default.upper()}
        assert differing == {tensor: format.upper() for tensor, format in expected.items()}, type
    assert seen == set(FILE_TYPES)


LLAMA: Shapes = shapes_of("llama", {"n_embd": 512, "n_ff": 1024, "n_layer": 16, "n_head": 4, "n_head_kv": 4})
FACTS = ModelFacts("llama", 16)


def formats(type: str, options: TypeOptions, shapes: Shapes = LLAMA, facts: ModelFacts = FACTS) -> dict[str, str]:
    chosen = choose(shapes, file_type_by_name(type), facts, options)
    return {name: choice.format.name for name, choice in chosen.items() if choice is not None}


def test_pure_is_one_format() -> None:
    assert set(formats("Q4_K_M", TypeOptions(pure=True)).values()) == {"Q4_K"}


def test_own_formats_come_before_the_rules() -> None:
    options = TypeOptions(
        output_tensor_type=format_by_name("Q8_0"),
        token_embedding_type=format_by_name("F16"),
        tensor_types=[
            (re.compile(r"blk\.1\..*ffn"), format_by_name("Q5_K")),
            (re.compile("ffn"), format_by_name("Q3_K")),
        ],
    )
    found = formats("Q4_K_M", options)
    assert (found["output.weight"], found["token_embd.weight"]) == ("Q8_0", "F16")
    assert (found["blk.1.ffn_down.weight"], found["blk.2.ffn_down.weight"]) == ("Q5_K", "Q3_K")
    assert found["blk.0.attn_v.weight"] == "Q6_K"


def test_the_output_can_be_left() -> None:
    assert "output.weight" not in formats("Q4_0", TypeOptions(leave_output_tensor=True))


def test_an_imatrix_changes_choices() -> None:
    """The first eighth of ffn_down: Q4_1 in Q4_0 files with importance, Q5_K in IQ4_XS files without."""
    name = "blk.1.ffn_down.weight"
    assert [formats("Q4_0", TypeOptions(has_imatrix=flag))[name] for flag in (False, True)] == ["Q4_0", "Q4_1"]
    assert [formats("IQ4_XS", TypeOptions(has_imatrix=flag))[name] for flag in (False, True)] == ["Q5_K", "IQ4_XS"]


@pytest.mark.parametrize(("cols", "format"), [(256, "Q4_K"), (96, "Q5_0"), (172, "F16")])
def test_rows_that_are_no_blocks_fall_back(cols: int, format: str) -> None:
    chosen = choose({"x.weight": (4, cols)}, file_type_by_name("Q4_K_S"), FACTS, TypeOptions())["x.weight"]
    assert chosen is not None
    assert (chosen.format.name, chosen.wanted is None) == (format, cols == 256)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("blk.0.attn_q.weight", (4, 4), True),
        ("blk.0.attn_q.weight", (1, 1, 4), False),
        ("blk.0.attn_q.bias", (4, 4), False),
        ("blk.0.attn_q_norm.weight", (4, 4), False),
        ("blk.0.ffn_gate_inp.weight", (4, 4), False),
        ("position_embd.weight", (4, 4), False),
        ("output_norm.weight", (4,), False),
    ],
)
def test_what_is_a_matrix_to_quantize(name: str, shape: tuple[int, ...], expected: bool) -> None:
    assert allows_quantization(name, shape) is expected


def test_names_aliases_and_numbers() -> None:
    pairs = [("q4_k", "Q4_K_M"), ("Q3_K", "Q3_K_M"), ("Q5_K", "Q5_K_M"), ("15", "Q4_K_M"), ("mxfp4", "MXFP4_MOE")]
    assert [file_type_by_name(word).name for word, _ in pairs] == [name for _, name in pairs]
    numbers = [type.number for type in FILE_TYPES.values()]
    assert numbers == sorted(set(numbers))
    assert all(type.format.id in FORMATS for type in FILE_TYPES.values())
    with pytest.raises(ValueError, match="expected one of F32, F16"):
        file_type_by_name("Q4")


def test_tensors_are_counted_by_layer_then_name() -> None:
    names = ["output.weight", "blk.10.a", "blk.9.b", "blk.9.a"]
    assert sorted(names, key=sort_key) == ["output.weight", "blk.9.a", "blk.9.b", "blk.10.a"]


def test_the_embeddings_of_each_layer_follow_unless_they_are_named() -> None:
    shapes = {"token_embd.weight": (32, 512), "per_layer_token_embd.weight": (32, 512), "output.weight": (32, 512)}
    options = TypeOptions(token_embedding_type=format_by_name("Q8_0"))
    assert formats("Q4_0", options, shapes)["per_layer_token_embd.weight"] == "Q8_0"
    named = [(re.compile("token_embd"), format_by_name("Q5_0"))]
    found = formats("Q4_0", replace(options, tensor_types=named), shapes)
    assert (found["token_embd.weight"], found["per_layer_token_embd.weight"]) == ("Q8_0", "Q5_0")


@pytest.mark.parametrize(("groups", "format"), [(8, "Q5_K"), (1, "Q3_K")])
def test_small_values_of_models_with_80_layers(groups: int, format: str) -> None:
    """Llama 1 65B has 80 layers, too, and a key for every query."""
    found = formats("Q3_K_S", TypeOptions(), {"blk.0.attn_v.weight": (64, 512)}, ModelFacts("llama", 80, groups))
    assert found == {"blk.0.attn_v.weight": format}


def mixture(experts: int, layers: int = 8) -> Shapes:
    """Matrices of a model with experts, shared ones, and compressed keys whose rows are shorter than a block."""
    shapes: Shapes = {"output.weight": (32, 512), "token_embd.weight": (32, 512)}
    for b in (f"blk.{i}." for i in range(layers)):
        shapes |= {
            b + "attn_k.weight": (64, 512),
            b + "attn_v.weight": (64, 512),
            b + "attn_output.weight": (512, 512),
            b + "attn_k_b.weight": (4, 512, 128),
            b + "attn_v_b.weight": (4, 128, 512),
            b + "ffn_gate_inp.weight": (experts, 512),
            b + "ffn_gate_inp_shexp.weight": (1, 512),
            b + "ffn_down_exps.weight": (experts, 512, 256),
            b + "ffn_down_shexp.weight": (512, 256),
            b + "ffn_gate_exps.weight": (experts, 256, 512),
            b + "ffn_gate_exps.bias": (experts, 256),
            b + "attn_sinks.weight": (4,),
            b + "exp_probs_b.bias": (experts,),
        }
    return shapes


@pytest.mark.parametrize(
    ("type", "attn_k", "attn_v", "attn_output", "attn_k_b", "down_0", "down_2"),
    [
        ("Q4_K_M", "Q8_0", "Q8_0", "Q5_K", "Q5_0", "Q6_K", "Q4_K"),
        ("Q2_K", "Q8_0", "Q8_0", "Q5_K", "Q4_0", "Q3_K", "Q3_K"),
        ("Q5_K_M", "Q8_0", "Q8_0", "Q5_K", "Q5_1", "Q6_K", "Q5_K"),
        ("IQ3_M", "Q8_0", "Q8_0", "Q5_K", "IQ4_NL", "Q4_K", "IQ3_S"),
        ("IQ2_XXS", "Q4_K", "Q4_K", "Q5_K", "IQ4_NL", "Q2_K", "IQ2_XXS"),
        ("MXFP4_MOE", "Q8_0", "Q8_0", "Q8_0", "MXFP4", "MXFP4", "MXFP4"),
    ],
)
def test_models_of_eight_experts_have_more_bits_in_attention(
    type: str, attn_k: str, attn_v: str, attn_output: str, attn_k_b: str, down_0: str, down_2: str
) -> None:
    """Layers count by their names, as each has two ffn_down."""
    facts = ModelFacts("llama", 8, 4, 8)
    found = formats(type, TypeOptions(), mixture(8), facts)
    names = ("0.attn_k", "0.attn_v", "0.attn_output", "0.attn_k_b", "0.ffn_down_exps", "2.ffn_down_exps")
    expected = (attn_k, attn_v, attn_output, attn_k_b, down_0, down_2)
    assert tuple(found[f"blk.{name}.weight"] for name in names) == expected
    others = formats("Q4_K_M", TypeOptions(), mixture(16), ModelFacts("qwen3moe", 8, 4, 16))
    assert (others["blk.0.attn_k.weight"], others["blk.0.attn_output.weight"]) == ("Q4_K", "Q4_K")


def test_routers_sinks_and_biases_are_no_matrices_to_quantize() -> None:
    found = formats("Q4_K_M", TypeOptions(), mixture(8), ModelFacts("llama", 8, 4, 8))
    kept = {name.split(".", 2)[2] for name in mixture(8) if name not in found}
    assert kept == {
        "ffn_gate_inp.weight",
        "ffn_gate_inp_shexp.weight",  # one row counts as a vector
        "ffn_gate_exps.bias",
        "attn_sinks.weight",
        "exp_probs_b.bias",
    }


def test_fused_tensors() -> None:
    """Queries, keys and values in one tensor have what values have; gate and up in one have what up has."""
    shapes: Shapes = {
        "output.weight": (32, 512),
        "blk.0.attn_qkv.weight": (512, 512),
        "blk.0.ffn_up.weight": (512, 512),
    }
    facts = ModelFacts("phi3", 8)
    found = formats("Q4_K_M", TypeOptions(), shapes, facts)
    assert (found["blk.0.attn_qkv.weight"], found["blk.0.ffn_up.weight"]) == ("Q6_K", "Q4_K")
    assert formats("Q3_K_M", TypeOptions(), shapes, facts)["blk.0.attn_qkv.weight"] == "Q5_K"


def test_tied_embeddings_are_the_output() -> None:
    shapes = {"token_embd.weight": (32, 512), "blk.0.attn_v.weight": (64, 512)}
    assert formats("Q4_K_M", TypeOptions(), shapes)["token_embd.weight"] == "Q6_K"
    assert formats("Q4_K_M", TypeOptions(), shapes | {"output.weight": (32, 512)})["token_embd.weight"] == "Q4_K"


def test_what_the_tiny_models_keep(shared: Callable[[str], Path]) -> None:
    """Files of every family keep vectors, norms of whatever shape, routers, and biases; all else is quantized."""
    for path in sorted(shared("tiny-models").glob("*.gguf")):
        with GGUFFile.open(path) as file:
            shapes = {name: info.shape for name, info in file.tensors.items() if not name.startswith(("v.", "mm."))}
        kept = {name for name, shape in shapes.items() if not allows_quantization(name, shape)}
        vectors = {name for name, shape in shapes.items() if len([n for n in shape[:-1] if n > 1]) == 0}
        others = {re.sub(r"blk\.\d+\.", "", name) for name in kept - vectors}
        known = {"ffn_gate_inp.weight", "ffn_gate_exps.bias", "ffn_up_exps.bias", "ffn_down_exps.bias"}
        assert vectors <= kept
        assert others <= known | {"shortconv.conv.weight", "ssm_conv1d.weight", "per_layer_model_proj.weight"}, path
