"""Which file of a repository is meant, and what an address is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaq.hub.address import Address, address_of
from llamaq.hub.choice import choose, fitting, is_model, quant_of, shards_of

FILES = ["mmproj-m-Q4_K_M.gguf", "README.md", "m-IQ2_XS.gguf", "m-Q8_0-00002-of-00002.gguf",
         "m-Q8_0-00001-of-00002.gguf", "m.Q5_K_M.gguf", "sub/m-UD-Q4_K_XL.gguf"]  # fmt: skip


def test_llama_cpp_chooses() -> None:
    assert choose(FILES) == "m-Q8_0-00001-of-00002.gguf"
    assert choose([*FILES, "m-q4_k_m.gguf"]) == "m-q4_k_m.gguf"
    assert choose(["a-Q2_K.gguf", "b-Q3_K.gguf"]) == "a-Q2_K.gguf"
    assert choose(FILES, "q5_k_m") == "m.Q5_K_M.gguf"
    assert choose(FILES, "Q4_K_XL") == "sub/m-UD-Q4_K_XL.gguf"
    assert choose(FILES, "Q4_K_M") is None
    assert choose(FILES, "Q5") is None
    assert choose(FILES, ".*") is None
    assert choose(["README.md", "mmproj.gguf"]) is None


def test_parts_and_patterns() -> None:
    assert shards_of("m-Q8_0-00001-of-00002.gguf", FILES) == FILES[4:2:-1]
    assert shards_of("m.Q5_K_M.gguf", FILES) == ["m.Q5_K_M.gguf"]
    assert fitting(FILES, "*q8_0*.gguf") == ["m-Q8_0-00001-of-00002.gguf"]
    assert fitting(FILES, "m-UD-Q4_K_XL.gguf") == ["sub/m-UD-Q4_K_XL.gguf"]
    assert fitting(FILES, "mmproj-m-Q4_K_M.gguf") == ["mmproj-m-Q4_K_M.gguf"]
    assert [quant_of(file) for file in FILES if is_model(file)] == ["IQ2_XS", "Q8_0", "Q5_K_M", "UD-Q4_K_XL"]
    assert [is_model(name) for name in ("imatrix.gguf", "mtp-m.gguf", "m-dflash-x.gguf", "smtp-1.gguf")] == [
        False, False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("hf:u/r", Address("u/r")),
        ("hf:u/r:latest", Address("u/r")),
        ("hf:u/r:Q4_K_M@v1/x", Address("u/r", "Q4_K_M", revision="v1/x")),
        ("hf:u/r/a/b.gguf@main", Address("u/r", file="a/b.gguf")),
        ("hf://u/r", Address("u/r")),
        ("hf.co/u/r:Q8_0", Address("u/r", "Q8_0")),
        ("https://huggingface.co/u/r/tree/main", Address("u/r")),
        (
            "https://huggingface.co/u/r/resolve/v1/a%20b.gguf?download=true",
            Address("u/r", file="a b.gguf", revision="v1"),
        ),
        ("http://huggingface.co/u/r", None),
        ("https://huggingface.co.evil.example/u/r", None),
        ("https://user@huggingface.co/u/r", None),
        ("u/r", None),
        ("llama3.2", None),
    ],
)
def test_addresses(name: str, address: Address | None) -> None:
    assert address_of(name) == address
    if address is not None:
        assert address_of(str(address)) == address


@pytest.mark.parametrize(
    "name",
    ["hf:", "hf:u", "hf:u/", "hf:/r", "hf:u/r:", "hf:u/../r", "hf:u/r/../../x.gguf", "hf:u/r/a//b", "hf:u/r@..",
     "hf:u/r:a/b", "hf:u/r:a b", "hf:u--x/r", "hf:u/r\n", "hf:u/r/\x1b.gguf", "hf:u/r/a\\b.gguf",
     f"hf:u/{'r' * 99}", "hf:u/r@/etc",
     "https://huggingface.co/", "https://huggingface.co/u/r/resolve/main/../../x"],
)  # fmt: skip
def test_wrong_addresses(name: str) -> None:
    with pytest.raises(ValueError, match="an address on the hub is hf:user/repo"):
        address_of(name)


@given(st.text(st.sampled_from("hf:/@.-_aQ4\n ~%\\"), max_size=24))
def test_an_address_stays_within_its_repository(text: str) -> None:
    try:
        address = address_of(f"hf:{text}")
    except ValueError:
        return
    assert address is not None
    for piece in (address.repo, address.file, address.revision, address.quant):
        assert ".." not in piece.split("/")
        assert not piece.startswith("/")
    assert address_of(str(address)) == address
