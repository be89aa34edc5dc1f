"""Fixtures that several test files share."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from tqdm import tqdm

from shared_files import shared_path

if TYPE_CHECKING:
    from llamaq import LLM

settings.register_profile("untimed", deadline=None)  # an example may take as long as a busy machine makes it
settings.load_profile("untimed")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background jobs ignore it; tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def own_cache_dir(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Chats of tests keep nothing in the user's caches."""
    os.environ["LLAMAQ_CACHE_DIR"] = str(tmp_path_factory.mktemp("caches"))


@pytest.fixture(autouse=True)
def own_progress_lock() -> None:
    """Ctrl-C while a bar takes tqdm's lock leaves it taken for ever: no other thread shows one then. Tests press it."""
    tqdm.set_lock(threading.RLock())


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """``shared("models")`` is the path of that folder, or the test is skipped with a reason."""
    return shared_path


@pytest.fixture(scope="session")
def stories(shared: Callable[[str], Path]) -> Path:
    """A model of 260 thousand parameters that has learnt to tell stories."""
    return shared("models/stories260K-Q8_0.gguf")


@pytest.fixture
def llm(stories: Path) -> Iterator[LLM]:
    """It loaded, with room for eight contexts."""
    from llamaq import LLM

    with LLM.load(stories, threads=2, n_ctx=256, n_cache=2048) as llm:
        yield llm
