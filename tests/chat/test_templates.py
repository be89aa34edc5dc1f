"""Chat templates: recorded renderings of real ones, the named ones, the choice, and bounds for hostile ones."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaq.chat import meter
from llamaq.chat.named import NAMED_TEMPLATES
from llamaq.chat.sandbox import Sandbox
from llamaq.chat.templates import ChatTemplate, choose_template, file_templates
from llamaq.errors import ChatTemplateError
from shared_files import shared_path

GOLDENS = "templates/goldens.json"


def test_recorded_renderings_byte_for_byte(shared: Callable[[str], Path]) -> None:
    goldens = json.loads(shared(GOLDENS).read_text(encoding="utf-8"))
    now = datetime.fromisoformat(goldens["now"])
    assert len(goldens["cases"]) >= 140
    for case in goldens["cases"]:
        context = dict(goldens["contexts"][case["context"]])
        template = ChatTemplate(shared_path(f"templates/{case['template']}").read_text(encoding="utf-8"))
        if "output" in case:
            assert template.render(**context, now=now) == case["output"], (case["template"], case["context"])
        else:
            kind, _, message = case["error"].partition(": ")
            with pytest.raises(ChatTemplateError) as caught:
                template.render(**context, now=now)
            assert message in str(caught.value), (kind, case["template"])


HELLO = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "?"},
]
SYSTEM = {"role": "system", "content": "Be kind."}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
NAMED = {
    "llama2": "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHello [/INST] Hi. </s><s>[INST] ? [/INST]",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHi.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "llama4": "<s><|header_start|>system<|header_end|>\n\nBe kind.<|eot|>"
    "<|header_start|>user<|header_end|>\n\nHello<|eot|>"
    "<|header_start|>assistant<|header_end|>\n\nHi.<|eot|><|header_start|>user<|header_end|>\n\n?<|eot|>"
    "<|header_start|>assistant<|header_end|>\n\n",
    "alpaca": "<s>Be kind.\n\n### Instruction:\nHello\n\n### Response:\nHi.</s>\n\n"
    "### Instruction:\n?\n\n### Response:\n",
    "vicuna": "<s>Be kind. USER: Hello ASSISTANT: Hi.</s>USER: ? ASSISTANT:",
    "chatml": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
    "<|im_start|>assistant\nHi.<|im_end|>\n<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n",
    "mistral": "<s>[INST] Hello[/INST] Hi.</s>[INST] Be kind.\n\n?[/INST]",
    "gemma": "<s><start_of_turn>user\nBe kind.\n\nHello<end_of_turn>\n<start_of_turn>model\nHi.<end_of_turn>\n"
    "<start_of_turn>user\n?<end_of_turn>\n<start_of_turn>model\n",
    "phi3": "<s><|system|>\nBe kind.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\nHi.<|end|>\n<|user|>\n?<|end|>\n"
    "<|assistant|>\n",
    "granite": "<|start_of_role|>system<|end_of_role|>Be kind.<|end_of_text|>\n"
    "<|start_of_role|>user<|end_of_role|>Hello<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>Hi.<|end_of_text|>\n"
    "<|start_of_role|>user<|end_of_role|>?<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    "command-r": "<s><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be kind.<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hello<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Hi.<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
}


@pytest.mark.parametrize("name", NAMED_TEMPLATES)
def test_named_templates(name: str) -> None:
    template = choose_template({}, name)
    assert template.stop
    assert template.render([SYSTEM, *HELLO], **TOKENS) == NAMED[name]
    assert "kind" not in template.render(HELLO, **TOKENS)
    with pytest.raises(ChatTemplateError, match=f"template {name}: .* of the role tool"):
        template.render([*HELLO, {"role": "tool", "content": "x"}], **TOKENS)


def test_the_file_or_the_user_chooses_nothing_is_guessed() -> None:
    own = {
        "tokenizer.chat_template": "D",
        "tokenizer.chat_template.tool_use": "T",
        "tokenizer.chat_template.rag": "R",
        "tokenizer.chat_templates": ["tool_use", "rag"],
    }
    assert file_templates(own) == {"default": "D", "tool_use": "T", "rag": "R"}
    assert choose_template(own).render(HELLO) == "D"
    assert choose_template(own, tools=True).render(HELLO) == "T"
    assert choose_template({"tokenizer.chat_template": "D"}, tools=True).render(HELLO) == "D"
    assert choose_template(own, "rag").render(HELLO) == "R"
    assert choose_template(own, "chatml").source == NAMED_TEMPLATES["chatml"][0]
    assert choose_template(own, "{{ messages|length }}").render(HELLO) == "3"
    for metadata, choice, message in [
        ({}, None, "the file has no chat template; choose .*: llama2, llama3, llama4, alpaca, vicuna, chatml, mistral"),
        (own, "llama5", "no chat template 'llama5'; there are default, tool_use, rag, llama2"),
        ({"tokenizer.chat_template": 5}, None, "tokenizer.chat_template holds int"),
    ]:
        with pytest.raises(ChatTemplateError, match=message):
            choose_template(metadata, choice)


def test_what_hugging_face_adds_to_jinja() -> None:
    def render(source: str, **variables: Any) -> str:
        return ChatTemplate(source).render([], **variables)

    assert render("{{ {'b': 'ü<\"', 'a': [1, none, true]}|tojson }}") == '{"b": "ü<\\"", "a": [1, null, true]}'
    assert render("{{ {'b': 1, 'a': 2}|tojson(indent=1, sort_keys=true) }}") == '{\n "a": 2,\n "b": 1\n}'
    assert render("{{ [1, 2]|tojson(separators=(',', ':')) }}") == "[1,2]"
    assert render("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i > 2 %}{% break %}{% endif %}"
                  "{{ i }}{% endfor %}") == "02"  # fmt: skip
    assert render("  {% if true %}\na\n  {% endif %}\nb") == "a\nb"
    assert render("a{% generation %}{{ x }}{% endgeneration %}b", x=1) == "a1b"
    assert ChatTemplate("{{ strftime_now('%d %b %Y') }}").render([], now=datetime(2024, 7, 26)) == "26 Jul 2024"
    assert ChatTemplate("{{ strftime_now('%Y') }}").render([]) in (
        str(datetime.now().year),
        str(datetime.now().year - 1),
    )
    with pytest.raises(ChatTemplateError, match=r"^template: roles must alternate$"):
        render("{{ raise_exception('roles must alternate') }}")


def test_loops_and_lists_are_jinjas_own() -> None:
    source = (
        "{% for a, b in pairs %}{{ loop.index }}/{{ loop.length }}{{ a ~ b }}{{ loop.last }}{{ loop.previtem }}"
        "{{ loop.nextitem }}{% else %}none{% endfor %}{% for x in tree recursive %}{{ x.n }}{{ loop(x.c) }}{% endfor %}"
    )
    tree = [{"n": 1, "c": [{"n": 2, "c": []}]}, {"n": 3, "c": []}]
    expected = "1/2abFalse('c', 'd')2/2cdTrue('a', 'b')123"
    assert ChatTemplate(source).render([], pairs=[("a", "b"), ("c", "d")], tree=tree) == expected
    assert ChatTemplate(source).render([], pairs=[], tree=[]) == "none"
    assert ChatTemplate("{% for x in unknown %}{% else %}none{% endfor %}").render([]) == "none"
    assert ChatTemplate("{{ '{:>3}|{a!r:5}|{{}}'.format(1, a='b') }}").render([]) == "  1|'b'  |{}"
    assert ChatTemplate("{{ '%3d|%-4s|%%' % (1, 'b') }}{{ '%.2f'|format(1.5) }}").render([]) == "  1|b   |%1.50"
    assert ChatTemplate("{{ (1, 2) + (3,) }}{{ [1] + [2] }}{{ {'a': 1}.items()|list }}").render([]) == (
        "(1, 2, 3)[1, 2][('a', 1)]"
    )


DOUBLING = "{%% set ns = namespace(x=%s) %%}{%% for i in range(60) %%}{%% set ns.x = %s %%}{%% endfor %%}{{ ns.x }}"
TEXT = "('%s' * 1000 * 1000)"  # a template can pay for this
HOSTILE = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "range": "{{ range(10**10)|list }}",
    "text": "{{ 'a' * 10**10 }}",
    "list": "{{ [1] * 10**10 }}",
    "doubled text": DOUBLING % ("'ab'", "ns.x ~ ns.x"),
    "added text": DOUBLING % ("'ab'", "ns.x + ns.x"),
    "nested lists": DOUBLING % ("[1]", "[ns.x, ns.x]"),
    "nested tuples": DOUBLING % ("1", "(ns.x, ns.x)"),
    "nested dicts": DOUBLING % ("1", "{'a': ns.x, 'b': ns.x}"),
    "nested calls": DOUBLING % ("1", "dict(a=ns.x, b=ns.x)"),
    "a namespace in itself": "{% set ns = namespace(x=1) %}{% set ns.x = ns %}{{ ns }}",
    "powers": DOUBLING % ("3", "ns.x * ns.x"),
    "a power": "{{ 9**(9**9) }}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "macros without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "static text": "{% for i in range(99999) %}" + "x" * 99999 + "{% endfor %}",
    "macro text": "{% macro m() %}" + "x" * 99999 + "{% endmacro %}{% for i in range(9999) %}{{ m()[:0] }}{% endfor %}",
    "center": "{{ 'a'|center(10**10) }}",
    "zfill": "{{ '1'.zfill(10**10) }}",
    "indent": "{{ ('a\n' * 10000)|indent(10**7) }}",
    "batch": "{{ [1]|batch(10**10, 1)|list }}",
    "printf": "{{ '%99999999999d'|format(1) }}",
    "modulo": "{{ '%*d' % (99999999999, 1) }}",
    "format": "{{ '{:99999999999}'.format(1) }}",
    "nested format": "{{ '{:{}}'.format(1, 99999999999) }}",
    "colons in a format": "{{ ('{' ~ ':' * 10**6).format(1) }}",
    "replace": "{{ ('a' * 10**6)|replace('a', 'b' * 10**6) }}",
    "join": "{{ (['a' * 10**4] * 10**5)|join }}",
    "joined by much": "{{ range(99999)|join('b' * 10**6) }}",
    "translate": "{{ ('a' * 10**6).translate({97: 'b' * 10**6}) }}",
    "to_bytes": "{{ (1).to_bytes(10**10, 'big') }}",
    "lipsum": "{{ lipsum(n=10**9) }}",
    "tojson": "{{ [[1], [2]]|tojson(indent=10**10) }}",
    "time": "{{ strftime_now('%999999999d') }}",
    "sum": "{{ ([[1] * 10] * 10**5)|sum(start=[]) }}",
    "tags": "{{ ('<!--' * 10**6)|striptags }}",
    "round": "{{ 1|round(60000000, 'ceil') }}",
    "rounded to a variable": "{% set n = 60000000 %}{{ 1|round(n, 'ceil') }}",
    "rounded away": "{{ 1|round(-60000000) }}",
    "a rounded text": "{{ 'a'|round(9, 'ceil') }}",
    "width after a key": "{{ ('%(a)99999999d' % {'a': 1})|length }}",
    "width after keys in keys": "{{ ('%((a))99999999d' % {'(a)': 1})|length }}",
    "precision": "{{ '%.99999999f' % 1.5 }}",
    "a format that is odd": "{{ '%99999999d' is odd }}",
    "a format that is divisible": "{{ '%99999999d' is divisibleby(1) }}",
    "indent by text": f"{{{{ ('{'a' * 9}\n' * 10000)|indent({TEXT % 'b'}) }}}}",
    "indent of other lines": f"{{{{ ('{'a' * 9}\r' * 10000)|indent(1000000) }}}}",
    "replace by name": f"{{{{ {TEXT % 'a'}|replace(new='{'b' * 1000}', old='a')|length }}}}",
    "replace in a list": f"{{{{ ([1] * 10000)|replace('1', '{'b' * 100000}')|length }}}}",
    "separators": f"{{{{ ([1] * 10000)|tojson(separators=('{'b' * 100000}', ':'))|length }}}}",
    "joined by a list": "{{ range(9999)|join([range(9999)|list])|length }}",
    "batch of texts": f"{{% for x in ['a']|batch(1000, {TEXT % 'A'}) %}}{{% if x|sort %}}{{% endif %}}{{% endfor %}}",
    "batch of references": "{% for x in [1]|batch(60000000, 1) %}{{ x|length }}{% endfor %}",
    "backwards": f"{{{{ {TEXT % 'a'}.rfind('ab' ~ {TEXT % 'a'}[500000:]) }}}}",
    "split backwards": f"{{{{ {TEXT % 'a'}.rsplit('ab' ~ {TEXT % 'a'}[500000:])|length }}}}",
    "strip": f"{{{{ {TEXT % 'a'}.strip({TEXT % 'b'} ~ 'a') }}}}",
    "trim": f"{{{{ {TEXT % 'a'}|trim({TEXT % 'b'} ~ 'a') }}}}",
    "split": f"{{{{ ({TEXT % 'a '} * 20).split()|length }}}}",
    "split lines": f"{{{{ ({TEXT % '€@'} * 20).replace('@', '\r').splitlines()|length }}}}",
    "characters": f"{{{{ ({TEXT % '€'} * 30)|list|length }}}}",
    "paths": "{{ (['x'] * 10**4)|sort(attribute='0' ~ '.0' * 10**4)|length }}",
    "equal hashes": "{{ dict(range(0, 2305843009213693951 * 43368, 2305843009213693951)|batch(2))|length }}",
    "a namespace of equal hashes": "{{ namespace(range(0, 2**61 * 43368, 2305843009213693951)|batch(2)) }}",
    "digits": f"{{{{ {TEXT % 'f'}|int(base=16) % 3 }}}}",
    "digits in the source": f"{{{{ 0x{'f' * 9999} % 3 }}}}",
    "slices kept": f"{{% set x = {TEXT % 'a'} * 20 %}}" + "".join(f"{{% set y{i} = x[1:] %}}" for i in range(99)),
    "comparisons": f"{{% set x = {TEXT % 'a'} * 20 %}}{{% set y = x ~ '' %}}{{{{ x == y" + " and x == y" * 99 + " }}",
    "members": "{% set x = range(9999)|list %}{{ 'a' in x" + " or 'a' in x" * 99 + " }}",
    "keys": "{% set x = (1,) * 9999 %}{{ x in {}" + " or x in {}" * 99 + " }}",
    "counted": "{% set x = range(9999)|list %}{{ x.count('a')" + " or x.count('a')" * 99 + " }}",
    "views": f"{{% set d = dict(a={TEXT % 'a'}) %}}" + "{{ d.values() }}" * 99,
    "escapes": f"{{% set x = {TEXT % '€'} * 5 %}}" + "".join(f"{{% set y{i} = x|urlencode %}}" for i in range(5)),
    "long time": f"{{{{ strftime_now({TEXT % '%c'} * 20)|length }}}}",
    "concatenations": "{{ " + "a~" * 120000 + "a }}",
    "compared": "{{ a" + "<a" * 120000 + " }}",
    "prints": "{{a}}" * 50000,
    "sets": "{% set a=a %}" * 20000,
    "web pages": "{{ 'a'|wordwrap(1) }}",
    "parentheses": "{{ " + "(" * 50000 + "1" + ")" * 50000 + " }}",
    "blocks": "{% for i in [1] %}" * 50 + "{% endfor %}" * 50,
    "its own block": "{% block a %}{{ self.a() }}{% endblock %}",
    "much source": "x" * 300_000,
    "append": "{% set l = [] %}{{ l.append(1) }}",
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "files": "{% include '/etc/passwd' %}",
    "no end": "{% if true %}",
    "no such filter": "{{ 1|frobnicate }}",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python 3.12 warns so in jinja2's lexer
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_end_with_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "SECONDS", 0.5)
    with pytest.raises(ChatTemplateError, match=r"^hostile: "):
        ChatTemplate(HOSTILE[name], "hostile").render(HELLO)


LOOPS = (
    "{% for x in messages %}",
    "{% for x in range(99999) recursive %}",
    "{{ loop(x) }}",
    "{% endfor %}",
    "{% break %}",
)
BLOCKS = (
    "{% if x %}",
    "{% else %}",
    "{% endif %}",
    "{% generation %}",
    "{% endgeneration %}",
    "{%- raw -%}",
    "{%- endraw -%}",
)
STATE = (
    "{% set ns = namespace(x=messages) %}",
    "{% set ns.x = [ns.x, ns.x] %}",
    "{{ ns.x }}",
    "{% set x %}",
    "{% endset %}",
)
MACROS = ("{% macro m(a) %}", "{% endmacro %}", "{{ m(m) }}", "{{ caller() }}", "{% call m(x) %}", "{% endcall %}")
FILTERS = ("{{ x|tojson(indent=9) }}", "{{ messages|map('string')|join(x) }}", "{{ ns.x|string|replace('', 'xx') }}",
           "{{ x|sum(start=[]) }}", "{{ x|sort|list }}", "{% filter indent(9) %}", "{% endfilter %}")  # fmt: skip
VALUES = (
    "{{ x * 99999 }}",
    "{{ x.x }}",
    "{{ x ~ ns.x ~ x }}",
    "{{ 9 ** 99 }}",
    "{{ x.__class__ }}",
    "{{ '%9d' % x }}",
    "x",
)
FRAGMENTS = st.sampled_from([*LOOPS, *BLOCKS, *STATE, *MACROS, *FILTERS, *VALUES])


@settings(max_examples=300)
@given(st.lists(FRAGMENTS, max_size=12))
def test_whatever_a_template_is_it_renders_or_refuses(fragments: list[str]) -> None:
    with patch.object(meter, "SECONDS", 0.3), patch.object(meter, "UNITS", 1 << 20):
        try:
            text = ChatTemplate("".join(fragments)).render(HELLO)
        except ChatTemplateError:
            return
        assert isinstance(text, str)


SIZED = {
    "A": f"{TEXT % 'a'}",
    "B": f"{TEXT % '€ '}",
    "K": f"'ab' ~ {TEXT % 'a'}",
    "L": "'a\\n' * 1000 * 500",
    "W": "'%99d' * 9000",
    "G": "'{:99}' * 9000",
    "Z": "'0' ~ '.0' * 9000",
    "X": "['x'] * 9999",
    "R": "range(9999)|list",
    "N": "10**1000",
}
OPERANDS = st.sampled_from([*SIZED, "'a'", "''", "1", "60000000", "-60000000", "0.5", "none", "messages", "(1, 2)"])
NAMED_ARGUMENTS = ["", "", "", *(f"{name}=" for name in ("fill_with", "attribute", "indent", "width", "start", "d",
                   "precision", "base", "old", "new", "separators"))]  # fmt: skip
ARGUMENTS = st.lists(st.tuples(st.sampled_from(NAMED_ARGUMENTS), OPERANDS).map("".join), max_size=3).map(", ".join)
FILTER, TEST, METHOD = (st.sampled_from(sorted(names)) for names in (Sandbox().filters, Sandbox().tests, vars(str)))
OPERATOR = st.sampled_from(["+", "*", "/", "//", "%", "**", "~", "==", "<", "in"])
MAKER = st.sampled_from(["dict", "namespace", "range", "cycler", "strftime_now"])
CALLS = st.one_of(
    st.builds("{} | {}({})".format, OPERANDS, FILTER, ARGUMENTS),
    st.builds("({}).{}({})".format, OPERANDS, METHOD, ARGUMENTS),
    st.builds("{} {} {}".format, OPERANDS, OPERATOR, OPERANDS),
    st.builds("{} is {}({})".format, OPERANDS, TEST, OPERANDS),
    st.builds("{}({})".format, MAKER, ARGUMENTS),
)
VALUES_OF_SIZE = "".join(f"{{% set {name} = {value} %}}" for name, value in SIZED.items())


@settings(max_examples=150)
@given(CALLS, st.sampled_from(["", "|list", "|string", "|tojson"]))
def test_no_call_does_much_with_little(call: str, then: str) -> None:
    with patch.object(meter, "SECONDS", 0.5):
        try:
            ChatTemplate(VALUES_OF_SIZE + f"{{% set found = ({call}){then} %}}").render(HELLO)
        except ChatTemplateError as error:
            if "memory" in str(error).lower():
                raise


def test_the_values_of_that_test_are_paid_for() -> None:
    assert ChatTemplate(VALUES_OF_SIZE + "{{ A|length }}").render([]) == "1000000"


def test_the_time_that_counts_is_the_threads_own() -> None:
    """A busy machine makes no template worse: a clock that goes on elsewhere ends nothing."""
    with patch("time.monotonic", lambda: 1e9), patch("time.perf_counter", lambda: 1e9):
        assert ChatTemplate("{% for i in range(9) %}{{ i }}{% endfor %}").render([]) == "012345678"
    times = iter(range(0, 10**9, 4))
    with patch("time.thread_time", lambda: next(times)), pytest.raises(ChatTemplateError, match="more than 5 seconds"):
        ChatTemplate("{% for i in range(99) %}{{ i * 5000 }}{% endfor %}").render([])


def test_real_templates_have_an_eighth_of_the_tokens_at_most(shared: Callable[[str], Path]) -> None:
    with patch.object(meter, "UNITS", meter.UNITS // 8):
        for path in sorted(shared("templates").glob("*.jinja")):
            ChatTemplate(path.read_text(encoding="utf-8"))


def test_what_is_paid_for_is_jinjas_own() -> None:
    for source, expected in [
        ("{% for i in [1, 2] %}{% if loop is defined %}{{ i }}{{ loop.last }}{% endif %}{% endfor %}", "1False2True"),
        ("{% set x = [1, 2]|map('string') %}{% if x is defined and x is not none %}{{ x|join }}{% endif %}", "12"),
        ("{{ 'a b  c'.split() }}{{ 'a-b-c'.rsplit('-', 1) }}{{ 'abab'.rfind('b') }}", "['a', 'b', 'c']['a-b', 'c']3"),
        ("{{ 'x%d%%, %5.1f, **%s**' % (1, 2.25, 'a') }}{{ '%(a)3d' % {'a': 1} }}", "x1%,   2.2, **a**  1"),
        ("{{ 'in 20240726 %s' % 1 }}{{ '%s **' % 1 }}{{ '5%% **' % () }}", "in 20240726 11 **5% **"),
        ("{{ 7|round }}{{ 2.675|round(2) }}{{ 2.1|round(0, 'ceil') }}{{ 1234|round(-2) }}", "72.673.01200"),
        ("{{ dict([('a', 1)], b=2) }}{{ namespace({'a': 1}).a }}{{ ', '.join([1, 2]|map('string')) }}",
         "{'a': 1, 'b': 2}11, 2"),
        ("{{ 'abc'[1:] }}{{ [1, 2, 3][::-1] }}{{ 1 < 2 <= 2 != 3 }}{{ 'b' in 'abc' }}{{ 3 not in [1] }}",
         "bc[3, 2, 1]TrueTrueTrue"),
        ("{{ 3 is odd }}{{ 4 is divisibleby(2) }}{{ [[3, 1], [2]]|sort|sum(start=[]) }}", "TrueTrue[2, 3, 1]"),
        ("{{ 'a\nb'|indent(2) }}{{ 'a\nb'|indent('> ', true) }}{{ '12'|int + '0x1f'|int(base=16) }}",
         "a\n  b> a\n> b43"),
        ("{{ [{'a': {'b': 2}}, {'a': {'b': 1}}]|map(attribute='a.b')|list }}", "[2, 1]"),
        ("{% macro m(x) %}{{ x|length }}{% endmacro %}{% for i in [[1]] %}{{ m(i) }}{% endfor %}", "1"),
    ]:  # fmt: skip
        assert ChatTemplate(source).render([]) == expected, source


def test_long_conversations_are_within_the_bounds(shared: Callable[[str], Path]) -> None:
    words = "And then? " * 300
    turns = [{"role": role, "content": f"<b>{words}</b>"} for _ in range(150) for role in ("user", "assistant")]
    for path in sorted(shared("templates").glob("*.jinja")):
        if "firefunction" not in path.name:  # it wants more variables
            text = ChatTemplate(path.read_text(encoding="utf-8")).render([*turns, HELLO[0]], **TOKENS)
            assert text.count(words.strip()) >= 150, path.name


@pytest.mark.parametrize("value", ["1", "1.5", "true", "none", "-1", "(not 1)", "'a'", "(1, 2)", "x"])
@pytest.mark.parametrize("place", ["{{{{ {} }}}}", "{{% if {} %}}{{% endif %}}", "{{% set y = {} %}}"])
def test_python_has_nothing_to_warn_of(value: str, place: str) -> None:
    """It warns where it compiles what cannot work; jinja2 writes slices as Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for use in ("{}[1:2]", "{}[0]", "{}()", "{}.a", "{}[:][0]", "{} is sameas {}"):
            ChatTemplate(place.format(use.format(value, value)))
