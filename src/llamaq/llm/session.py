"""``Session``: one text that grows, is forked, cut, saved and loaded; what was read of it is not read again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llamaq.boundary.arguments import instance, path_of, whole
from llamaq.boundary.progress import Progress
from llamaq.boundary.words import counted
from llamaq.llm import session_file
from llamaq.llm.calls import public
from llamaq.serving.adaptation import BASE, Adaptation
from llamaq.serving.model import Model
from llamaq.serving.reading import PromptRequest, wait
from llamaq.serving.stream import Completion, Stream

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from llamaq.serving.stream import Options

__all__ = ["Session"]


@public
class Session:
    """A text of a model, from ``LLM.session()``. It owns its tokens alone: keys and values are in the model's cache,
    shared with whoever has the same beginning, for as long as there is room; what had to go is read anew, which
    ``why`` then says. One thread at a time may use a session, but for ``cancel``; a new call ends an answer that is
    still being made.
    """

    def __init__(
        self, model: Model, tokens: Sequence[int] = (), expected: int = 0, *, adaptation: Adaptation = BASE
    ) -> None:
        self._model = instance("model", model, Model, "that of an LLM, whose method session() makes a Session")
        self._tokens = tuple(tokens)
        self._adaptation = adaptation
        self._expected = expected  # so many of the tokens were in the cache
        self._stream: Stream | None = None
        self._why = "nothing has been read yet"

    def __repr__(self) -> str:
        return f"<Session of {counted(len(self.tokens), 'token')}>"

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens so far: prompts and answers, these as far as their events have been read, without end tokens."""
        self._settle()
        return self._tokens if self._stream is None else tuple(self._stream.tokens)

    @property
    def text(self) -> str:
        """What the tokens say."""
        return self._model.tokenizer.decode(self.tokens)

    @property
    def n_past(self) -> int:
        """How many of the tokens the cache holds now."""
        return self._model.scheduler.known(self.tokens, self._adaptation.key)

    @property
    def why(self) -> str:
        """Why so much of the latest prompt, and no more, came from the cache."""
        return self._why if self._stream is None else self._stream.why

    def stream(
        self, text: str | bytes | Sequence[int] = "", *, progress: Progress | None = None, **options: Unpack[Options]
    ) -> Stream:
        """Goes on with ``text``, then lets the model answer; as ``LLM.stream``.

        The answer joins the session as its events are read. With ``overflow`` "truncate_left" or "shift" the session
        loses the tokens that the context had no room for.
        """
        if options.get("adapter") is not None:
            raise ValueError("adapter belongs to a session as a whole: LLM.session(adapter=...)")
        options = {**options, "adapter": dict(self._adaptation.parts)}
        ids = self._with(text)
        self._stream = self._model.start(ids, progress=progress, expected=self._expected, **options)
        return self._stream

    def generate(self, text: str | bytes | Sequence[int] = "", **options: Unpack[Options]) -> Completion:
        """``stream``, the whole answer at once."""
        return self.stream(text, **options).result()

    async def agenerate(self, text: str | bytes | Sequence[int] = "", **options: Unpack[Options]) -> Completion:
        """``generate`` for coroutines."""
        return await self.stream(text, **options).aresult()

    def extend(self, text: str | bytes | Sequence[int]) -> None:
        """Goes on with ``text`` and reads it now, so that an answer can begin at once.

        Raises ``ContextOverflowError`` where the context has no room for it; the session is as before then.
        """
        ids = self._model.fitting(self._with(text))
        request = PromptRequest(ids, len(ids) - 1, share=True, adaptation=self._adaptation)
        request.expected = self._expected
        wait(self._model.scheduler, [request])
        self._tokens, self._stream, self._expected, self._why = tuple(ids), None, len(ids), request.why

    def fork(self) -> Session:
        """Another session with the same text. Nothing is copied, whatever the length: tokens and pages are shared."""
        fork = Session(self._model, self.tokens, self._expected, adaptation=self._adaptation)
        fork._why = self.why
        return fork

    def truncate(self, n: int) -> None:
        """Forgets all but the first ``n`` tokens (negative: all but the last ``-n``)."""
        n = whole("n", n)
        self._settle(now=True)
        tokens = self.tokens[:n]
        self._tokens, self._stream, self._expected = tokens, None, min(self._expected, len(tokens))

    def cancel(self) -> None:
        """Ends the answer that is being made, from any thread."""
        if self._stream is not None:
            self._stream.cancel()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes tokens, keys and values to a file, whole or not at all; nothing else is in it.

        Raises ``SessionError`` where the disk refuses.
        """
        target = path_of("path", path)
        self._settle(now=True)
        session_file.save(target, self._model.parts, self._model.scheduler, self.tokens, self._adaptation.key)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Takes the text of a file that ``save`` wrote in the place of the session's own.

        Where the cache has room for its keys and values, nothing is read anew. Raises ``SessionError`` for a file that
        is no session, is damaged, or is of another model, adapter, cache type or version; ``ContextOverflowError`` for
        a text longer than the context.
        """
        source = path_of("path", path)
        self._settle(now=True)
        tokens, held = session_file.load(source, self._model.parts, self._model.scheduler, self._adaptation.key)
        self._tokens, self._stream, self._expected = tokens, None, held
        self._why = f"{held} of the {len(tokens)} tokens came from {path}"

    def _with(self, text: str | bytes | Sequence[int]) -> list[int]:
        self._settle(now=True)
        tokens = self._tokens
        if not tokens:
            return self._model.prompt_ids(text, "text")
        return self._model.prompt_ids([*tokens, *self._model.text_ids(text, continuation=True)])

    def _settle(self, *, now: bool = False) -> None:
        """Takes over the tokens of an answer that has come to its end, or (``now``) makes it end."""
        if self._stream is not None and (now or self._stream.ended):
            self._stream.cancel()
            self._tokens, self._why = tuple(self._stream.tokens), self._stream.why
            self._expected = min(len(self._tokens), self._stream.kept)
            self._stream = None
