"""Ollama's manifests, in which nothing is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamaq import LLM
from llamaq.errors import ModelError, ModelNotFoundError
from llamaq.hub import Found, models, resolve
from llamaq.hub.summary import summary
from llamaq.llm.named import defaults_of
from model_places import MODEL, Places

PROJECTOR = MODEL.replace("model", "projector")
NAME = "registry.ollama.ai/library/m/latest"


def test_parameters_and_system_come_along(places: Places) -> None:
    parameters = {"temperature": 0.3, "stop": ["<|eot_id|>"]}
    path = places.ollama(params=parameters, system="Be brief.\n", template="{{ .Prompt }}", license="free")
    found = resolve("llama3.2")
    assert (found.path, found.parameters, found.system) == (path, parameters, "Be brief.")
    assert (found.name, found.source) == ("llama3.2:latest", "Ollama")


def test_names_of_other_hosts_and_people(places: Places) -> None:
    path = places.ollama("registry.ollama.ai/ann/m/7b")
    assert resolve("ann/m:7b").path == path
    with pytest.raises(ModelNotFoundError):
        resolve("ann/m:8b")
    places.content = b"other"
    path = places.ollama("hf.co/user/repo-GGUF/Q4_K_M")
    assert resolve("hf.co/user/repo-GGUF:Q4_K_M").path == path


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ({"tensor": b"x"}, "image.tensor"),
    ],
)
def test_what_llamaq_cannot_use_is_refused_by_name(places: Places, layers: dict[str, Any], why: str) -> None:
    places.ollama(**layers)
    with pytest.raises(ModelError, match=f"llama3.2:latest: .*{why}"):
        resolve("llama3.2")
    assert [found.name for found in models() if why in found.problem] == ["llama3.2:latest"]


def test_its_adapter_comes_along(places: Places) -> None:
    places.ollama(adapter=b"lora")
    (adapter,) = resolve("llama3.2").adapters
    assert adapter.read_bytes() == b"lora"
    assert defaults_of(resolve("llama3.2")).adapters == (adapter,)


def test_its_projector_comes_along(
    places: Places, shared: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    """With it the model sees; without one that llamaq runs it reads text."""
    places.content = shared("tiny-models/gemma3v.gguf").read_bytes()
    mmproj = shared("tiny-models/gemma3v-mmproj.gguf").read_bytes()
    places.ollama(projector=mmproj)
    projector = resolve("llama3.2").projector
    assert projector is not None
    assert projector.read_bytes() == mmproj
    with LLM.load("llama3.2", threads=1) as llm:
        encoder = llm.model.encoder
        assert encoder is not None
        assert encoder.file.path == projector
        assert llm.memory.projector > 0
    with pytest.raises(ValueError, match="image_edge"):
        LLM.load("llama3.2", image_edge=64, threads=1)
    for content in (b"clip", mmproj.replace(b"gemma3", b"gemma9")):
        places.ollama(projector=content)
        with caplog.at_level("WARNING", "llamaq"), LLM.load("llama3.2", threads=1) as llm:
            assert llm.model.encoder is None
        assert "reads text alone, without the projector" in caplog.text
        caplog.clear()


def test_a_projector_is_listed_in_words(tmp_path: Path, shared: Callable[[str], Path]) -> None:
    path = shared("tiny-models/gemma3v-mmproj.gguf")
    told = summary(Found(path, "eyes", "somewhere"))
    assert (told.family, told.problem) == ("projector", "a projector (gemma3), which goes with its model: --mmproj")
    other = tmp_path / "other.gguf"
    other.write_bytes(path.read_bytes().replace(b"gemma3", b"gemma9"))
    assert "which llamaq cannot use: " in summary(Found(other, "eyes", "somewhere")).problem


def layer(digest: Any, size: Any = 4, kind: str = MODEL) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest, "size": size}


GOOD = hashlib.sha256(b"GGUF").hexdigest()


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (b"", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b"[]", "expected a JSON object"),
        (b"{}" + b" " * (1 << 20), "expected at most"),
        ({}, "a list of layers"),
        ({"layers": [1]}, "a list of layers"),
        ({"layers": []}, "expected one model in .*, got 0"),
        (
            {"layers": [layer(f"sha256:{GOOD}"), *[layer(f"sha256:{GOOD}", kind=PROJECTOR)] * 2]},
            "one projector at most",
        ),
        ({"layers": [layer(f"sha256:{GOOD}"), layer(f"sha256:{GOOD}")]}, "got 2"),
        ({"layers": [layer("sha256:../../../../../etc/passwd")]}, "expected a digest"),
        ({"layers": [layer("sha256:" + "A" * 64)]}, "expected a digest"),
        ({"layers": [layer(f"sha256:{GOOD}\n")]}, "expected a digest"),
        ({"layers": [layer(7)]}, "expected a digest"),
        ({"layers": [layer("sha256:" + "0" * 64)]}, "No such file.*ollama pull m:latest"),
        ({"layers": [layer(f"sha256:{GOOD}", 5)]}, "expected 5 bytes, got 4"),
        ({"layers": [layer(f"sha256:{GOOD}"), layer(f"sha256:{GOOD}", 4, MODEL.replace("model", "params"))]}, "JSON"),
    ],
    ids=str,
)
def test_damaged_manifests(places: Places, manifest: Any, why: str) -> None:
    places.ollama("registry.ollama.ai/library/other/latest")
    places.manifest(NAME, manifest)
    with pytest.raises(ModelError, match=why):
        resolve("m")
    assert resolve("other").path.name == f"sha256-{GOOD}"


def test_a_system_message_that_is_no_text(places: Places) -> None:
    places.ollama(system=b"\xff\xfe")
    with pytest.raises(ModelError, match="not UTF-8"):
        resolve("llama3.2")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just(f"sha256:{GOOD}")
    | st.just(MODEL),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["layers", "mediaType", "digest", "size", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(manifest=JSON, layers=st.lists(JSON, max_size=3), parameters=JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_no_manifest_raises_anything_else(places: Places, manifest: Any, layers: list[Any], parameters: Any) -> None:
    for content in (manifest, {"layers": layers}):
        places.manifest(NAME, content)
        for found in models():
            assert found.problem or found.source != "Ollama" or found.path.name == f"sha256-{GOOD}"
    places.ollama(params=parameters)
    for found in models():
        defaults_of(found)
