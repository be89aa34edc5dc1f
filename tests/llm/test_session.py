"""Sessions: what they read again and why, forks, cuts, files that are refused."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamaq import LLM, SamplingParams, Session
from llamaq.errors import ContextOverflowError, SessionError
from llamaq.formats import format_by_name
from llamaq.gguf import GGUFFile, TensorData, write_gguf
from llamaq.llm import session_file
from llamaq.llm.session_file import _read

GREEDY = SamplingParams(temperature=0)
STORY = "Once upon a time there was a little girl named Lily. She had a red ball and a big brown dog."


@pytest.fixture
def llm(stories: Path) -> Iterator[LLM]:
    with LLM.load(stories, threads=1, n_ctx=256, n_cache=1024) as llm:
        yield llm


@pytest.fixture
def session(llm: LLM) -> Session:
    return llm.session()


def test_another_plan_of_the_same_file_is_told(stories: Path, llm: LLM, tmp_path: Path) -> None:
    """Values of metadata that were overridden change what is computed, and not the file's hash."""
    file = GGUFFile.open(stories)
    file.override({"llama.rope.freq_base": 5000.0})
    with LLM.load(file, threads=1, n_ctx=256, n_cache=1024) as other:
        saved = other.session()
        saved.extend(STORY)
        saved.save(tmp_path / "other")
        other.session().load(tmp_path / "other")
        own = llm.session()
        own.extend(STORY)
        own.save(tmp_path / "own")
        with pytest.raises(SessionError, match=r"expected a session with plan \w+, got None"):
            other.session().load(tmp_path / "own")
    with pytest.raises(SessionError, match="expected a session with plan None, got"):
        llm.session().load(tmp_path / "other")


def test_a_text_that_grows_is_read_once(llm: LLM, session: Session) -> None:
    first = session.generate("Lily saw a", max_tokens=10, sampling=GREEDY)
    assert session.tokens == (*llm.prompt_ids("Lily saw a"), *first.tokens)
    assert session.text == llm.detokenize(session.tokens) == "Lily saw a" + first.text
    before = session.tokens
    second = session.generate(" Then Tom", max_tokens=10, sampling=GREEDY)
    added = llm.tokenizer.encode(" Then Tom", continuation=True)
    assert second.usage.prompt_tokens == len(before) + len(added)
    assert second.usage.cached_tokens == len(before) - 1  # the cache had all that was read
    assert second.tokens == llm.generate([*before, *added], max_tokens=10, sampling=GREEDY).tokens
    assert f"{len(before) - 1} of the {second.usage.prompt_tokens} tokens were in the cache" in session.why
    assert session.n_past == len(session.tokens) - 1


def test_an_empty_session_starts_from_bos(llm: LLM, session: Session) -> None:
    assert not session.tokens
    assert session.generate(max_tokens=3, sampling=GREEDY).text == llm.generate("", max_tokens=3, sampling=GREEDY).text
    assert session.tokens[0] == llm.tokenizer.bos_id


def test_extend_reads_now(llm: LLM, session: Session) -> None:
    session.extend(STORY)
    assert session.n_past == len(session.tokens) == len(llm.prompt_ids(STORY))
    session.extend(" The end.")
    done = session.generate(max_tokens=4, sampling=GREEDY)
    assert done.usage.cached_tokens == done.usage.prompt_tokens - 1
    with pytest.raises(ContextOverflowError):
        session.extend([5] * 300)
    assert len(session.tokens) == done.usage.prompt_tokens + 4


def test_forks_share_what_they_have_and_part(llm: LLM, session: Session) -> None:
    session.extend(STORY)
    free = llm.model.parts.cache.free_tokens
    forks = [session.fork() for _ in range(20)]
    assert llm.model.parts.cache.free_tokens == free
    assert all(fork.tokens is session.tokens for fork in forks)
    texts = [fork.generate(f" {word}", max_tokens=6, sampling=GREEDY) for fork, word in zip(forks, "abc", strict=False)]
    assert len({t.text for t in texts}) > 1
    for fork, word, done in zip(forks, "abc", texts, strict=False):
        assert done.usage.cached_tokens == len(session.tokens)
        ids = [*session.tokens, *llm.tokenizer.encode(f" {word}", continuation=True)]
        assert done.tokens == llm.generate(ids, max_tokens=6, sampling=GREEDY).tokens
        assert fork.tokens == (*ids, *done.tokens)
    assert len(session.tokens) == len(llm.prompt_ids(STORY))


