"""How models write tool calls, one reader for each way."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping
from typing import Any

from llamaq.chat.tools.braced import BracedCalls, EscapedCalls
from llamaq.chat.tools.glm import GlmCalls
from llamaq.chat.tools.harmony import HarmonyMessages
from llamaq.chat.tools.listed import ActionCalls, CommandCalls, ListedCalls, NemotronCalls
from llamaq.chat.tools.pythonic import FunctionCalls, PythonicCalls, python_call
from llamaq.chat.tools.reader import ToolReader, Waiting
from llamaq.chat.tools.sectioned import DeepSeekCalls, KimiCalls
from llamaq.chat.tools.syntax import Syntax
from llamaq.chat.tools.tagged import TAGGED, typed
from llamaq.errors import ChatTemplateError

__all__ = ["TOOL_FORMATS", "format_of", "frame_of"]

_PYTHON = ("python", "ipython", "code_interpreter", "code")
"""Names of the function that gets code which a model writes without JSON."""


class TaggedCalls(ToolReader):
    """Hermes, Qwen and functionary 3.1: calls between tags, as JSON or with a tag for each parameter.

    ``<tool_call>{"name": "f", "arguments": {...}}</tool_call>``, ``<function=f>{...}</function>``,
    ``<tool_call><function=f><parameter=x>1</parameter></function></tool_call>``.
    """

    marks = ("<tool_call>", "</tool_call>", "<|python_tag|>")

    def parse(self) -> Waiting:
        while True:
            _, mark = yield from self.until("<tool_call>", "<function=", "<|python_tag|>", show=self.show)
            if mark is None:
                return
            if mark == "<tool_call>":
                yield from self._tagged()
            elif mark == "<function=":
                yield from self._function()
            else:
                code, _ = yield from self.until("<|eom_id|>")
                _python(self, code)
            if not (yield from self.skip()):
                return

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        if "<tool_call>" not in template and "<function" in template:
            return Syntax("<function=$name>", "</function>", between="")
        if "<parameter=" in template:
            end = "</function>\n</tool_call>"
            return Syntax("<tool_call>\n<function=$name>\n", end, between="\n", style=TAGGED)
        head = '<tool_call>\n{"name": "$name", "arguments": '
        return Syntax(head, "}\n</tool_call>", between="\n")

    def _tagged(self) -> Waiting:
        yield from self.skip()
        if (yield from self.expect("<function=")):
            yield from self._function()
        elif self.text.startswith("{"):
            yield from self.json_call("<tool_call>")
        else:
            self.show("<tool_call>")
            return
        yield from self.skip()
        yield from self.expect("</tool_call>")

    def _function(self) -> Waiting:
        name, mark = yield from self.until(">")
        if mark is None:
            self.show(f"<function={name}")
            return
        self.begin_call(name)
        yield from self.skip()
        if self.text.startswith("{"):
            yield from self.json_value(self.add_arguments)
        else:
            yield from self._parameters(self.parameters.get(name, {}))
        yield from self.skip()
        yield from self.expect("</function>")

    def _parameters(self, types: Mapping[str, Any]) -> Waiting:
        before, end = "{", None
        while (yield from self.expect("<parameter=")):
            key, _ = yield from self.until(">")
            value, end = yield from self.until("</parameter>", "</function>")
            value = typed(value.removeprefix("\n").removesuffix("\n"), types.get(key))
            self.add_arguments(f"{before}{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
            before = ", "
            if end != "</parameter>" or not (yield from self.skip()):
                break
        if end == "</function>" or not self.cut:
            self.add_arguments("{}" if before == "{" else "}")


class Llama3Calls(ToolReader):
    """Llama 3.x and 4: an answer that is ``{"name": "f", "parameters": {...}}``, a list of such, or one after
    ``<|python_tag|>`` or between ``<|python_start|>`` and ``<|python_end|>``."""

    marks = ("<|python_tag|>", "<|python_start|>", "<|python_end|>")

    def parse(self) -> Waiting:
        tagged = False
        while (yield from self.skip(" \t\r\n;")):
            mark = yield from self.expect("<|python_tag|>", "<|python_start|>")
            if mark == "<|python_tag|>":
                tagged = True
            elif mark is not None:
                yield from self._between()
            elif not (yield from self._is_call()):
                break
            elif self.text.startswith("["):
                yield from self.json_calls()
            else:
                yield from self.json_call()
        if tagged:
            code, _ = yield from self.until("<|eom_id|>")
            _python(self, code)
        else:
            _, mark = yield from self.until("<|python_tag|>", "<|python_start|>", show=self.show)
            if mark is not None:
                self.text = mark + self.text
                yield from self.parse()

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        return Syntax('{"name": "$name", "parameters": ', "}")

    def _between(self) -> Waiting:
        """Calls or code of Llama 4, up to the mark that ends them; calls may follow it, too."""
        inside, _ = yield from self.until("<|python_end|>")
        if inside.lstrip().startswith(("{", "[")):
            self.text = inside + self.text
        else:
            _python(self, inside)

    def _is_call(self) -> Waiting:
        """Looks ahead for the name of a function that there is."""
        self.begin_again()
        name = yield from self._name()
        self.give_back()
        return isinstance(name, str) and name in self.parameters

    def _name(self) -> Waiting:
        if (yield from self.expect("[")):
            yield from self.skip()
        if (yield from self.expect("{")) is None:
            return None
        while (yield from self.skip(", \t\r\n")) and self.text[0] == '"':
            key = yield from self.json_text()
            yield from self.skip()
            if key not in ("type", "id", "name", "function", "parameters", "arguments"):
                return None
            if (yield from self.expect(":")) is None or not (yield from self.skip()):
                return None
            value = yield from self.json_text()
            if key in ("name", "function"):
                return value
        return None


class MistralCalls(ToolReader):
    """Mistral: ``[TOOL_CALLS][{"name": "f", "arguments": {...}}]``, or ``[TOOL_CALLS]f[ARGS]{...}`` for each call."""

    marks = ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]")

    def parse(self) -> Waiting:
        while True:
            _, mark = yield from self.until("[TOOL_CALLS]", show=self.show)
            if mark is None or not (yield from self.skip()):
                return
            if self.text.startswith("["):
                yield from self.json_calls("[TOOL_CALLS]")
            elif self.text.startswith("{"):
                yield from self.json_call("[TOOL_CALLS]")
            else:
                yield from self._named()

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        if "[ARGS]" in template:
            return Syntax("[TOOL_CALLS]$name[ARGS]", between="")
        return Syntax('{"name": "$name", "arguments": ', "}", before="[TOOL_CALLS][", between=", ", after="]")

    def _named(self) -> Waiting:
        while not any(mark in self.text for mark in ("[ARGS]", "{")) and (yield from self.more()):
            pass
        end = min((at for mark in ("[ARGS]", "[CALL_ID]", "{") if (at := self.text.find(mark)) >= 0), default=None)
        if end is None:
            self.show("[TOOL_CALLS]")
            return
        self.begin_call(self.take(end).strip())
        if (yield from self.expect("[CALL_ID]")):
            yield from self.until("[ARGS]")
        else:
            yield from self.expect("[ARGS]")
        yield from self.skip()
        yield from self.json_value(self.add_arguments)

    def new_id(self) -> str:
        """Mistral's templates insist on nine letters and digits."""
        return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


