"""A conversation judged by a Llama Guard model: how likely "safe" and "unsafe" are, and what categories it breaks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llamaq.boundary.arguments import instance, real
from llamaq.boundary.calls import answering
from llamaq.chat import ChatTemplate, choose_template
from llamaq.chat.messages import message_dicts
from llamaq.chat.request import checked, prompt_ids, special_texts
from llamaq.errors import ChatTemplateError
from llamaq.llm.calls import elsewhere
from llamaq.sampling import SamplingParams
from llamaq.serving.reading import Score, ScoreRequest, async_wait, wait
from llamaq.serving.stream import Stream
from llamaq.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llamaq.chat.options import Messages
    from llamaq.llm.llm import LLM

__all__ = ["Moderation", "amoderate", "moderate"]

_BEFORE = ("", " ", "\n", "\n\n")
"""White space with which an answer may begin."""
_LISTED = re.compile(r"^ *([A-Z]\d{1,2}) *[:.] *(.*\S)", re.MULTILINE)
_CODE = re.compile(r"[A-Z]\d{1,2}\b")
_MAX_TOKENS = 96
"""Tokens of all codes that a policy may have."""


@dataclass(frozen=True)
class Moderation:
    """The judgement of the last message: ``safe`` and ``unsafe`` are probabilities whose sum is 1; ``flagged`` says
    whether that of "unsafe" reaches the threshold. ``categories`` are those that a flagged message breaks, by code, in
    the words of the policy: ``{"S9": "Indiscriminate Weapons"}``."""

    flagged: bool
    safe: float
    unsafe: float
    categories: dict[str, str]


@answering(elsewhere=elsewhere)
def moderate(
    llm: LLM, messages: Messages, *, threshold: float = 0.5, template: str | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> Moderation:  # fmt: skip
    """Judges the last of ``messages`` (the user's, or the assistant's answer) with a model of the Llama Guard family.

    The prompt comes from the file's chat template, or from ``template``; ``template_kwargs`` are what else that takes,
    such as Llama Guard 3's ``categories``. Raises ``ChatTemplateError`` for a template of another kind, or one that
    does not show the messages, ``ContextOverflowError``, and ``ValueError`` for what are no messages.
    """
    judge = _Judge(llm, messages, threshold, template, template_kwargs)
    verdict = judge.verdict(wait(llm.model.scheduler, judge.requests()))
    return judge.named(verdict, judge.codes().result().text) if verdict.flagged else verdict


@answering(elsewhere=elsewhere)
async def amoderate(
    llm: LLM, messages: Messages, *, threshold: float = 0.5, template: str | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> Moderation:  # fmt: skip
    """``moderate`` for coroutines."""
    judge = _Judge(llm, messages, threshold, template, template_kwargs)
    verdict = judge.verdict(await async_wait(llm.model.scheduler, judge.requests()))
    return judge.named(verdict, (await judge.codes().aresult()).text) if verdict.flagged else verdict


class _Judge:
    """What is asked of the model, and what its answers mean."""

    def __init__(
        self, llm: LLM, messages: Messages, threshold: float, template: str | None,
        template_kwargs: Mapping[str, Any] | None,
    ) -> None:  # fmt: skip
        from llamaq.llm.llm import LLM

        instance("llm", llm, LLM, "an LLM")
        own = checked({"template": template, "template_kwargs": template_kwargs})
        self._threshold = real("threshold", threshold, 0.0, 1.0)
        self._model = llm.model
        tokenizer = llm.tokenizer
        chosen = choose_template(llm.metadata, own.get("template"))
        variables = {**special_texts(tokenizer), **own.get("template_kwargs", {})}
        said = message_dicts(messages)
        prompt = _prompt(chosen, said, variables)
        policy = _prompt(chosen, [{**message, "content": "-"} for message in said], variables)
        self._categories = {code: name.rstrip(".") for code, name in _LISTED.findall(policy)}
        if "unsafe" not in chosen.source or not self._categories:
            raise ChatTemplateError(
                f"{chosen.name} is none of Llama Guard's: it does not list categories and ask for safe or unsafe; "
                "load a Llama Guard model, or give its template"
            )
        self._ids = prompt_ids(tokenizer, prompt)
        self._spellings = {word: _spellings(tokenizer, word) for word in ("safe", "unsafe")}
        self._unsafe: tuple[int, ...] = ()

    def requests(self) -> list[ScoreRequest]:
        """One for each spelling of the words."""
        size = self._model.hparams.vocab_size
        texts = [[*self._ids, *ids] for ids in (*self._spellings["safe"], *self._spellings["unsafe"])]
        return [ScoreRequest(self._model.fitting(text), len(self._ids), size) for text in texts]

    def verdict(self, scores: Sequence[Score]) -> Moderation:
        count = len(self._spellings["safe"])
        sums = [score.sum for score in scores]
        self._unsafe = max(zip(sums[count:], self._spellings["unsafe"], strict=True))[1]
        safe, unsafe = _log_sum(sums[:count]), _log_sum(sums[count:])
        both = _log_sum([safe, unsafe])
        probability = math.exp(unsafe - both)
        return Moderation(probability >= self._threshold, math.exp(safe - both), probability, {})

    def codes(self) -> Stream:
        """What the model writes after "unsafe"."""
        sampling = SamplingParams(temperature=0)
        return self._model.start([*self._ids, *self._unsafe], sampling=sampling, max_tokens=_MAX_TOKENS)

    def named(self, verdict: Moderation, answer: str) -> Moderation:
        """With the categories that ``answer`` tells in its first line."""
        line = answer.strip().partition("\n")[0]
        codes = [code for code in _CODE.findall(line) if code in self._categories]
        categories = {code: self._categories[code] for code in codes}
        return Moderation(verdict.flagged, verdict.safe, verdict.unsafe, categories)


def _prompt(template: ChatTemplate, messages: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
    """Rendered with contents as text, or as lists of parts where the template wants those."""
    said = [message["content"] or "" for message in messages if message["role"] in ("user", "assistant")]
    parts = [{**message, "content": [{"type": "text", "text": message["content"] or ""}]} for message in messages]
    error: ChatTemplateError | None = None
    for given in (messages, parts):
        try:
            prompt = template.render(given, **variables)
        except ChatTemplateError as found:
            error = error or found
            continue
        if all(text.strip() in prompt for text in said):
            return prompt
    raise error or ChatTemplateError(f"{template.name} does not show the messages, so they cannot be judged")


def _spellings(tokenizer: Tokenizer, word: str) -> list[tuple[int, ...]]:
    found = (tokenizer.encode(space + word, add_special=False, continuation=True) for space in _BEFORE)
    return list(dict.fromkeys(map(tuple, found)))


def _log_sum(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(math.fsum(math.exp(log - top) for log in logs))