def test_truncate_goes_back(session: Session) -> None:
    session.extend(STORY)
    n = len(session.tokens)
    first = session.generate(max_tokens=8, sampling=GREEDY)
    session.truncate(n)
    again = session.generate(max_tokens=8, sampling=GREEDY)
    assert again.tokens == first.tokens
    assert again.usage.cached_tokens == n - 1
    session.truncate(-3)
    assert len(session.tokens) == n + 5
    session.truncate(0)
    assert not session.tokens


def test_why_tells_of_texts_that_made_room(stories: Path) -> None:
    with LLM.load(stories, threads=1, n_ctx=128) as llm:
        session = llm.session()
        assert session.why == "nothing has been read yet"
        session.generate(STORY, max_tokens=3, sampling=GREEDY)
        assert session.why.startswith("none of the")
        assert "no text in it begins with the same token" in session.why
        read = len(session.tokens) - 1
        llm.generate([1, *range(300, 420)], max_tokens=3)
        done = session.generate(" Then", max_tokens=3, sampling=GREEDY)
        assert done.usage.cached_tokens < read
        assert f"what was read of it before, up to token {read}, had to make room" in session.why


def test_what_was_not_read_of_an_answer_is_not_in_the_session(llm: LLM, session: Session) -> None:
    stream = session.stream("Once upon a time", sampling=GREEDY)
    seen = [next(stream).token for _ in range(3)]
    assert session.tokens[-3:] == tuple(seen)
    n = len(session.tokens)
    other = session.generate(" Tom", max_tokens=2, sampling=GREEDY)
    assert session.tokens[:n] == (*llm.prompt_ids("Once upon a time"), *seen)
    assert session.tokens[-2:] == other.tokens


def test_a_session_for_coroutines(llm: LLM) -> None:
    async def run() -> list[str]:
        sessions = [llm.session() for _ in range(3)]
        done = await asyncio.gather(*(s.agenerate("Tom", max_tokens=5, sampling=GREEDY) for s in sessions))
        return [d.text for d in done]

    assert asyncio.run(run()) == [llm.generate("Tom", max_tokens=5, sampling=GREEDY).text] * 3


def test_a_shift_takes_tokens_from_the_session(stories: Path) -> None:
    with LLM.load(stories, threads=1, n_ctx=64) as llm:
        session = llm.session()
        done = session.generate("Once upon a time", max_tokens=150, sampling=GREEDY, overflow="shift", keep=4)
        assert len(done.tokens) == 150
        assert len(session.tokens) == 5 + 150 - done.usage.dropped_tokens <= 65
        assert session.tokens[:4] == tuple(llm.prompt_ids("Once upon a time")[:4])
        assert session.tokens[-20:] == done.tokens[-20:]


@pytest.fixture
def saved(llm: LLM, session: Session, tmp_path: Path) -> Path:
    session.extend(STORY + " They went home.")
    session.save(tmp_path / "a.session")
    return tmp_path / "a.session"


def test_a_saved_session_goes_on_elsewhere(llm: LLM, session: Session, saved: Path, stories: Path) -> None:
    want = session.fork().generate(max_tokens=20, sampling=GREEDY)
    with LLM.load(stories, threads=2, n_ctx=256) as other:
        loaded = other.session()
        loaded.load(saved)
        assert loaded.tokens == session.tokens
        assert loaded.n_past == len(session.tokens) // 32 * 32
        done = loaded.generate(max_tokens=20, sampling=GREEDY)
        assert done.tokens == want.tokens
        assert done.usage.cached_tokens == len(session.tokens) // 32 * 32
    with LLM.load(stories, threads=1, n_ctx=32) as tiny, pytest.raises(ContextOverflowError, match="raise n_ctx"):
        tiny.session().load(saved)
    assert hashlib.sha256(stories.read_bytes()).hexdigest().encode() in saved.read_bytes()


