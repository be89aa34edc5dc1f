"""The part of ``LLM`` that tells how likely texts are."""

from __future__ import annotations

from llamaq.boundary.arguments import INT32, whole
from llamaq.llm.calls import public
from llamaq.serving.adaptation import AdapterChoice
from llamaq.serving.model import Model, Prompt, token_ids
from llamaq.serving.reading import Score, ScoreRequest, async_wait, wait

__all__ = ["Scoring"]


class Scoring:
    """Its methods are those of ``LLM``."""

    model: Model

    def score(
        self, text: Prompt, *, prompt: Prompt = "", top_logprobs: int = 0, adapter: AdapterChoice = None
    ) -> Score:
        """How likely the model finds a text after a prompt: the log-probability of each of its tokens, and of so many
        of the most likely tokens in the place of each.

        Without a prompt the text begins after BOS, or with its own first token, which then has no probability.
        Raises ``ContextOverflowError`` where both exceed the context, ``ModelError`` for logits that are not numbers.
        """
        score: Score = wait(self.model.scheduler, [self._scoring(text, prompt, top_logprobs, adapter)])[0]
        return score

    async def ascore(
        self, text: Prompt, *, prompt: Prompt = "", top_logprobs: int = 0, adapter: AdapterChoice = None
    ) -> Score:
        """``score`` for coroutines."""
        score: Score = (await async_wait(self.model.scheduler, [self._scoring(text, prompt, top_logprobs, adapter)]))[0]
        return score

    def _scoring(self, text: Prompt, prompt: Prompt, top_logprobs: int, adapter: AdapterChoice) -> ScoreRequest:
        model = self.model
        model.check_writes()
        top = whole("top_logprobs", top_logprobs, 0, INT32)
        prompt = prompt if isinstance(prompt, str | bytes) else token_ids("prompt", prompt)
        before = model.prompt_ids(prompt) if prompt else []
        ids = [*before, *model.text_ids(text, "text", continuation=True)] if prompt else text
        ids = model.fitting(model.prompt_ids(ids, "text"))
        scoring = ScoreRequest(ids, len(before) or 1, model.hparams.vocab_size, top)
        scoring.adaptation = model.adapters.of(adapter)
        return scoring


public(Scoring, called="LLM")
