"""lm-evaluation-harness: a model in this process. Needs the package lm-eval.

lm_eval.simple_evaluate(model=LlamaqLM("model.gguf"), tasks=["arc_easy"])
python -m llamaq.integrations.lm_eval --model llamaq --model_args model=model.gguf --tasks arc_easy
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from llamaq.chat.request import chat_request
from llamaq.chat.templates import file_templates
from llamaq.llm.llm import LLM
from llamaq.sampling import SamplingParams

__all__ = ["LlamaqLM"]

_T = TypeVar("_T")
_MOST_TOKENS = 256  # tokens of an answer, where a task does not say


@register_model("llamaq")
class LlamaqLM(TemplateLM):  # type: ignore[misc, unused-ignore]
    """``model`` is what ``LLM.load`` takes, or an ``LLM``; ``together`` requests are read at once, and ``load`` are
    further options of ``LLM.load``: n_cache is the room for them all."""

    def __init__(
        self, model: str | LLM | None = None, *, together: int = 8, max_gen_toks: int = _MOST_TOKENS,
        batch_size: Any = None, device: Any = None, max_batch_size: Any = None, **load: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        if not isinstance(model, LLM) and load.get("n_ctx") and "n_cache" not in load:
            load["n_cache"] = together * int(load["n_ctx"])
        self.llm = model if isinstance(model, LLM) else LLM.load(model, **load)
        self._name = str(self.llm.model.parts.file.path)
        self._together = together
        self._max_gen_toks = max_gen_toks

    @property
    def eot_token_id(self) -> int:
        return self.llm.tokenizer.eos_id or 0

    @property
    def prefix_token_id(self) -> int:
        bos = self.llm.tokenizer.bos_id
        return self.eot_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        return self._name.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids; one BOS where the file asks for it, also where a template has written it already."""
        tokenizer = self.llm.tokenizer
        ids = tokenizer.encode(string, add_special=False, parse_special=True)
        if add_special_tokens is False or not tokenizer.add_bos or ids[:1] == [tokenizer.bos_id]:
            return ids
        return [self.prefix_token_id, *ids]

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The file's own, for the record of what was run."""
        return file_templates(self.llm.metadata).get("default", "") if chat_template else ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as the file's template writes it; a last message of the assistant is gone on with."""
        return chat_request(self.llm.metadata, self.llm.tokenizer, chat_history).prompt

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-probability of whole texts, in windows of the context."""
        return self._each(lambda request: self._rolling(request.args[0]), requests)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers up to the first of the texts ``until``."""
        return self._each(lambda request: self._generated(*request.args), requests)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """The log-probability of each continuation, and whether it is the likeliest text."""
        return self._each(lambda request: self._scored(request[1], request[2]), requests)

    def _each(self, ask: Callable[[Any], _T], requests: Sequence[Any]) -> list[_T]:
        """Answers to all requests, some at a time: the model reads them together."""
        with ThreadPoolExecutor(self._together) as pool:
            return list(pool.map(ask, requests))

    def _scored(self, context: list[int], continuation: list[int]) -> tuple[float, bool]:
        context = context[max(0, len(context) + len(continuation) - self.llm.n_ctx) :]
        score = self.llm.score(continuation, prompt=context, top_logprobs=1)
        likeliest = all(top[0][0] == token for top, token in zip(score.top_logprobs, score.tokens, strict=True))
        return score.sum, likeliest

    def _rolling(self, text: str) -> float:
        ids = self.tok_encode(text, add_special_tokens=False)
        windows = get_rolling_token_windows(ids, self.prefix_token_id, self.llm.n_ctx - 1, 1)
        return sum(self._scored(*make_disjoint_window(window))[0] for window in windows)

    def _generated(self, context: str, given: dict[str, Any]) -> str:
        wanted = dict(given)
        until = wanted.pop("until", None) or []
        most = int(wanted.pop("max_gen_toks", self._max_gen_toks))
        if not wanted.pop("do_sample", wanted.get("temperature", 0) > 0):
            wanted["temperature"] = 0.0
        known = {name: value for name, value in wanted.items() if name in SamplingParams.__dataclass_fields__}
        stop = [until] if isinstance(until, str) else list(until)
        ids = self.tok_encode(context)[-max(1, self.llm.n_ctx - most) :]
        return self.llm.generate(ids, max_tokens=most, stop=stop, sampling=SamplingParams(**known)).text


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
