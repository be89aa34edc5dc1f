"""Handlers of chats with pictures: ``Llama(path, chat_handler=Gemma3ChatHandler(clip_model_path=projector))``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from llamaq.boundary.arguments import path_of
from llamaq.chat.pictures import PICTURE_TYPES, picture_in
from llamaq.chat.templates import file_templates

from . import chats
from .calls import CHAT
from .hub import downloaded
from .model import Model

__all__ = [
    "Gemma3ChatHandler", "Gemma4ChatHandler", "Llava15ChatHandler", "Llava16ChatHandler", "MTMDChatHandler",
    "Qwen3VLChatHandler", "Qwen25VLChatHandler", "refused",
]  # fmt: skip

_H = TypeVar("_H", bound="Llava15ChatHandler")

_OTHERS = (
    "Llama3VisionAlphaChatHandler", "MiniCPMv26ChatHandler", "MoondreamChatHandler", "NanoLlavaChatHandler",
    "ObsidianChatHandler",
)  # fmt: skip
"""Those of models whose projectors llamaq does not run."""


class Llava15ChatHandler:
    """Answers conversations with pictures, by the file's own template. ``Llama`` loads the projector with the model,
    whatever kind it is, and refuses one that llamaq does not run. Raises ``ValueError`` for a path that is none."""

    template: ClassVar[str | None] = "vicuna"
    """The name of the template for files that have none; None: they need one."""

    def __init__(self, clip_model_path: str, verbose: bool = True, **_: Any) -> None:
        if not os.path.exists(path_of("clip_model_path", clip_model_path)):
            raise ValueError(f"Clip model path does not exist: {clip_model_path}")
        self.clip_model_path = str(clip_model_path)
        self.verbose = verbose

    @classmethod
    def from_pretrained(
        cls: type[_H], repo_id: str, filename: str, local_dir: Any = None, local_dir_use_symlinks: Any = "auto",
        cache_dir: Any = None, **kwargs: Any,
    ) -> _H:  # fmt: skip
        """With the one file of a repository of the hub that the pattern ``filename`` fits, as
        ``Llama.from_pretrained``."""
        return cls(downloaded(repo_id, filename, local_dir=local_dir, cache_dir=cache_dir), **kwargs)

    def load_image(self, image_url: str) -> str | bytes:
        """The picture of an address: what llamaq takes, or the bytes of a file. llamaq takes data URLs and fetches
        nothing; a class of your own may."""
        return image_url

    def __call__(self, *, llama: Model, **given: Any) -> Any:
        if llama.llm.model.encoder is None:
            message = f"{type(self).__name__} must be given to the constructor, Llama(path, chat_handler=...), which"
            raise ValueError(f"{message} loads its projector with the model")
        values = {**CHAT, **given}
        values["messages"] = [self._shown(message) for message in values["messages"]]
        own = "default" in file_templates(llama.metadata_values)
        return chats.chat(llama, values, None if own else self.template)

    def _shown(self, message: Any) -> Any:
        """A message with its pictures as ``load_image`` gives them."""
        parts = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(parts, list):
            return message
        return {**message, "content": [self._part(part) for part in parts]}

    def _part(self, part: Any) -> Any:
        found = picture_in(part) if isinstance(part, Mapping) and part.get("type") in PICTURE_TYPES else None
        return {"type": "image", "image": self.load_image(found)} if isinstance(found, str) else part


class Llava16ChatHandler(Llava15ChatHandler):
    pass


class MTMDChatHandler(Llava15ChatHandler):
    """For files with a template."""

    template: ClassVar[str | None] = None


class Gemma3ChatHandler(MTMDChatHandler):
    template = "gemma"


class Gemma4ChatHandler(MTMDChatHandler):
    pass


class Qwen25VLChatHandler(MTMDChatHandler):
    template = "chatml"


class Qwen3VLChatHandler(MTMDChatHandler):
    template = "chatml"


class _Refused:
    """The name of a handler that frameworks import, whether or not they have such a model."""

    def __init__(self, *_: Any, **__: Any) -> None:
        message = "llamaq has no projector of its models; docs/images.md has those that it has"
        raise ValueError(f"{type(self).__name__} is not possible here: {message}")

    @classmethod
    def from_pretrained(cls, *_: Any, **__: Any) -> _Refused:
        return cls()


def refused(name: str) -> type[_Refused] | None:
    """A class of that name which cannot be made, where llama-cpp-python has one that llamaq has not."""
    return type(name, (_Refused,), {}) if name in _OTHERS else None