class RecipientCalls(ToolReader):
    """functionary 3.2: every part begins with its recipient, ``all`` or a function; ``>>>`` separates parts."""

    def parse(self) -> Waiting:
        yield from self.expect(">>>")
        while True:
            name, mark = yield from self.until("\n")
            if mark is None:
                self.show(name)
                return
            if name.strip() == "all":
                _, mark = yield from self.until(">>>", show=self.show)
            elif name.strip() in self.parameters:
                mark = yield from self._call(name.strip())
            else:
                self.show(f"{name}\n")
                _, mark = yield from self.until(">>>", show=self.show)
            if mark is None:
                return

    @classmethod
    def syntax(cls, template: str) -> Syntax:
        return Syntax("$name\n", between=">>>", opens=("all\n",))

    def _call(self, name: str) -> Waiting:
        self.begin_call(name)
        yield from self.skip()
        if self.text.startswith("{"):
            yield from self.json_value(self.add_arguments)
            _, mark = yield from self.until(">>>")
        else:
            code, mark = yield from self.until(">>>")
            cut = mark is None and self.cut
            self.add_arguments(code if cut else json.dumps({"code": code.rstrip()}, ensure_ascii=False))
        return mark


TOOL_FORMATS: dict[str, type[ToolReader]] = {
    "llama3": Llama3Calls,
    "hermes": TaggedCalls,
    "qwen": TaggedCalls,
    "mistral": MistralCalls,
    "functionary-v3.1": TaggedCalls,
    "functionary-v3.2": RecipientCalls,
    "gpt-oss": HarmonyMessages,
    "granite": ListedCalls,
    "phi4-mini": ListedCalls,
    "command-r": CommandCalls,
    "gemma4": BracedCalls,
    "functiongemma": EscapedCalls,
    "lfm2": PythonicCalls,
    "olmo3": FunctionCalls,
    "command-r7b": ActionCalls,
    "nemotron": NemotronCalls,
    "glm": GlmCalls,
    "deepseek": DeepSeekCalls,
    "kimi-k2": KimiCalls,
}
"""Readers by the name that the user can give."""

