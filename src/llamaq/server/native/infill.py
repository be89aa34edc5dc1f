"""POST /infill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from llamaq.errors import TokenizerError
from llamaq.llm.infill import infill_ids, with_stops
from llamaq.server.errors import Refusal
from llamaq.server.fields import Field
from llamaq.server.native.completion import Completion
from llamaq.server.native.protocol import INFILL, Parts
from llamaq.serving.stream import Options
from llamaq.tokenizer import Tokenizer

__all__ = ["Infill"]


class Infill(Completion):
    """What stands between two texts, from a model of code."""

    asked_in = "input_prefix"
    fields: ClassVar[Sequence[Field]] = INFILL

    def prompts(self) -> list[Parts]:
        return [self.values.get("input_prefix", "") + self.values.get("prompt", "")]

    def prompt_ids(self, prompt: Parts) -> list[int]:
        assert isinstance(prompt, str)
        tokenizer = self.served.llm.tokenizer
        try:
            ids = infill_ids(tokenizer, prompt, self.values.get("input_suffix", ""))
        except TokenizerError as error:
            raise Refusal(501, str(error)) from None
        files = self.values.get("input_extra", [])
        if not files:
            return ids
        begin = [tokenizer.bos_id] if tokenizer.bos_id is not None and ids[:1] == [tokenizer.bos_id] else []
        n_ctx = self.served.llm.n_ctx
        room = n_ctx - len(ids) - min(self.options()["max_tokens"] or n_ctx, n_ctx // 4)
        return [*begin, *_files_ids(tokenizer, files)[-room:], *ids[len(begin) :]] if room > 0 else ids

    def options(self) -> Options:
        return with_stops(self.served.llm.tokenizer, super().options())


def _files_ids(tokenizer: Tokenizer, files: Sequence[tuple[str, str]]) -> list[int]:
    """Other files of a project, as models of code have seen them: with their marks, where the vocabulary has those."""
    repository, file = tokenizer.special.fim_rep, tokenizer.special.fim_sep

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special=False, continuation=True)

    found = [] if repository is None else [repository, *ids("project\n")]
    for name, text in files:
        found += ids(f"--- {name} ---\n") if file is None else [file, *ids(f"{name}\n")]
        found += ids(f"{text}\n")
    return found if file is None else [*found, file, *ids("here\n")]