def test_a_session_longer_than_the_room_is_read_anew(session: Session, saved: Path, stories: Path) -> None:
    want = session.fork().generate(max_tokens=5, sampling=GREEDY)
    with LLM.load(stories, threads=1, n_ctx=64) as llm:
        busy = llm.session()
        stream = busy.stream([1, *range(300, 335)], sampling=GREEDY)
        next(stream)
        loaded = llm.session()
        loaded.load(saved)
        stream.cancel()
        assert loaded.generate(max_tokens=5, sampling=GREEDY).tokens == want.tokens


def test_a_session_belongs_to_the_rope_of_its_context(stories: Path, tmp_path: Path) -> None:
    """A longrope turns keys otherwise in a context beyond its original one."""
    path = tmp_path / "long.gguf"
    keys: dict[str, Any] = {"llama.rope.scaling.type": "longrope", "llama.rope.scaling.original_context_length": 64}
    with GGUFFile.open(stories) as file:
        tensors = [TensorData(n, i.format, i.shape, file.data(n)) for n, i in file.tensors.items()]
        for name, divisor in (("long", 4.0), ("short", 1.0)):
            numbers = np.full(4, divisor, np.float32)
            tensors.append(TensorData(f"rope_factors_{name}.weight", format_by_name("F32"), (4,), numbers))
        write_gguf(path, {**file.metadata, **keys}, tensors)
    saved = {}
    for n_ctx in (60, 64, 128):
        with LLM.load(path, threads=1, n_ctx=n_ctx) as llm:
            session = llm.session()
            session.extend([1, *range(300, 340)])
            saved[n_ctx] = tmp_path / f"{n_ctx}.session"
            session.save(saved[n_ctx])
    for n_ctx, fits, other in ((64, 60, 128), (256, 128, 64)):
        with LLM.load(path, threads=1, n_ctx=n_ctx) as llm:
            session = llm.session()
            with pytest.raises(SessionError, match=r"expected a session with rope (long|short), got (long|short); "):
                session.load(saved[other])
            session.load(saved[fits])
            assert session.generate(max_tokens=1).usage.cached_tokens >= 32


def test_sessions_of_other_models_and_settings_are_refused(llm: LLM, saved: Path, stories: Path) -> None:
    with (
        LLM.load(stories.with_name("stories260K-Q4_0.gguf"), threads=1) as other,
        pytest.raises(SessionError, match=r"expected a session with model .* load it with the model"),
    ):
        other.session().load(saved)
    with LLM.load(stories, threads=1, cache_type="f32") as other, pytest.raises(SessionError, match="pages of"):
        other.session().load(saved)
    with pytest.raises(SessionError, match=r"none\.session: no such file; check the path"):
        llm.session().load(saved.with_name("none.session"))
    with pytest.raises(SessionError, match="it is a folder"):
        llm.session().save(saved.parent)
    with pytest.raises(SessionError, match="cannot be written"):
        llm.session().save(saved.parent / "none" / "a.session")
    (saved.parent / "gguf").write_bytes(stories.read_bytes()[:5000])
    with pytest.raises(SessionError, match="expected a session, got b'GGUF"):
        llm.session().load(saved.parent / "gguf")


