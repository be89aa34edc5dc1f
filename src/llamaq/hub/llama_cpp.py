"""What llama.cpp downloaded before it shared the hub's cache: ``user_repo_file.gguf`` in one folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from llamaq.hub.choice import is_model
from llamaq.hub.folders import existing, from_environment, gguf_files, home
from llamaq.hub.found import Found

__all__ = ["LlamaCpp"]


class LlamaCpp:
    """Its models are called as their files."""

    title = "llama.cpp's cache"
    removal = "remove its file: llamaq where NAME"

    def folders(self) -> list[Path]:
        if sys.platform == "darwin":
            own = home("Library", "Caches", "llama.cpp")
        elif os.name == "nt":
            own = (from_environment("LOCALAPPDATA") or home("AppData", "Local")) / "llama.cpp"
        else:
            own = (from_environment("XDG_CACHE_HOME") or home(".cache")) / "llama.cpp"
        return existing(from_environment("LLAMA_CACHE"), own)

    def models(self) -> Iterator[Found]:
        for folder in self.folders():
            for path in gguf_files(folder, depth=0):
                if is_model(path.name):
                    yield Found(path, path.name[: -len(".gguf")], self.title, (path.name,))
