"""Calls as people write them by mistake, or as another library has them: the answer is in their words."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import llamaq
from llamaq import LLM, GGUFFile, SamplingParams, Session
from llamaq.chat.options import ChatOptions, PromptOptions
from llamaq.llm import calls, habits
from llamaq.serving import said
from llamaq.serving.model import Model
from llamaq.serving.stream import Options

HELLO = '[{"role": "user", "content": "Hello"}]'
SLIPS = [
    # settings of sampling are one object
    ("llm.generate('x', temperature=0)", "no argument 'temperature'; .*: sampling=SamplingParams(temperature=0)"),
    ("llm.generate('x', temp=0)", "no argument 'temp'; .*: sampling=SamplingParams(temperature=0)"),
    ("llm.batch(['x'], top_k=1)", "LLM.batch has no argument 'top_k'; .*: sampling=SamplingParams(top_k=1)"),
    (f"llm.chat({HELLO}, seed=1)", "LLM.chat has no argument 'seed'; .*: sampling=SamplingParams(seed=1)"),
    ("llm.infill('a', 'b', top_p=1)", "LLM.infill has no argument 'top_p'; .*: sampling=SamplingParams(top_p=1)"),
    ("llm.session().generate('x', min_p=0)", "Session.generate has no argument 'min_p'; .*SamplingParams(min_p=0)"),
    ("llm.generate('x', sampling={'top_k': 1})", "sampling must be a SamplingParams, such as .*, got {'top_k': 1}"),
    ("llm.generate('x', sampling=0.5)", "sampling must be a SamplingParams, such as .*, got 0.5"),
    ("llm.batch(['x'], samplings=[{}])", "each of samplings must be a SamplingParams, such as .*, got {}"),
    ("llm.batch(['x'], samplings=SamplingParams())", "samplings must be a list of SamplingParams, got "),
    # names
    ("llm.generate('x', temperatur=0)", "no argument 'temperatur'; did you mean sampling=SamplingParams(temperature=0"),
    ("llm.generate('x', max_token=5)", "LLM.generate has no argument 'max_token'; did you mean max_tokens?"),
    ("llm.generate('x', n_predict=5)", "no argument 'n_predict'; it is max_tokens here"),
    ("llm.generate('x', max_new_tokens=5)", "no argument 'max_new_tokens'; it is max_tokens here"),
    ("llm.generate('x', stream=True)", "no argument 'stream'; LLM.stream gives the events as they come"),
    ("llm.generate('x', n_ctx=5)", "no argument 'n_ctx'; it is an argument of LLM.load: n_ctx=5"),
    ("llm.generate(messages=[])", "no argument 'messages'; LLM.chat takes messages"),
    (f"llm.chat({HELLO}, system='Be')", 'no argument \'system\'; the first of the messages may be {"role": "system"'),
    (f"llm.chat({HELLO}, response_format={{}})", "sampling=SamplingParams(structure=json_object()), from llamaq"),
    ("llm.generate('x', grammar='x')", "no argument 'grammar'; sampling=SamplingParams(structure=gbnf(text))"),
    ("LLM.load('m.gguf', chat_format='chatml')", "no argument 'chat_format'; it is an option of LLM.chat: template="),
    ("LLM.load('m.gguf', verbose=False)", "no argument 'verbose'; nothing is printed; logging.getLogger"),
    ("llm.embed('x', max_tokens=1)", "LLM.embed has no argument 'max_tokens'; it is an option of LLM.generate"),
    ("llm.tokenize('x', add_bos=True)", "LLM.tokenize has no argument 'add_bos'; it takes text, add_special, parse_"),
    ("llm.session(1)", "LLM.session takes nothing by place, got 1 more"),
    ("llm.generate('x', 5)", "LLM.generate takes prompt by place, got 1 more; give the rest by name: max_tokens=, "),
    ("llm.infill('a', 'b', 'c')", "LLM.infill takes prefix and suffix by place, got 1 more; give the rest by name"),
    # loading
    ("LLM('m.gguf')", 'LLM.load makes an LLM: LLM.load("model.gguf")'),
    ("LLM()", "LLM.load makes an LLM"),
    ("LLM(model_path='m.gguf')", "LLM.load makes an LLM"),
    ("LLM.load(model_path='m.gguf')", "LLM.load has no argument 'model_path'; it is path here"),
    ("LLM.load('m.gguf', 512)", "LLM.load takes path by place, got 1 more; give the rest by name: n_ctx=, "),
    ("LLM.load('m.gguf', n_gpu_layers=1)", "no argument 'n_gpu_layers'; llamaq runs on CPUs alone"),
    ("LLM.load('m.gguf', n_threads=1)", "no argument 'n_threads'; it is threads here"),
    ("LLM.load('m.gguf', n_ctx='512')", "n_ctx must be a whole number from 0 to 2147483647, got '512'"),
    ("LLM.load('m.gguf', n_ctx=5.5)", "n_ctx must be a whole number from 0 to 2147483647, got 5.5"),
    ("LLM.load('m.gguf', threads='2')", "threads must be a whole number from 0 to 1024, got '2'"),
    ("LLM.load('m.gguf', cache_type='q4')", "cache_type must be 'f16', 'f32', 'q8_0' or 'q4_0', got 'q4'"),
    ("LLM.load('m.gguf', progress=True)", "progress must be a function, got True"),
    ("LLM.load(5)", "path must be a path, got 5"),
    ("Session('x')", "model must be that of an LLM, whose method session() makes a Session, got 'x'"),
    ("GGUFFile('m.gguf')", 'GGUFFile.open opens a file: GGUFFile.open("model.gguf")'),
    # other libraries
    ("llm('x', max_tokens=5)", "an LLM is not called: llm.generate(prompt) .*, llm.stream(prompt) .*llama_cpp.Llama"),
    (f"llm.create_chat_completion({HELLO})", "no attribute 'create_chat_completion'; llm.chat(messages)"),
    ("llm.create_completion('x')", "no attribute 'create_completion'; llm.generate(prompt)"),
    ("llm.create_embedding('x')", "no attribute 'create_embedding'; llm.embed(texts)"),
    ("llm.nothing", "'LLM' object has no attribute 'nothing'"),
    ("done.choices[0].text", "no attribute 'choices'; this is one answer, and its text is .text .*llama_cpp.Llama"),
    ("done['choices'][0]['text']", "'Completion' object is no dict, nor a list; this is one answer, .*.text"),
    ("done.message.content", "no attribute 'message'; its text is .text; what llm.chat gives has a .message"),
    ("done.response", "no attribute 'response'; its text is .text"),
    ("done.nothing", "'Completion' object has no attribute 'nothing'"),
    ("told.choices[0].message", "'ChatCompletion' object has no attribute 'choices'; this is one answer"),
    ("told['message']['content']", "'ChatCompletion' object is no dict, nor a list; .*.text"),
    ("llamaq.Llama('m.gguf')", "'llamaq' has no attribute 'Llama'; from llamaq.compat.llama_cpp import Llama gives"),
    ("llamaq.load('m.gguf')", "no attribute 'load'; llamaq.LLM.load(\"model.gguf\") loads a model"),
    ("llamaq.nothing", "module 'llamaq' has no attribute 'nothing'"),
    # texts
    ("llm.generate(['a', 'b'])", "prompt must be one text, or its token ids, got ['a', 'b']; LLM.batch takes several"),
    (f"llm.generate({HELLO})", "prompt must be one text, or its token ids, .*; LLM.chat takes messages"),
    ("llm.generate({'role': 'user', 'content': 'x'})", "prompt must be one text, .*; LLM.chat takes messages"),
    ("llm.generate(5)", "prompt must be a list of token ids, or text, got 5"),
    ("llm.generate(None)", "prompt must be a list of token ids, or text, got None"),
    ("llm.stream(['a'])", "prompt must be one text"),
    ("llm.score('x', prompt=['a'])", "prompt must be one text"),
    ("llm.score(['x'])", "text must be one text"),
    ("llm.logits(['x'])", "tokens must be one text"),
    ("llm.forward(7)", "text must be a list of token ids, or text, got 7"),
    ("llm.batch('abc')", "prompts must be a list of texts, got 'abc'"),
    ("llm.batch(5)", "prompts must be a list of texts, got 5"),
    ("llm.batch([1, 2])", "each of prompts must be a list of token ids, or text, got 1"),
    ("llm.batch([['a'], ['b']])", "each of prompts must be one text"),
    ("llm.embed(5)", "texts must be a list of texts, got 5"),
    ("llm.embed([['a']])", "each of texts must be one text"),
    ("llm.tokenize(5)", "text must be text or bytes, got 5"),
    ("llm.tokenize(['a', 'b'])", "text must be text or bytes, got ['a', 'b']"),
    ("llm.detokenize('abc')", "tokens must be a list of token ids, got 'abc'"),
    ("llm.detokenize([1.5])", "each of tokens must be a whole number, got 1.5"),
    ("llm.session().extend(['a'])", "text must be one text"),
    ("llm.session().truncate('a')", "n must be a whole number, got 'a'"),
    ("llm.session().save(5)", "path must be a path, got 5"),
    ("llm.chat([], template='chatml')", 'messages must hold one at least, such as [{"role": "user"'),
    ("llm.chat('hi', template='chatml')", "messages must be a list, such as"),
    ("llm.chat(['hi'], template='chatml')", 'message 0: expected a dict with a "role" and "content", got \'hi\''),
    ("llamaq.moderate('m.gguf', [])", "llm must be an LLM, got 'm.gguf'"),
    ("llamaq.moderate(llm, [], template='chatml')", "messages must hold one at least"),
    # numbers
    ("llm.generate('x', max_tokens='5')", "max_tokens must be a whole number of at least 0, got '5'"),
    ("llm.generate('x', max_tokens=-1)", "at least 0, or None for as many as fit; got -1"),
    ("llm.generate('x', json_schema={})", "sampling=SamplingParams(structure=json_schema(schema)), from llamaq"),
    ("LLM.from_pretrained('smollm2')", "repo must be user/repo of the Hugging Face hub, got 'smollm2'; LLM.load takes"),
    ("llm.generate('x', max_tokens=2.5)", "max_tokens must be a whole number of at least 0, got 2.5"),
    ("llm.generate('x', stop=5)", "stop must be a list of texts, got 5"),
    ("llm.score('x', top_logprobs='3')", "top_logprobs must be a whole number"),
    ("llm.embed('x', pooling='max')", "pooling must be 'mean', 'cls' or 'last', got 'max'"),
    ("SamplingParams(top_k=3.5)", "top_k must be a whole number from 0 to 2147483647, got 3.5"),
    ("SamplingParams(temperature='0')", "temperature must be a number from -1e+30 to 1e+30, got '0'"),
    ("SamplingParams(0.5)", "SamplingParams takes nothing by place, got 1 more; .*: temperature=, "),
    ("SamplingParams(temp=0)", "SamplingParams has no argument 'temp'; it is temperature here"),
    ("SamplingParams(topk=1)", "SamplingParams has no argument 'topk'; did you mean top_k?"),
    ("SamplingParams(max_tokens=1)", "no argument 'max_tokens'; it is an option of LLM.generate, .*: max_tokens=1"),
    ("SamplingParams(json_schema={})", "no argument 'json_schema'; llamaq.structure makes what structure takes"),
    ("SamplingParams(structure={})", "structure must be what llamaq.structure makes, .*, got {}"),
    ("SamplingParams(logit_bias=[(1, 2)])", "logit_bias must be a dict of token ids and .*, got [(1, 2)]"),
    ("SamplingParams(logit_bias={'a': 1})", "each id of logit_bias must be a whole number from 0"),
    ("SamplingParams(samplers='topk')", "samplers: there is no sampler 'o' (the letters of 'topk')"),
    ("llm.generate('x', sampling=SamplingParams(logit_bias={9999: 1}))", "logit_bias has token 9999, but .* 0 to 511"),
    # quantizing
    ("llamaq.quantize(model, 'o.gguf', 'Q8_0', output_tensor_type='foo')", "output_tensor_type: unknown format 'foo'"),
    ("llamaq.quantize(model, 'o.gguf', 'Q8_0', tensor_types={'a': 'foo'})", "tensor_types: unknown format 'foo'"),
    ("llamaq.quantize(model, 'o.gguf', 'Q8_0', imatrx='x')", "has no argument 'imatrx'; did you mean imatrix?"),
    ("llamaq.quantize(5, 'o.gguf', 'Q8_0')", "source must be a path, got 5"),
]  # fmt: skip


@pytest.fixture(scope="module")
def llm(stories: Path) -> Iterator[LLM]:
    with LLM.load(stories, threads=1, n_ctx=64) as llm:
        yield llm


@pytest.mark.parametrize(("call", "answer"), SLIPS, ids=[call for call, _ in SLIPS])
def test_a_slip_is_answered_in_the_callers_words(
    llm: LLM, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, answer: str
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"LLM": LLM, "Session": Session, "SamplingParams": SamplingParams, "GGUFFile": GGUFFile}
    if call.startswith(("done", "told")):
        hello: Any = [{"role": "user", "content": "Hello"}]
        names |= {"done": llm.generate("x", max_tokens=1), "told": llm.chat(hello, template="chatml", max_tokens=1)}
    with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
        eval(call, {**names, "llm": llm, "llamaq": llamaq, "model": stories})
    said = str(caught.value)
    at = 0
    for part in answer.split(".*"):
        assert part in said[at:], said
        at = said.index(part, at) + len(part)
    assert "__" not in said
    assert "Model." not in said
    assert not list(tmp_path.iterdir())


def test_what_is_there_instead_of_others_methods_is_there(llm: LLM) -> None:
    for name, advice in habits._HERE.items():
        assert not hasattr(llm, name)
        for path in re.findall(r"llm\.([\w.]+)", advice):
            functools.reduce(getattr, path.split("."), llm)  # this raises where there is none
    done = llm.generate("x", max_tokens=1)
    for thing, table in ((done, said._HERE), (llamaq, llamaq._HERE)):
        assert not [name for name in table if hasattr(thing, name)]


def test_an_answer_is_printed_as_its_text(llm: LLM) -> None:
    done = llm.generate("One day", max_tokens=8)
    told = llm.chat([{"role": "user", "content": "Hello"}], template="chatml", max_tokens=8)
    for each in (done, told):
        assert each.text
        assert (str(each), f"{each}", f"{each!r:.15}") == (each.text, each.text, repr(each)[:15])
        assert f"text={each.text!r}" in repr(each) or f"content={each.text!r}" in repr(each)
    assert str(done.tokens[-1]) not in repr(done).replace(repr(done.usage), "").replace(repr(done.text), "")
    assert pickle.loads(pickle.dumps(done)) == done
    assert copy.copy(told) == told


def test_what_is_imported_by_another_librarys_name_is_answered() -> None:
    """Python's own sentence for such an import has no advice."""
    for name in ("Llama", "AutoModelForCausalLM"):
        with pytest.raises(ImportError, match=re.escape(llamaq._HERE[name])):
            exec(f"from llamaq import {name}")
        assert not hasattr(llamaq, name)
    with pytest.raises(ImportError, match="cannot import name 'Nothing' from 'llamaq'"):
        exec("from llamaq import Nothing")
    exec("from llamaq import errors, chat, LLM")