def with_header(data: bytes, **changes: object) -> bytes:
    """The file with another header, and the checksum put right."""
    magic, _, length = struct.unpack_from("<15sII", data)
    header = json.dumps({**json.loads(data[23 : 23 + length]), **changes}).encode()
    body = struct.pack("<15sII", magic, 1, len(header)) + header + data[23 + length : -32]
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 2**40}, "do not make its"),
        ({"tokens": -1}, "counts of tokens"),
        ({"tokens": True}, "counts of tokens"),
        ({"shape": [1, 2]}, "counts of tokens"),
        ({"shape": [10**9, 10**9, 10**9]}, "do not make its"),
        ({"shape": None}, "counts of tokens"),
        ({"model": "0" * 64}, "expected a session with model"),
        ({"cache": "q8_0"}, "expected a session with cache f16, got q8_0"),
        ({"numerics": "fast"}, "expected a session with numerics exact, got fast"),
    ],
)
def test_headers_are_not_believed(llm: LLM, saved: Path, changes: dict[str, object], message: str) -> None:
    saved.write_bytes(with_header(saved.read_bytes(), **changes))
    with pytest.raises(SessionError, match=message):
        llm.session().load(saved)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1), st.integers(0, 255), st.booleans())
def test_damaged_files_are_refused(llm: LLM, saved: Path, place: float, byte: int, cut: bool) -> None:
    data = bytearray(saved.read_bytes())
    at = min(int(place * len(data)), len(data) - 1)
    if cut:
        del data[at:]
    elif data[at] == byte:
        return
    else:
        data[at] = byte
    damaged = saved.with_name("damaged.session")
    damaged.write_bytes(data)
    session = llm.session()
    with pytest.raises(SessionError):
        session.load(damaged)
    assert not session.tokens


def test_what_is_no_regular_file_is_no_session(llm: LLM, saved: Path) -> None:
    os.mkfifo(pipe := saved.with_name("pipe"))
    with pytest.raises(SessionError, match="expected a file, got a pipe or device"):
        llm.session().load(pipe)
    with pytest.raises(SessionError, match="nobody reads the pipe"):
        llm.session().save(pipe)
    with pytest.raises(SessionError, match="expected a file, got a folder"):
        llm.session().load(saved.parent)
    link = saved.with_name("link")
    link.symlink_to(saved)
    session = llm.session()
    session.load(link)
    session.truncate(5)
    session.save(link)
    assert link.is_symlink()
    again = llm.session()
    again.load(saved)
    assert again.tokens == session.tokens


def test_a_session_is_read_as_far_as_it_is_believed(llm: LLM, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 4 GiB, all holes: refused by their first bytes."""
    read = []
    monkeypatch.setattr(session_file, "_read", lambda *args: read.append(args[2]) or _read(*args))  # type: ignore[func-returns-value]
    ((_, layers, size),) = llm.model.scheduler.room.page_shapes(0)
    pages = (1 << 32) // (layers * size)
    for header, error in (
        (b'{"tokens": 5, "shape": [0, 1, 1]}', SessionError),
        (b"[" * 60_000, SessionError),
        (b"{", SessionError),
    ):
        saved.write_bytes(struct.pack("<15sII", b"llamaq session\n", 1, len(header)) + header)
        os.truncate(saved, 1 << 32)
        with pytest.raises(error):
            llm.session().load(saved)
    saved.write_bytes(struct.pack("<15sII", b"llamaq session\n", 1, 1 << 31))
    os.truncate(saved, 1 << 32)
    with pytest.raises(SessionError, match="a header of at most 65536 bytes, got 2147483648"):
        llm.session().load(saved)
    parts = llm.model.parts
    identity = {"model": parts.sha256, "cache": "f16", "numerics": "exact"}
    header = json.dumps({**identity, "tokens": 32 * pages, "shape": [pages, layers, size]}).encode()
    saved.write_bytes(struct.pack("<15sII", b"llamaq session\n", 1, len(header)) + header)
    os.truncate(saved, 23 + len(header) + 4 * 32 * pages + pages * layers * size + 32)
    with pytest.raises(ContextOverflowError):
        llm.session().load(saved)
    assert max(read) <= 65536


def test_tokens_that_the_model_does_not_have_are_refused(llm: LLM, saved: Path) -> None:
    data = saved.read_bytes()
    start = 23 + struct.unpack_from("<15sII", data)[2]
    for token in (512, -1):
        body = data[:start] + struct.pack("<i", token) + data[start + 4 : -32]
        saved.write_bytes(body + hashlib.sha256(body).digest())
        with pytest.raises(SessionError, match="expected tokens below 512"):
            llm.session().load(saved)
