"""A process that is forked from one with a loaded model: it cannot use that model, and can load one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import gc, os, sys, threading
from llamaq import LLM, SamplingParams
from llamaq.errors import ClosedError

path, what = sys.argv[1:]
options = {"max_tokens": 5, "sampling": SamplingParams(seed=1)}
llm = LLM.load(path, threads=2, n_ctx=64)
want = llm.generate("Once", **options).tokens
stream, session = llm.stream("Tom and", max_tokens=40), llm.session()
next(stream)
busy = threading.Thread(target=lambda: [llm.generate("Lily", max_tokens=50) for _ in range(20)])
if what == "busy":  # the loop runs, and may hold the lock, while the process is forked
    busy.start()
pid = os.fork()
if pid == 0:
    for use in (
        lambda: llm.generate("Once", max_tokens=5),
        lambda: llm.score("Once"),
        lambda: llm.embed("Once"),
        lambda: list(stream),
        lambda: session.generate("Once"),
        lambda: session.save("never"),
        lambda: llm.logits("Once"),
    ):
        try:
            use()
        except ClosedError as error:
            assert "load it in this process" in str(error), error
        else:
            os._exit(7)
    if what != "drop":
        llm.close()
    own = LLM.load(path, threads=2, n_ctx=64)
    assert own.generate("Once", **options).tokens == want
    own.close()
    del llm, stream, session, use
    gc.collect()
    os._exit(0)
_, status = os.waitpid(pid, 0)
if what == "busy":
    busy.join()
assert llm.generate("Once", **options).tokens == want  # the parent goes on
llm.close()
print("child", status)
"""


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("what", ["close", "drop", "busy"])
def test_a_forked_child_refuses_the_model_and_loads_its_own(stories: Path, tmp_path: Path, what: str) -> None:
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, str(stories), what]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "child 0\n"), done.stderr
    assert not list(tmp_path.iterdir())


HELD = """
import faulthandler, os, sys, threading
from llamaq import LLM, SamplingParams
from llamaq.structure import engine, regex, vocabulary

with LLM.load(sys.argv[1], threads=1, n_ctx=64) as llm:
    sampling = SamplingParams(structure=regex("[a-z]{3}"), seed=1)
    want = llm.generate("Once", max_tokens=9, sampling=sampling).tokens
    locks = [engine._starting, vocabulary._lock, vocabulary.vocabulary_of(llm.tokenizer)._lock]
    held, over = threading.Event(), threading.Event()

    def hold():
        with locks[0], locks[1], locks[2]:
            held.set()
            over.wait()

    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(30, exit=True)
        vocabulary.vocabulary_of(llm.tokenizer).matcher(regex("[a-z]{4}"))
        with LLM.load(sys.argv[1], threads=1, n_ctx=64) as own:
            os._exit(own.generate("Once", max_tokens=9, sampling=sampling).tokens != want)
    print("child", os.waitpid(pid, 0)[1])
    over.set()
"""


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_forked_while_a_structure_is_compiled_compiles_its_own(stories: Path) -> None:
    program = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", HELD, str(stories)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "child 0\n"), done.stderr