def methods() -> Iterator[tuple[str, Any]]:
    for kind in (LLM, Session):
        for name, member in inspect.getmembers(kind):
            if callable(member) and not name.startswith("_"):
                yield f"{kind.__name__}.{name}", member


def test_every_public_method_tells_what_it_takes() -> None:
    found = dict(methods())
    assert len(found) > 30
    for called, method in found.items():
        for places, given, message in (
            (1, {"no_such": 1}, f"{called} has no argument 'no_such'"),
            (9, {}, f"{called} takes "),
        ):
            call = functools.partial(method, *[None] * (places - called.endswith(".load")), **given)
            with pytest.raises(TypeError, match=message):
                asyncio.run(call()) if inspect.iscoroutinefunction(method) else call()


def test_help_shows_options_and_their_defaults() -> None:
    defaults = {name: one.default for name, one in inspect.signature(Model.prepare).parameters.items()}
    for called, method in methods():
        shown = inspect.signature(method).parameters
        assert not [one for one in shown.values() if one.kind is one.VAR_KEYWORD], called
        if "max_tokens" in shown:
            assert {name: shown[name].default for name in Options.__annotations__} == {
                name: defaults[name] for name in Options.__annotations__
            }
    for method, names in ((LLM.chat, ChatOptions.__annotations__), (LLM.render_chat, PromptOptions.__annotations__)):
        assert set(names) - {"messages"} == inspect.signature(method).parameters.keys() - {"self", "messages", "stream"}
    assert inspect.iscoroutinefunction(LLM.agenerate)
    assert not inspect.iscoroutinefunction(LLM.generate)


def test_what_an_object_is_can_be_seen(stories: Path) -> None:
    llm = LLM.load(stories, threads=1, n_ctx=64)
    session = llm.session()
    assert repr(llm) == "<LLM 'stories260K': llama, a context of 64 tokens>"
    assert repr(session) == "<Session of 0 tokens>"
    assert repr(llm.tokenizer) == "<SentencePieceTokenizer of 512 tokens>"
    llm.close()
    assert repr(llm) == "<LLM (closed)>"


def test_options_that_are_handed_on_to_load_are_known() -> None:
    @calls.public
    class Kind:
        @classmethod
        def load(cls, path: str, *, n_ctx: int = 7) -> int:
            return n_ctx

        @classmethod
        def fetch(cls, repo: str, **options: Any) -> int:
            return cls.load(repo, **options)

    assert (Kind.fetch("x", n_ctx=3), Kind.fetch("x")) == (3, 7)
    assert inspect.signature(Kind.fetch).parameters["n_ctx"].default == 7
    with pytest.raises(TypeError, match=r"Kind.fetch has no argument 'n_threads'; it is an argument of LLM.load"):
        Kind.fetch("x", n_threads=1)
