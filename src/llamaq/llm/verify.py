"""Receipts verified: the tokens are read again here, and every logit and every choice is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from llamaq import _core
from llamaq.boundary.arguments import instance
from llamaq.engine.loading import plan_of
from llamaq.errors import ContextOverflowError, ReceiptError, naming
from llamaq.gguf import GGUFFile
from llamaq.llm.llm import LLM
from llamaq.sampling import Sampler
from llamaq.serving.model import Model
from llamaq.serving.reading import PromptRequest, wait
from llamaq.serving.receipt import Receipt, Top
from llamaq.serving.recording import digest_of_all, logits_digest, short, top_logits
from llamaq.serving.request import F32, Capture

__all__ = ["Difference", "Verification", "context_of", "verify"]

_ROWS_BYTES = 1 << 26  # bytes of logits in a step


@dataclass(frozen=True)
class Difference:
    """Token number ``index`` of an answer, from 0: the one that a receipt has and the one that was chosen ``here``
    (None: choices are not compared any more); whether the ``logits`` differ; the largest of both sides."""

    index: int
    recorded: int
    here: int | None
    logits: bool
    top_recorded: Top
    top_here: Top


@dataclass(frozen=True)
class Verification:
    """What came of it: ``first`` is the first token with other bits (None: all are the same), of ``tokens``, of which
    ``differing`` differ. ``chosen`` says whether the tokens were chosen again, or their logits alone were compared.
    ``isa`` is the SIMD level here."""

    tokens: int
    differing: int
    chosen: bool
    isa: str
    first: Difference | None = None

    @property
    def same(self) -> bool:
        return self.first is None


def context_of(file: GGUFFile, receipt: Receipt) -> int:
    """The context to load the model with: no longer than the text where its length changes nothing."""
    needed = max(1, len(receipt.prompt) + len(receipt.tokens))
    if needed > receipt.n_ctx + 1:  # the last token of an answer that filled the context was not read
        raise ReceiptError(f"the receipt has {needed} tokens, its context {receipt.n_ctx}; it was altered")
    needed = min(needed, receipt.n_ctx)
    return needed if plan_of(file, needed)[1] == plan_of(file, receipt.n_ctx)[1] else receipt.n_ctx


def verify(llm: LLM, receipt: Receipt) -> Verification:
    """Whether an answer has the same bits here: reads the tokens of a receipt again, and compares the logits behind
    each and the choice (docs/receipts.md).

    The adapters that it was made with must be loaded, under whatever names.

    Raises ``ReceiptError`` for a receipt of another model, adapter or cache type, of fast numerics, or that was
    altered; ``ContextOverflowError`` where the context is too short.
    """
    model = instance("llm", llm, LLM, "an LLM, such as LLM.load gives").model
    instance("receipt", receipt, Receipt, "a Receipt, such as Receipt.load gives")
    model.check_writes()
    _check(model, receipt)
    request = _Verifying(model, receipt)
    if len(request.ids) > model.n_ctx:
        raise ContextOverflowError(
            f"the receipt's text has {len(request.ids)} tokens, the context {model.n_ctx}; raise n_ctx",
            needed=len(request.ids), available=model.n_ctx,
        )  # fmt: skip
    found: Verification = wait(model.scheduler, [request])[0]
    return found


def _check(model: Model, receipt: Receipt) -> None:
    """Raises ``ReceiptError`` where nothing can be said of a receipt here."""
    parts = model.parts
    if receipt.numerics != "exact" or parts.engine.numerics != "exact":
        where = "the receipt is of" if receipt.numerics != "exact" else "the model was loaded with"
        raise ReceiptError(f"{where} fast numerics, whose bits depend on the CPU: only exact ones can be verified")
    if model.adapters.of_key(receipt.adapters) is None:
        named = ", ".join(f"{digest[:16]}... (scale {scale:g})" for digest, scale in receipt.adapters)
        message = f"the answer went through LoRA files of SHA-256 {named}; load them by adapters"
        raise naming(ReceiptError(message), "adapters")
    if receipt.cache_type != parts.cache.cache_type:
        raise ReceiptError(
            f"the receipt's cache is {receipt.cache_type}, the model's {parts.cache.cache_type}; load it with that"
        )
    if not receipt.tokens:
        raise ReceiptError("the answer has no tokens, so that there is nothing to verify")
    if receipt.chosen_by_functions and None in receipt.logits:
        raise ReceiptError("functions of the caller took part, and some tokens have no logits to compare")
    size, ends = model.hparams.vocab_size, model.tokenizer.eog_ids
    if max(receipt.prompt + receipt.tokens) >= size or any(token in ends for token in receipt.tokens[:-1]):
        raise ReceiptError(f"the receipt has tokens beyond {size - 1}, or goes on after an end token; it was altered")
    if (ours := parts.sha256) != receipt.sha256 or parts.file.overridden:
        raise ReceiptError(
            f"the receipt is of a model with SHA-256 {receipt.sha256}, {parts.file.path} has {ours}; give that model"
        )
    if plan_of(parts.file, receipt.n_ctx)[1] != parts.engine.plan:
        raise ReceiptError(f"the model computes by the length of its context; load it with n_ctx={receipt.n_ctx}")


class _Verifying(PromptRequest):
    """Reads prompt and answer by itself, whatever the cache knows, and compares as it reads."""

    def __init__(self, model: Model, receipt: Receipt) -> None:
        ids = [*receipt.prompt, *receipt.tokens[:-1]]
        super().__init__(ids, len(receipt.prompt) - 1, adaptation=model.adapters.of_key(receipt.adapters))
        self._vocabulary = model.hparams.vocab_size
        self.max_rows = max(1, _ROWS_BYTES // (4 * self._vocabulary))
        self._receipt = receipt
        self._tokenizer = model.tokenizer
        self.begin()

    def begin(self) -> None:
        receipt = self._receipt
        self._digests: list[bytes | None] = []
        self._differences: list[Difference] = []
        self._candidates = _core.Candidates()
        self._sampler: Sampler | None = None
        self._forced: list[int] = []
        if not receipt.chosen_by_functions:
            try:
                self._sampler = Sampler(replace(receipt.sampling, seed=receipt.seed), self._tokenizer)
                receipt.sampling.check_vocabulary(self._vocabulary)
            except ValueError as error:
                raise ReceiptError(f"the receipt's sampling does not fit the model: {error}") from None
            self._sampler.feed(receipt.prompt)

    def collect(self, read: int, logits: F32, captured: Mapping[Capture, F32]) -> None:
        for row in logits:
            self._compare(len(self._digests), row)

    def finish(self) -> Verification:
        receipt, found = self._receipt, self._differences
        if not found and digest_of_all(self._digests) != receipt.digest:
            raise ReceiptError("the receipt's digest of all logits is not that of its tokens' digests; it was altered")
        first = found[0] if found else None
        chosen = not receipt.chosen_by_functions
        return Verification(len(receipt.tokens), len(found), chosen, _core.chosen_isa(), first)

    def _compare(self, index: int, logits: F32) -> None:
        receipt = self._receipt
        recorded = receipt.tokens[index]
        forced = self._sampler is not None and bool(self._forced)
        here = self._choice(logits)
        free = receipt.logits[index] is None and (forced or bool(self._differences))
        digest = None if free else logits_digest(logits)
        self._digests.append(digest)
        differs = short(digest) != receipt.logits[index]
        if differs or here not in (None, recorded):
            top = top_logits(self._candidates, logits)
            self._differences.append(Difference(index, recorded, here, differs, receipt.top[index], top))
        self._go_on(here, recorded, forced)

    def _choice(self, logits: F32) -> int | None:
        """The token that comes here; None where none is chosen."""
        if self._sampler is None:
            return None
        return self._forced.pop(0) if self._forced else self._sampler.sample(logits)

    def _go_on(self, here: int | None, recorded: int, forced: bool) -> None:
        """Tells the sampler the token; where it chose another, choices behind it say nothing."""
        if self._sampler is None or recorded in self._tokenizer.eog_ids:
            return
        if here != recorded:
            self._sampler, self._forced = None, []
            return
        self._sampler.accept(recorded)
        if not forced and self._receipt.forces:
            self._forced = self._sampler.forced()
