"""Handlers of chats with pictures."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llamaq import LLM, SamplingParams
from llamaq.compat.llama_cpp import Llama, image_handlers, llama_chat_format
from llamaq.compat.llama_cpp.llama_chat_format import (
    Gemma3ChatHandler,
    Llava15ChatHandler,
    Llava16ChatHandler,
    MTMDChatHandler,
    Qwen25VLChatHandler,
)
from llamaq.compat.llama_cpp.loading import LoadError
from llamaq.errors import ChatTemplateError, ImageError
from vision_cases import picture

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 5}


@pytest.fixture(scope="module")
def paths(shared: Callable[[str], Path]) -> tuple[str, str]:
    return str(shared("tiny-models/gemma3v.gguf")), str(shared("tiny-models/gemma3v-mmproj.gguf"))


@pytest.fixture(scope="module")
def llama(paths: tuple[str, str]) -> Iterator[Llama]:
    with Llama(paths[0], chat_handler=Gemma3ChatHandler(clip_model_path=paths[1]), n_ctx=0, n_threads=1) as llama:
        yield llama


@pytest.fixture(scope="module")
def png() -> bytes:
    out = BytesIO()
    Image.fromarray(picture(30, 20)).save(out, "PNG")
    return out.getvalue()


def said(url: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": url}, {"type": "text", "text": "ab"}]}]


def text_of(found: Any) -> str:
    return str(found["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def expected(paths: tuple[str, str], png: bytes) -> tuple[str, int]:
    """What the library answers, and how many tokens the prompt has."""
    parts = [{"type": "image", "image": png}, {"type": "text", "text": "ab"}]
    with LLM.load(paths[0], mmproj=paths[1], threads=1) as llm:
        found = llm.chat(
            [{"role": "user", "content": parts}], template="gemma", max_tokens=5, sampling=SamplingParams(temperature=0)
        )
    return found.text, found.usage.prompt_tokens


def test_a_picture_is_read(llama: Llama, png: bytes, expected: tuple[str, int]) -> None:
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    for given in (url, {"url": url}):
        found = llama.create_chat_completion(said(given), **GREEDY)
        assert (text_of(found), found["usage"]["prompt_tokens"]) == expected
    pieces = llama.create_chat_completion(said(url), stream=True, **GREEDY)
    assert "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces) == expected[0]
    assert text_of(llama.create_chat_completion([{"role": "user", "content": "ab"}], **GREEDY))


@pytest.mark.parametrize("handler", [Llava15ChatHandler, Llava16ChatHandler, Qwen25VLChatHandler])
def test_any_handler_takes_any_projector(
    paths: tuple[str, str], png: bytes, handler: type[Llava15ChatHandler], expected: tuple[str, int]
) -> None:
    """The file has no template, so each renders with that of its own models; a class of one's own may fetch."""

    class Fetching(handler):  # type: ignore[misc,valid-type]
        def load_image(self, image_url: str) -> bytes:
            assert image_url == "cat"
            return png

    made = Fetching(clip_model_path=paths[1], verbose=False)
    with Llama(paths[0], chat_handler=made, n_ctx=0, n_threads=1) as llama:
        found = llama.create_chat_completion(said({"url": "cat"}), **GREEDY)
        assert found["usage"]["prompt_tokens"] not in (0, expected[1])


def test_what_cannot_be(llama: Llama, paths: tuple[str, str], story: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Clip model path does not exist: "):
        Gemma3ChatHandler(clip_model_path=str(tmp_path / "none.gguf"))
    with pytest.raises(ImageError, match="data URL"):
        llama.create_chat_completion(said("https://example.org/cat.png"))
    handler = MTMDChatHandler(clip_model_path=paths[1])
    with pytest.raises(LoadError, match="projector"):
        Llama(paths[0], chat_handler=MTMDChatHandler(clip_model_path=paths[0]), n_threads=1)
    with Llama(str(story), n_ctx=256, n_threads=1) as other:
        other.chat_handler = handler
        with pytest.raises(ValueError, match=r"MTMDChatHandler must be given to the constructor, Llama\(path"):
            other.create_chat_completion(said("data:,"))
    with Llama(paths[0], chat_handler=handler, n_ctx=0, n_threads=1) as bare, pytest.raises(ChatTemplateError):
        bare.create_chat_completion(said("data:,"))


def test_handlers_of_other_models_are_refused_by_name() -> None:
    for name in image_handlers._OTHERS:
        found = getattr(llama_chat_format, name)
        with pytest.raises(ValueError, match=f"{name} is not possible here"):
            found(clip_model_path="mmproj.gguf")
        with pytest.raises(ValueError, match=f"{name} is not possible here"):
            found.from_pretrained("a/b", "*")


def test_a_handler_goes_to_other_processes_and_comes_from_the_hub(
    paths: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = Gemma3ChatHandler(clip_model_path=paths[1])
    assert pickle.loads(pickle.dumps(handler)).clip_model_path == paths[1]
    asked: list[Any] = []

    def downloaded(*given: Any, **_: Any) -> str:
        asked.append(given)
        return paths[1]

    monkeypatch.setattr(image_handlers, "downloaded", downloaded)
    assert Gemma3ChatHandler.from_pretrained("a/b", "*mmproj*").clip_model_path == paths[1]
    assert asked == [("a/b", "*mmproj*")]