_TELLING = (  # format: texts that a template of it has, and texts that it has not
    ("mistral", ("[TOOL_CALLS]",), ()),
    ("functionary-v3.2", (">>>all",), ()),
    ("gpt-oss", ("<|start|>assistant", "<|channel|>", "<|message|>"), ()),
    ("command-r7b", ("<|START_ACTION|>", "tool_name"), ()),
    ("command-r", ("Action:", "tool_name"), ()),
    ("nemotron", ("<TOOLCALL>",), ()),
    ("granite", ("<|tool_call|>",), ()),
    ("gemma4", ("<|tool_call>call:",), ()),
    ("functiongemma", ("<start_function_call>call:",), ()),
    ("deepseek", ("<｜tool▁call▁begin｜>",), ()),
    ("kimi-k2", ("<|tool_call_argument_begin|>",), ()),
    ("olmo3", ("<function_calls>", "<functions>"), ("<invoke",)),
    ("lfm2", ("List of tools: ",), ()),
    ("glm", ("<tool_call>", "<arg_key>", "</arg_value>"), ()),
    ("hermes", ("<tool_call>",), ("arg_key", "<invoke")),
    ("functionary-v3.1", ("<function=",), ()),
    ("llama3", ("ipython", '"parameters"'), ()),
)


def format_of(template: str, choice: str | None = None) -> type[ToolReader]:
    """The reader for the calls that a template tells the model to write.

    Raises ``ChatTemplateError`` for a template without tools, and for calls in a format that is not known.
    """
    if choice is not None:
        if choice not in TOOL_FORMATS:
            raise ChatTemplateError(f"there is no tool format {choice!r}; there are {', '.join(TOOL_FORMATS)}")
        return TOOL_FORMATS[choice]
    if "tools" not in template:
        raise ChatTemplateError("the chat template has no place for tools; choose another one, or leave the tools out")
    found = _told_by(template)
    if found is not None:
        return found
    raise ChatTemplateError(
        "the chat template's tool calls are in a format that llamaq does not read; "
        f"tool_format= takes one of {', '.join(TOOL_FORMATS)}"
    )


def frame_of(template: str) -> type[ToolReader] | None:
    """The reader of the answers to a conversation without tools, where they have marks around them."""
    found = _told_by(template)
    return found if found is not None and found.framed else None


def _told_by(template: str) -> type[ToolReader] | None:
    for name, marks, others in _TELLING:
        if all(mark in template for mark in marks) and not any(mark in template for mark in others):
            return TOOL_FORMATS[name]
    return None


def _python(reader: ToolReader, code: str) -> None:
    """A call written as Python, ``f.call(x="...")``, or code for the function that runs some."""
    code = code.strip()
    found = None if reader.cut or not code else python_call(code)
    if found is not None and found[0] not in reader.parameters:
        found = None
    runs = next((name for name in _PYTHON if name in reader.parameters), None)
    if found is None and runs and code and not reader.cut:
        found = runs, json.dumps({"code": code}, ensure_ascii=False)
    if found is None:
        reader.show(code)
        return
    reader.begin_call(found[0])
    reader.add_arguments(found[1])
