"""Calls that must come: whatever a model would rather write, it writes a call in its own format."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigrams import bigram_file
from llamaq import LLM, SamplingParams
from llamaq.chat import ChatMessage, ChatRequest, chat_request
from llamaq.chat.holding import held_to
from llamaq.chat.tools import TOOL_FORMATS
from llamaq.errors import ChatTemplateError, StructureError
from llamaq.gguf import GGUFFile
from llamaq.serving.answer import Event
from llamaq.structure import Matcher, Structure, json_schema, mark_id, regex
from llamaq.tokenizer import Tokenizer, load_tokenizer
from templates import GEMMA4
from tool_templates import FORMATS, MARKS, PLAIN, SOURCES, WRITTEN, source_of

ASKED = ChatMessage("user", "Weather?")


def tool(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}


DAYS = {"type": "integer", "minimum": 1, "maximum": 9}
WEATHER = tool(
    "weather", type="object", required=["city", "days"],
    properties={"city": {"type": "string", "enum": ["Rome", 'O "x"']}, "days": DAYS, "detail": {"$ref": "#/$defs/yes"}},
    **{"$defs": {"yes": {"type": "boolean"}}},
)  # fmt: skip
NOW = tool("now", type="object", properties={})
TOOLS = [WEATHER, NOW]
NUMBER = json_schema({"type": "object", "properties": {"n": DAYS}, "required": ["n"]})


@pytest.fixture(scope="module", params=["spelled", "marks"])
def tokenizer(request: Any, shared: Callable[[str], Path], tmp_path_factory: Any) -> Tokenizer:
    """One vocabulary has no token for any mark, the other has them all."""
    path = shared("models/stories260K-F32.gguf")
    if request.param == "marks":
        path = bigram_file(tmp_path_factory.mktemp("marks") / "m.gguf", MARKS, {})
    with GGUFFile.open(path) as file:
        return load_tokenizer(file.metadata)


@pytest.fixture(scope="module")
def llm(shared: Callable[[str], Path]) -> Iterator[LLM]:
    with LLM.load(shared("models/stories260K-F32.gguf"), threads=1) as llm:
        yield llm


def asked(tokenizer: Tokenizer, format: str, **options: Any) -> ChatRequest:
    thoughtless = {"enable_thinking": False}  # else GLM's prompt ends in the midst of a thought
    options = {"tools": TOOLS, "tool_choice": "required", "template_kwargs": thoughtless, **options}
    return chat_request({"tokenizer.chat_template": source_of(format)}, tokenizer, [ASKED], **options)


def written(
    request: ChatRequest, tokenizer: Tokenizer, structure: Structure | None, seed: int, *, one_call: bool = False
) -> ChatMessage:
    """What a model that takes any allowed token, though an end rather than others, writes."""
    assert structure is not None
    matcher, rng, ids = Matcher(structure, tokenizer), random.Random(seed), list[int]()
    while not ids or ids[-1] not in tokenizer.eog_ids:
        bits = np.unpackbits(np.frombuffer(matcher.mask(), np.uint8), bitorder="little")[: tokenizer.n_vocab]
        ends = [id for id in tokenizer.eog_ids if bits[id]]
        ids.append(rng.choice(ends if ends and rng.random() < 0.3 else np.flatnonzero(bits).tolist()))
        matcher.accept(ids[-1])
        assert len(ids) < 3000
    reader, decoder = request.reader(one_call=one_call), tokenizer.stream(special=request.shown, continuation=True)
    for id in ids[:-1]:
        reader.read(Event(decoder.push(id), id))
    (*_, last) = reader.read(Event(decoder.flush(), ids[-1], "stop"))
    assert (last.finish_reason == "tool_calls") == bool(reader.message.tool_calls)
    return reader.message


def check(message: ChatMessage) -> None:
    for call in message.tool_calls:
        if call.name == "now":
            assert call.arguments == {}
        else:
            assert call.name == "weather"
            assert call.arguments["city"] in ("Rome", 'O "x"')
            assert call.arguments["days"] in range(1, 10)
            assert type(call.arguments.get("detail", True)) is bool
            assert call.arguments.keys() <= {"city", "days", "detail"}


@pytest.mark.parametrize("format", FORMATS)
def test_a_call_comes_in_every_format(tokenizer: Tokenizer, format: str) -> None:
    request = asked(tokenizer, format)
    names = set()
    for seed in range(12):
        for parallel in (True, False):
            structure = held_to(request, tokenizer, None, parallel=parallel)
            message = written(request, tokenizer, structure, seed)
            check(message)
            assert message.content == ""
            assert 1 <= len(message.tool_calls) <= (99 if parallel else 1)
            names |= {call.name for call in message.tool_calls}
    assert names == {"weather", "now"}


@pytest.mark.parametrize("format", FORMATS)
def test_a_named_tool_is_called(tokenizer: Tokenizer, format: str) -> None:
    for choice in ("now", {"type": "function", "function": {"name": "now"}}, {"type": "function", "name": "now"}):
        request = asked(tokenizer, format, tool_choice=choice)
        message = written(request, tokenizer, held_to(request, tokenizer, None, parallel=False), 1)
        assert [(call.name, call.arguments) for call in message.tool_calls] == [("now", {})]
        assert "weather" in request.prompt


@pytest.mark.parametrize("format", FORMATS)
def test_a_call_or_the_structured_answer(tokenizer: Tokenizer, format: str) -> None:
    request = asked(tokenizer, format, tool_choice="auto")
    kinds = set()
    for seed in range(40):
        message = written(request, tokenizer, held_to(request, tokenizer, NUMBER), seed)
        check(message)
        if not message.tool_calls:
            assert json.loads(message.content)["n"] in range(1, 10)
        kinds.add(bool(message.tool_calls))
    assert kinds == {True, False}


def test_all_formats_are_here(tokenizer: Tokenizer) -> None:
    assert {asked(tokenizer, format).tool_reader for format in FORMATS} == {*TOOL_FORMATS.values()}


def texts(tokenizer: Tokenizer, structure: Structure | None, text: str) -> bool:
    """Whether the structure lets the model write a text, byte by byte but for marks, and end there."""
    assert structure is not None
    matcher = Matcher(structure, tokenizer)
    for part in re.split(r"(<[^<>\s]+>)", text):
        mark = mark_id(tokenizer, part)
        for id in [mark] if mark is not None else [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in part.encode()]:
            assert id is not None
            if not matcher.allows(id):
                return False
            matcher.accept(id)
    return any(map(matcher.allows, tokenizer.eog_ids))


@pytest.mark.parametrize("format", WRITTEN)
def test_what_models_were_trained_to_write_is_allowed(tokenizer: Tokenizer, format: str) -> None:
    structure = held_to(asked(tokenizer, format), tokenizer, None)
    spelled = tokenizer.token_to_id("<|channel|>") is None
    assert texts(tokenizer, structure, WRITTEN[format]) == (format != "gpt-oss" or not spelled)
    assert not texts(tokenizer, structure, "Hello.")
    if format == "hermes":  # white space has its bounds, as in all JSON
        for inside, allowed in (("", True), (" ", True), ("\n    ", True), ("  ", False), ("\n\n\n", False)):
            call = f'<tool_call>\n{{"name": "now", "arguments": {{{inside}}}}}\n</tool_call>'
            assert texts(tokenizer, structure, call) == allowed


def test_the_tool_that_is_asked_for_may_be_one_of_some(tokenizer: Tokenizer) -> None:
    names = [{"type": "function", "function": {"name": "now"}}]
    for inner in (
        {"mode": "required", "tools": names},
        {"mode": "required", "tools": [{"type": "function", "name": "now"}]},
    ):
        for choice in ({"type": "allowed_tools", "allowed_tools": inner}, {"type": "allowed_tools", **inner}):
            request = asked(tokenizer, "hermes", tool_choice=choice)
            assert (request.tools, request.required) == ((NOW,), (NOW,))
    free = asked(tokenizer, "hermes", tool_choice={"type": "allowed_tools", "mode": "auto", "tools": names})
    assert (free.tools, free.required, held_to(free, tokenizer, None)) == ((NOW,), (), None)
    none = asked(tokenizer, "hermes", tool_choice="none")
    assert (none.tools, none.required, none.prompt) == (
        (),
        (),
        asked(tokenizer, "hermes", tools=None, tool_choice=None).prompt,
    )
    auto = asked(tokenizer, "hermes", tool_choice="auto")
    assert (auto.tools, auto.required) == ((*TOOLS,), ())


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("cook", "tool_choice names 'cook', but there are weather, now"),
        ({"type": "function", "function": {"name": "cook"}}, "names 'cook'"),
        ({"type": "function", "function": 5}, "tool_choice must be 'none', 'auto'"),
        ({"type": "function"}, "tool_choice must be"),
        ({"type": "custom", "custom": {"name": "now"}}, "tool_choice must be"),
        ({"type": "allowed_tools", "mode": "none", "tools": ["now"]}, "tool_choice must be"),
        ({"type": "allowed_tools", "allowed_tools": []}, "tool_choice must be"),
        ({"type": "allowed_tools", "mode": "auto", "tools": ["cook"]}, "names 'cook'"),
    ],
)
def test_choices_that_cannot_be(tokenizer: Tokenizer, choice: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asked(tokenizer, "hermes", tool_choice=choice)


def test_calls_that_cannot_come(tokenizer: Tokenizer, llm: LLM) -> None:
    for choice in ("required", "now"):
        with pytest.raises(ValueError, match="there are no tools"):
            asked(tokenizer, "hermes", tools=[], tool_choice=choice)
    with pytest.raises(TypeError, match="tool_choice must be a text or a mapping, got 5"):
        llm.chat([ASKED], tools=TOOLS, tool_choice=5, template=TAGGED)

    def held(*tools: Any, **options: Any) -> Any:
        return held_to(asked(tokenizer, "qwen", tools=tools, **options), tokenizer, None)

    with pytest.raises(ChatTemplateError, match="tools: the model cannot be held to calls of 'a b'"):
        held(tool("a b"))
    with pytest.raises(
        StructureError, match='tools: list: its parameters must be the schema of an object, got type "array"'
    ):
        held(tool("list", type="array"))
    wrong = tool("odd", type="object", properties={"x": {"type": "strange"}})
    with pytest.raises(StructureError, match=r"tools: odd: JSON schema: \$.properties.x"):
        held(NOW, wrong)
    assert held(NOW, wrong, tool_choice="now") is not None
    begun = [ASKED, ChatMessage("assistant", "It is")]
    with pytest.raises(ValueError, match="the beginning of a text"):
        llm.chat(begun, tools=TOOLS, tool_choice="required", template=TAGGED)


def test_parameters_in_tags(tokenizer: Tokenizer) -> None:
    def held(**properties: Any) -> Structure | None:
        tools = [tool("f", type="object", properties=properties, required=[*properties][:1])]
        return held_to(asked(tokenizer, "qwen-coder", tools=tools), tokenizer, None)

    def call(*lines: str) -> str:
        return "\n".join(["<tool_call>", "<function=f>", *lines, "</function>", "</tool_call>"])

    code = held(code={"type": "string", "description": "any"}, lines={"type": ["integer", "null"]})
    for text in ("print(1)\n\nif a < b:\n    pass", "", '"quoted"', "</code>"):
        assert texts(tokenizer, code, call("<parameter=code>", text, "</parameter>")), text
        assert texts(
            tokenizer, code, call("<parameter=code>", text, "</parameter>", "<parameter=lines>\n3\n</parameter>")
        )
    for text in ("</function>", "</parameter>"):
        assert not texts(tokenizer, code, call("<parameter=code>", text, "</parameter>"))
    assert not texts(tokenizer, code, call("<parameter=lines>\n3\n</parameter>"))
    assert not texts(
        tokenizer, code, call("<parameter=code>", "x", "</parameter>", "<parameter=lines>\nx\n</parameter>")
    )
    mixed = held(x={"anyOf": [{"type": "string"}, {"type": "integer"}]})
    assert texts(tokenizer, mixed, call("<parameter=x>", '"3"', "</parameter>"))
    short = held(x={"type": "string", "maxLength": 3})  # tags cannot say so: JSON does
    assert texts(tokenizer, short, call('{"x": "abc"}'))
    assert not texts(tokenizer, short, call('{"x": "abcd"}'))


def test_parameters_by_name(tokenizer: Tokenizer) -> None:
    def held(format: str, *required: str, **properties: Any) -> Structure | None:
        tools = [tool("f", type="object", properties=properties, required=[*required])]
        return held_to(asked(tokenizer, format, tools=tools), tokenizer, None)

    def gemma(arguments: str) -> str:
        return f"<|tool_call>call:f{arguments}<tool_call|>"

    def lfm(arguments: str) -> str:
        return f"<|tool_call_start|>[f({arguments})]<|tool_call_end|>"

    some = {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "array", "items": {"type": "string"}}}
    free, last = held("gemma4", **some), held("gemma4", "c", **some)
    for text in ("{}", "{a:1}", '{b:<|"|>x "y" }<|"|>}', '{a:1,c:["x"]}', '{a:1,b:<|"|><|"|>,c:[]}'):
        assert texts(tokenizer, free, gemma(text)), text
    assert texts(tokenizer, last, gemma('{c:[],b:<|"|>x<|"|>}'))
    for text in ("{b:x}", "{a:1,a:2}", '{b:<|"|>x}', "{a:1,}", '{"a":1}', "{d:1}"):
        assert not texts(tokenizer, free, gemma(text)), text
    assert not texts(tokenizer, last, gemma("{a:1}"))
    free, last = held("lfm2", **some), held("lfm2", "c", **some)
    for text in ("", "a=1", 'b="x"', 'a=1, c=["x"]'):
        assert texts(tokenizer, free, lfm(text)), text
    for text in ("a=1, a=2", "b=x", "a=1,", "d=1"):
        assert not texts(tokenizer, free, lfm(text)), text
    assert texts(tokenizer, last, lfm('c=[], b="x"'))
    assert not texts(tokenizer, last, lfm(""))
    odd = {"x-y": {"type": "integer"}}  # no name of Python's: JSON says it
    assert texts(tokenizer, held("lfm2", "x-y", **odd), lfm('**{"x-y": 1}'))
    assert texts(tokenizer, held("gemma4", "x-y", **odd), gemma('{"x-y": 1}'))
    many = {f"p{i}": {"type": "integer"} for i in range(40)}
    assert texts(tokenizer, held("gemma4", **many), gemma('{"p7": 1}'))
    assert texts(tokenizer, held("gemma4", "p3", **many), gemma("{p3:1,p7:1}"))


def test_the_model_thinks_before_it_calls(tokenizer: Tokenizer) -> None:
    source = f"<tool_call>{PLAIN}<think>\n"
    request = chat_request({"tokenizer.chat_template": source}, tokenizer, [ASKED], tools=TOOLS, tool_choice="now")
    structure = held_to(request, tokenizer, None)
    call = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    for lines in ("", "\n", "\n\n"):
        assert texts(tokenizer, structure, f"Hm. 1 < 2</think>{lines}{call}")
    assert not texts(tokenizer, structure, f"Hm.</think>\n\n\n{call}")
    assert not texts(tokenizer, structure, "Hm.</think>Hello.")
    begun = [ASKED, ChatMessage("assistant", "", "Well")]
    metadata = {"tokenizer.chat_template": SOURCES["gpt-oss"]}
    request = chat_request(metadata, tokenizer, begun, tools=TOOLS, tool_choice="now")
    if tokenizer.token_to_id("<|end|>") is not None:
        rest = "<|start|>assistant<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}"
        assert texts(tokenizer, held_to(request, tokenizer, None), f", no.<|end|>{rest}")


def test_gemma_thinks_between_marks_that_are_shown(tokenizer: Tokenizer) -> None:
    shown = {tokenizer.token_to_id(mark) for mark in ("<|channel>", "<channel|>", "<|tool_call>", '<|"|>')} - {None}
    for thinking in (True, False):
        request = asked(tokenizer, "gemma4", template_kwargs={"enable_thinking": thinking}, tool_choice="auto")
        assert request.shown >= shown
        assert request.prompt.endswith("<|turn>model\n" if thinking else "<|channel>thought\n<channel|>")
        reader = request.reader()
        for text in ("<|chan", "nel>thought\nHm.\n<cha", "nnel|>", "Yes."):
            reader.read(Event(text, 5))
        reader.read(Event("", None, "stop"))
        assert (reader.message.reasoning, reader.message.content) == ("Hm.", "Yes.")
    begun = [ASKED, ChatMessage("assistant", "", "Well")]
    request = chat_request({"tokenizer.chat_template": GEMMA4}, tokenizer, begun)
    assert request.prompt.endswith("<|channel>thought\nWell")
    assert request.beginning.closer == "<channel|>"


def test_a_header_of_gpt_oss_may_say_what_the_answer_is(tokenizer: Tokenizer) -> None:
    request = asked(tokenizer, "gpt-oss", tools=None, tool_choice=None)
    structure = held_to(request, tokenizer, regex("[{]1[}]"))
    thought = "<|channel|>analysis<|message|>The final <|message|> one.<|start|>assistant"
    for said in ("", " <|constrain|>json", "<|constrain|>number", " json"):
        assert texts(tokenizer, structure, f"{thought}<|channel|>final{said}<|message|>{{1}}")
        assert not texts(tokenizer, structure, f"{thought}<|channel|>final{said}<|message|>{{2}}")


TAGGED = "{{ '<tool_call>' if tools }}" + PLAIN.replace("{{ tools|tojson if tools }}", "")
"""A short one: the model has a small context."""


@pytest.mark.parametrize("seed", range(5))
def test_an_untrained_model_calls(llm: LLM, seed: int) -> None:
    params = SamplingParams(temperature=5, seed=seed, min_p=0, top_k=0, top_p=1)
    options: Any = {"tools": TOOLS, "template": TAGGED, "sampling": params, "max_tokens": 400}
    done = llm.chat([ASKED], tool_choice="weather", parallel_tool_calls=False, **options)
    assert (done.finish_reason, len(done.message.tool_calls), done.text) == ("tool_calls", 1, "")
    check(done.message)
    free = llm.chat([ASKED], tool_choice="auto", **{**options, "max_tokens": 30})
    assert free.message.tool_calls == ()
    either = llm.chat([ASKED], **{**options, "sampling": SamplingParams(temperature=5, seed=seed, structure=NUMBER)})
    assert either.message.tool_calls or json.loads(either.text)["n"] in range(1, 10)
    cut = llm.chat([ASKED], tool_choice="weather", **{**options, "max_tokens": 12})
    assert (cut.finish_reason, cut.message.tool_calls) == ("length", ())


def test_gpt_oss_thinks_and_then_calls(tmp_path: Path) -> None:
    """The model would rather say hello at once."""
    words = ["assistant", "analysis", "commentary", "final", "Hm", "Hello"]
    follow = {"assistant": {"<|channel|>": 1.0}, "<|channel|>": {"analysis": 0.6, "final": 0.4}, "Hm": {"<|end|>": 1.0}}
    follow |= {
        "analysis": {"<|message|>": 1.0},
        "<|message|>": {"Hm": 0.6, "Hello": 0.4},
        "<|end|>": {"<|start|>": 1.0},
    }
    follow |= {
        "<|start|>": {"assistant": 1.0},
        "Hello": {"<|return|>": 0.7, "<|end|>": 0.3},
        "final": {"<|message|>": 1.0},
    }
    marks = [mark for mark in MARKS if mark.startswith("<|")]
    path = bigram_file(tmp_path / "m.gguf", [*marks, *words], follow, tokenizer__chat_template=SOURCES["gpt-oss"])
    with LLM.load(path, threads=1, n_ctx=4096) as llm:
        for seed in range(4):
            params = SamplingParams(seed=seed)
            done = llm.chat([ASKED], tools=TOOLS, tool_choice="now", sampling=params, max_tokens=300)
            assert (done.finish_reason, done.text) == ("tool_calls", "")
            assert [(call.name, call.arguments) for call in done.message.tool_calls] == [("now", {})]
            assert done.message.reasoning in ("", "Hm", "Hello")
