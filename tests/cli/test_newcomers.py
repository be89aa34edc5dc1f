"""What people type first who come from ollama, llama.cpp, llama-cpp-python and LM Studio: each line does what it did
there, or says what does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from command import Command
from gguf_files import copy_with
from llamaq import LLM, SamplingParams
from llamaq.compat.llama_cpp import Llama, LlamaGrammar, LlamaRAMCache
from llamaq.structure import gbnf, json_object
from model_places import Places

QUICK = ("-n", "4", "-t", "1", "-s", "1")
OLLAMA = [
    ("run llama3.2 'Why is the sky blue?'", 0, ""),
    ("run llama3.2 'Why is the sky blue?' --verbose", 0, "generation"),
    ("run llama3.2 --keepalive 5m --insecure 'Why is the sky blue?'", 0, "--keepalive, --insecure change nothing"),
    ("run llama3.2 --nowordwrap 'Why is the sky blue?'", 0, ""),
    ("run llama3.2 --format json 'A river'", 2, "-j '{}'"),
    ("run llama3.2 --think=false 'A river'", 2, "enable_thinking"),
    ("run mistral", 1, "there is no model 'mistral' here. Ways to get one: llamaq pull hf:"),
    ("run llama3.1", 1, "did you mean llama3.2:latest?"),
    ("list", 0, "llama3.2:latest"),
    ("ls", 0, "llama3.2:latest"),
    ("show llama3.2", 0, "architecture llama"),
    ("ps", 1, "'llamaq serve' starts one"),
    ("pull llama3.2", 1, "What 'ollama pull' and LM Studio bring, llamaq finds by its name"),
    ("rm llama3.2", 1, "ollama rm llama3.2:latest"),
    ("stop llama3.2", 2, "--sleep-idle-seconds"),
    ("create mario -f ./Modelfile", 2, "options of 'llamaq run'"),
    ("cp llama3.2 mine", 2, "--alias NAME"),
    ("push me/mine", 2, "sends nothing away"),
    ("signin", 2, "HF_TOKEN"),
    ("llama3.2", 2, "for a chat with the model: llamaq run llama3.2"),
    ("remove llama3.2", 2, "'llamaq rm NAME' does it"),
    ("run llama3.2 'A river' --num-predict 5", 2, "there is no option --num-predict; it is -n here"),
    ("run ./empty 'A river'", 1, "got a folder without one"),
    ("run empty 'A river'", 1, "empty: expected a GGUF file, got a folder without one; give a file"),
    ("run llama3.2 what is this", 2, "too many arguments: is this; quotes make one of a text"),
    ("run llama3.2 'A river' --top-p 2", 1, "--top-p must be a number from 0 to 1, got 2.0"),
    ("run llama3.2 'A river' -f text.txt", 2, "the prompt is given twice"),
    ("run text.txt 'A river'", 1, "expected the magic b'GGUF' of a GGUF file, got b'Once upo'"),
    ("help run", 0, "usage: llamaq run"),
    ("--version", 0, "llamaq "),
]
LLAMA_CPP = [
    ("run -m MODEL -p 'Once upon' -ngl 99 -fa on --no-warmup --jinja -no-cnv", 0, "-ngl, -fa, --no-warmup, --jinja"),
    ("run -m MODEL -p 'Once upon' --no-mmap --mlock -tb 2 -ub 512 --verbose-prompt", 0, "change nothing here"),
    ("run -m MODEL -p 'Once upon' --temp 0 --top-k 40 --repeat-penalty 1.1 --mirostat 2 --ignore-eos", 0, ""),
    ("run -m MODEL -p 'Once upon' -ctk f32 -ctv f32 --numa distribute --no-show-timings", 0, "--numa, --no-show"),
    ("run -m MODEL -p hi -ngl", 2, "argument -ngl: expected"),
    ("run -m MODEL -p hi -nlg 9", 2, "there is no option -nlg; did you mean -ngl?"),
    ("run -m MODEL -p hi --tmep 1", 2, "did you mean --temp?"),
    ("run -m MODEL -p hi --rpc host:1", 2, "--rpc cannot be honoured"),
    ("run -m MODEL -p hi --rope-scaling yarn", 2, "--rope-scaling cannot be honoured"),
    ("run -m MODEL -i", 2, "-i cannot be honoured: a terminal gets a chat"),
    ("-m MODEL -p hi", 2, "options come after a command: llamaq run -m"),
    ("MODEL", 2, "for a chat with the model: llamaq run"),
    ("server -m MODEL", 2, "'llamaq serve MODEL'"),
    ("llama-server -m MODEL", 2, "'llamaq serve MODEL'"),
    ("llama-cli -m MODEL", 2, "'llamaq run' does it"),
    ("llama-bench -m MODEL", 2, "did you mean bench?"),
    ("embedding -m MODEL -p hi", 2, "'llamaq serve MODEL' answers /v1/embeddings"),
    ("run -m MODEL -p hi --max-tokens 5", 2, "there is no option --max-tokens; it is -n here"),
    ("run -m MODEL -p hi --n-ctx 5", 2, "there is no option --n-ctx; it is -c here"),
    ("quantize MODEL", 2, "expected IN.gguf [OUT.gguf] TYPE [NTHREADS]"),
    ("quantize MODEL out.gguf Q4_0", 1, "--allow-requantize, at some loss"),
    ("perplexity -m MODEL", 2, "name a file with -f"),
    ("convert text.txt out.gguf", 1, "text.txt: expected a folder or a safetensors file, got another"),
    ("run -m missing.gguf -p hi", 1, "missing.gguf: no such file"),
    ("tokenize -m MODEL -p 'Once upon'", 0, "403 407\n"),
    ("tokenize -m MODEL 'Once upon'", 0, "403 407\n"),
    ("tokenize -m MODEL a -p b", 2, "more than one TEXT"),
    ("tokenize -p 'Once upon'", 2, "no model is given"),
    ("quantize --allow-requantize MODEL out.gguf Q4_0 1", 0, "out.gguf: written"),
    ("quantize MODEL out.gguf Q9_K", 1, "unknown quantization type 'Q9_K'"),
    ("bench -m MODEL -p 8 -n 4 -r 1 -t 1", 0, "pp8"),
    ("perplexity -m MODEL -f text.txt -c 64 --chunks 1 -t 1", 0, "PPL"),
    ("split --split-max-size 200K MODEL part", 0, "part-00001-of-"),
]
LM_STUDIO = [
    ("ls", 0, "acme/Tiny-GGUF"),
    ("list", 0, "LM Studio"),
    ("run acme/Tiny-GGUF 'Once upon'", 0, ""),
    ("run acme/tiny-gguf:q8_0 'Once upon'", 0, ""),
    ("run tiny 'Once upon'", 0, "tiny is acme/Tiny-GGUF:Q8_0 (LM Studio)"),
    ("show acme/Tiny-GGUF", 0, "architecture llama"),
    ("where acme/Tiny-GGUF", 0, "Tiny-Q8_0.gguf"),
    ("rm acme/Tiny-GGUF", 1, "delete it in LM Studio"),
    ("get llama-3.2-1b", 2, "'llamaq pull hf:user/repo:QUANT' fetches a model"),
    ("load acme/Tiny-GGUF", 2, "'llamaq run MODEL' and 'llamaq serve MODEL'"),
    ("unload --all", 2, "--sleep-idle-seconds"),
    ("server start", 2, "'llamaq serve MODEL' starts one"),
    ("server status", 2, "'llamaq serve MODEL' starts one"),
    ("status", 2, "'llamaq ps'"),
    ("import model.gguf", 2, "'llamaq run FILE'"),
    ("ps", 1, "no server answers"),
]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stories: Path) -> Places:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLAMA_ARG_PORT", "1")  # nobody answers there
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("Once upon a time there was a little girl. " * 20)
    return Places(tmp_path / "home", monkeypatch, stories.read_bytes())


@pytest.fixture
def command(places: Places, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsysbinary, monkeypatch)


def typed(command: Command, line: str, model: Path | None = None) -> tuple[int, str]:
    """The exit code of a line, and all that was shown."""
    words = [str(model) if word == "MODEL" else word for word in shlex.split(line)]
    done = command(*words, *(QUICK if words[0] == "run" else ()))
    assert "Traceback" not in done.err
    assert "bug in llamaq" not in done.err
    assert "\n" not in done.err.strip() or done.code == 0, done.err  # an error is a line
    return done.code, done.out.decode() + done.err


@pytest.mark.parametrize(("line", "code", "shown"), OLLAMA)
def test_from_ollama(command: Command, places: Places, line: str, code: int, shown: str) -> None:
    places.ollama()
    found = typed(command, line)
    assert (found[0], shown in found[1]) == (code, True), found


def test_a_pipe_from_ollama(command: Command, places: Places) -> None:
    places.ollama()
    piped = command("run", "llama3.2", "Sum up", *QUICK, stdin=b"Once upon a time")
    assert piped.out == command("run", "llama3.2", "-p", "Sum up\nOnce upon a time", *QUICK).out


@pytest.mark.parametrize(("line", "code", "shown"), LLAMA_CPP)
def test_from_llama_cpp(command: Command, stories: Path, line: str, code: int, shown: str) -> None:
    found = typed(command, line, stories)
    assert (found[0], shown in found[1]) == (code, True), found


@pytest.mark.parametrize(("line", "code", "shown"), LM_STUDIO)
def test_from_lm_studio(command: Command, places: Places, line: str, code: int, shown: str) -> None:
    places.lm_studio("acme/Tiny-GGUF/Tiny-Q8_0.gguf")
    found = typed(command, line)
    assert (found[0], shown in found[1]) == (code, True), found


def test_the_table_from_llama_cpp_python_holds(stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each expression of its left column works with the drop-in, each of the right one with llamaq's own classes."""
    page = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text(encoding="utf-8")
    section = page.partition("## From llama-cpp-python")[2].partition("## From LM Studio")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", section, re.MULTILINE)
    assert len(rows) > 15
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    copy_with({"tokenizer.chat_template": template}, stories, tmp_path / "model.gguf")
    monkeypatch.chdir(tmp_path)
    said = [{"role": "user", "content": "Hello"}]
    names: dict[str, object] = {
        "messages": said, "texts": ["a", "b"], "ids": [1, 2], "text": 'root ::= "a"', "LLM": LLM, "Llama": Llama,
        "SamplingParams": SamplingParams, "LlamaGrammar": LlamaGrammar, "LlamaRAMCache": LlamaRAMCache,
        "gbnf": gbnf, "json_object": json_object,
    }  # fmt: skip
    done = 0
    with (
        LLM.load("model.gguf", n_ctx=64, threads=1) as ours,
        Llama("model.gguf", n_ctx=64, n_threads=1, embedding=True, chat_format="chatml", verbose=False) as theirs,
    ):
        for left, right in rows:
            for cell, llm in ((left, theirs), (right, ours)):
                for code in re.findall(r"`((?:llm|LLM|Llama|SamplingParams|set_cache)\b[^`]*\))`", cell):
                    if "..." not in code and "from_pretrained" not in code:
                        eval(code, {**names, "llm": llm, "set_cache": theirs.set_cache})
                        done += 1
    assert done > 18
