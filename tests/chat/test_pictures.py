"""Pictures in messages: their places in prompts, what messages may have as one, and answers to them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llamaq import LLM
from llamaq.chat import ChatMessage
from llamaq.errors import ChatTemplateError, ImageError, ReceiptError
from llamaq.gguf import GGUFFile
from llamaq.sampling import SamplingParams
from vision_cases import picture

PARTS = (  # Gemma 3's are such
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content | trim }}{% else %}"
    "{% for p in m.content %}{% if p['type'] == 'image' %}<start_of_image>{% else %}{{ p['text'] | trim }}{% endif %}"
    "{% endfor %}{% endif %}b{% endfor %}"
)
TEXTS = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}b{% endfor %}"
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def llm(shared: Callable[[str], Path]) -> Iterator[LLM]:
    file = GGUFFile.open(shared("tiny-models/gemma3v.gguf"))
    types = np.array(file.metadata["tokenizer.ggml.token_type"], np.int32)
    types[10:13] = 3
    file.override({"tokenizer.ggml.token_type": types.tolist(), "tokenizer.chat_template": PARTS})
    with LLM.load(file, mmproj=shared("tiny-models/gemma3v-mmproj.gguf"), threads=2) as llm:
        yield llm


def rows(llm: LLM, *pictures: Any) -> list[list[int]]:
    assert llm.model.encoder is not None
    pieces = [llm.model.encoder.pieces(picture) for picture in pictures]
    return [list(piece.ids) for each in pieces for piece in each if not isinstance(piece, str)]


def asked(*content: Any, role: str = "user") -> list[dict[str, Any]]:
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    return [{"role": role, "content": parts}]


def image(source: Any) -> dict[str, Any]:
    return {"type": "image", "image": source}


@pytest.mark.parametrize("template", [PARTS, TEXTS])
def test_rows_stand_where_the_picture_stood(llm: LLM, template: str) -> None:
    one, two = picture(30, 20, 1), picture(30, 20, 2)
    request = llm.render_chat(asked("ab", image(one), "b", image(two), image(one), "a"), template=template)
    first, second = rows(llm, one, two)
    encode = llm.tokenizer.encode
    between = "<end_of_image>\n\n{}\n\n<start_of_image>"
    want = encode("<s><user>ab\n\n<start_of_image>", add_special=False, parse_special=True)
    for ids, text in ((first, between.format("b")), (second, between.format("")), (first, "<end_of_image>\n\nab")):
        want += ids + encode(text, add_special=False, parse_special=True, continuation=True)
    assert request.ids == want
    assert [each.first for each in request.inserted] == [first[0], second[0]]
    mark = "<start_of_image>"
    assert request.prompt == f"<s><user>ab{mark}b{mark}{mark}ab"


def test_marks_in_texts_are_texts(llm: LLM) -> None:
    """Whoever writes a mark moves no picture."""
    mark = "<start_of_image>"
    shown = picture(9, 9)
    said = [{"role": "system", "content": f"a{mark}"}, *asked(f"b{mark}", image(shown), mark)]
    request = llm.render_chat(said)
    assert request.prompt == f"<s><system>a{mark}b<user>b{mark}{mark}{mark}b"
    (ids,) = rows(llm, shown)
    at = request.ids.index(ids[0])
    assert request.ids[at : at + len(ids)] == ids
    marks = llm.tokenizer.encode(mark, add_special=False, parse_special=True)
    assert request.ids[:at].count(marks[0]) == 3  # two that were written, and the picture's own
    assert request.ids[at:].count(marks[0]) == 1


def test_marks_in_calls_and_tools_are_texts(llm: LLM) -> None:
    mark = "<start_of_image>"
    template = TEXTS + "{% for m in messages %}{{ m.tool_calls or '' }}{% endfor %}{{ tools | tojson }}{{ more }}"
    call = {"function": {"name": "f", "arguments": {"a": [f"x{mark}"]}}}
    tool = {"type": "function", "function": {"name": "f", "description": mark, "parameters": {}}}
    said = [{"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": mark}]
    request = llm.render_chat([*asked(image(picture(9, 9))), *said], template=template, tools=[tool],
                              tool_format="hermes", template_kwargs={"more": {"m": mark}})  # fmt: skip
    assert request.prompt.count(mark) == 5
    assert request.prompt.startswith(f"<s><user>{mark}b")
    assert len(request.inserted) == 1


def test_all_that_a_message_may_have_as_a_picture(llm: LLM, tmp_path: Path) -> None:
    pixels = picture(20, 10)
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    path = tmp_path / "cat.png"
    path.write_bytes(out.getvalue())
    url = "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}, image(path), image(out.getvalue())]
    parts += [{"type": "image_url", "image_url": url}, {"type": "input_image", "image_url": url}, image(pixels)]
    parts += [image(Image.fromarray(pixels)), {"type": "image_url", "image_url": {"url": path}}]
    want = llm.render_chat(asked(image(pixels), "a")).ids
    for part in parts:
        assert llm.render_chat(asked(part, "a")).ids == want
    assert llm.render_chat([ChatMessage("user", "a", pictures=(path,))]).ids == want


def test_answers_see_the_picture_and_find_it_in_the_cache(llm: LLM) -> None:
    options: Any = {"max_tokens": 6, "sampling": GREEDY}
    one, two = (asked(image(picture(64, 64, seed)), "ab") for seed in (1, 2))
    first = llm.chat(one, **options)
    other = llm.chat(two, **options)
    again = llm.chat(one, **options)
    assert again.text == first.text
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1
    assert other.usage.cached_tokens < 12
    options["sampling"] = SamplingParams(temperature=0, logprobs=1)
    of_one, of_two = ([event.logprob for event in llm.chat(each, stream=True, **options)] for each in (one, two))
    assert of_one != of_two


@pytest.mark.parametrize(
    ("messages", "error", "message"),
    [
        (asked(image("cat.png"), "a"), ImageError, "must be a data URL"),
        (asked({"type": "image_url", "image_url": {"url": "http://x/y.png"}}), ImageError, "nothing is fetched"),
        (asked(image(Path("nowhere.png"))), ImageError, "nowhere.png: the picture cannot be read"),
        (asked(image(7)), TypeError, "expected a data URL"),
        (asked({"type": "image_url"}), ValueError, "list of text parts and pictures"),
        (asked(image(picture(2, 2)), role="system"), ValueError, "pictures stand in messages of the role user"),
    ],
)  # fmt: skip
def test_what_is_refused(llm: LLM, messages: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        llm.chat(messages)


def test_templates_that_show_no_pictures_are_refused(llm: LLM) -> None:
    with pytest.raises(ChatTemplateError, match="shows 0 of 1 pictures"):
        llm.chat(asked(image(picture(2, 2)), "a"), template="{% if false %}{{ 'image' }}{% endif %}ab")


def test_texts_with_pictures_are_not_kept_on_disk(shared: Callable[[str], Path], tmp_path: Path) -> None:
    """In another process the same ids may stand for another picture."""
    file, projector = shared("tiny-models/gemma3v.gguf"), shared("tiny-models/gemma3v-mmproj.gguf")
    options: dict[str, Any] = {"sampling": GREEDY, "max_tokens": 1, "template": TEXTS}
    with LLM.load(file, mmproj=projector, threads=2, n_ctx=1024, cache_dir=tmp_path) as llm:
        llm.chat(asked(image(picture(9, 9)), "ab" * 400), **options)
    assert not [*tmp_path.glob("*/*.block")]
    with LLM.load(file, mmproj=projector, threads=2, n_ctx=1024, cache_dir=tmp_path) as llm:
        llm.chat(asked("ab" * 400), **options)
    assert [*tmp_path.glob("*/*.block")]


def test_a_receipt_has_no_pictures(llm: LLM) -> None:
    with pytest.raises(ReceiptError, match="picture"):
        llm.chat(asked(image(picture(9, 9))), max_tokens=1, receipt=True)
