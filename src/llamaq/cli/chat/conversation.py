"""A conversation with a model: what was said, how it goes on, and how it is kept in a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamaq.boundary.atomic import atomic_file
from llamaq.boundary.files import read_text
from llamaq.boundary.progress import Progress
from llamaq.chat import ChatEvent, ChatFinishReason, ChatMessage, ChatStream, chat_request
from llamaq.errors import LlamaqError

if TYPE_CHECKING:
    from llamaq.llm.llm import LLM
    from llamaq.sampling import SamplingParams
    from llamaq.serving.stream import Stream

__all__ = ["Conversation"]

_FORMAT = "llamaq-chat"


class Conversation:
    """``messages`` are the turns without the system message, ``options`` further ones of ``LLM.stream``."""

    def __init__(
        self,
        llm: LLM,
        *,
        sampling: SamplingParams,
        system: str = "",
        template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        **options: Any,
    ) -> None:
        self.llm = llm
        self.sampling = sampling
        self.system = system
        self.template = template
        self.template_kwargs = dict(template_kwargs or {})
        self.max_tokens = max_tokens
        self.options = options
        self.messages: list[ChatMessage] = []
        self._used: int | None = None
        self._interrupted: ChatMessage | None = None
        self.latest: Stream | None = None
        """The latest answer."""
        self.totals = [0, 0]
        """Tokens read and written since the beginning."""

    @property
    def said(self) -> list[ChatMessage]:
        """All messages, the system's first."""
        return [ChatMessage("system", self.system), *self.messages] if self.system else list(self.messages)

    @property
    def interrupted(self) -> bool:
        """Whether the last message is an answer that Ctrl-C ended."""
        return bool(self.messages) and self.messages[-1] is self._interrupted

    @property
    def used(self) -> int:
        """Tokens of the context in use."""
        if self._used is None:
            try:
                self._used = self.tokens()
            except (LlamaqError, ValueError):  # the next answer will tell what is wrong
                self._used = 0
        return self._used

    def changed(self) -> None:
        """The tokens in use are to be counted anew."""
        self._used = None

    def ask(self, text: str, pictures: Sequence[Path] = ()) -> None:
        """The user's turn."""
        self.messages.append(ChatMessage("user", text, pictures=tuple(pictures)))

    def answer(
        self, show: Callable[[ChatEvent], None], progress: Progress | None = None, looking: Progress | None = None
    ) -> ChatFinishReason | None:
        """The model's turn; None where Ctrl-C ended it. What came until then is kept; where nothing came, or with an
        error, the user's turn is taken back.

        Raises what ``LLM.chat`` raises.
        """
        reason: ChatFinishReason | None = None
        stream: ChatStream | None = None
        try:
            stream = self.llm.chat(
                self.said, stream=True, template=self.template, template_kwargs=self.template_kwargs,
                max_tokens=self.max_tokens, sampling=self.sampling, progress=progress,
                picture_progress=looking, **self.options,
            )  # fmt: skip
            self.latest = stream.text
            for event in stream:
                show(event)
                reason = event.finish_reason
        except KeyboardInterrupt:
            reason = None
        except BaseException:
            self.undo()
            raise
        self._finish(stream, reason)
        return reason

    def undo(self) -> ChatMessage | None:
        """Takes back the latest turn of the user and what followed; that turn, None where there is none."""
        while self.messages:
            message = self.messages.pop()
            if message.role == "user":
                self.changed()
                return message
        return None

    def again(self) -> bool:
        """Takes back the latest answer only, so that ``answer`` gives another one; whether there was a question."""
        question = self.undo()
        if question is not None:
            self.messages.append(question)
            if self.sampling.seed is not None:  # the old seed would give the same answer
                self.sampling = replace(self.sampling, seed=self.sampling.seed + 1)
        return question is not None

    def clear(self) -> None:
        """Forgets all turns; the system message stays."""
        self.messages.clear()
        self.changed()

    def tokens(self) -> int:
        """Tokens of the conversation as the model would read it."""
        if not self.said:
            return 0
        request = chat_request(
            self.llm.metadata, self.llm.tokenizer, self.said, template=self.template,
            template_kwargs=self.template_kwargs, encoder=self.llm.model.encoder,
        )  # fmt: skip
        return len(request.ids)

    def save(self, path: Path) -> None:
        """Writes the conversation as JSON. Raises ``LlamaqError`` where that cannot be done."""
        kept = {"format": _FORMAT, "version": 1, "messages": [_kept(message) for message in self.said]}
        if self.interrupted:
            kept["interrupted"] = True
        with atomic_file(path) as file:
            text = json.dumps(kept, ensure_ascii=False, indent=1)
            file.write(text.encode(errors="backslashreplace") + b"\n")  # JSON can escape what UTF-8 cannot spell

    def load(self, path: Path) -> None:
        """Takes what ``save`` wrote in the place of this conversation. Raises ``ValueError`` and ``LlamaqError``."""
        text = read_text(path, pipes=False)
        try:
            kept = json.loads(text)
            if kept["format"] != _FORMAT or kept["version"] != 1:
                raise ValueError("another format")
            messages = [_message(m) for m in kept["messages"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path}: not a conversation that /save wrote ({error})") from None
        self.system = messages.pop(0).content if messages and messages[0].role == "system" else ""
        self.messages = messages
        self._interrupted = messages[-1] if messages and kept.get("interrupted") is True else None
        self.changed()

    def _finish(self, stream: ChatStream | None, reason: ChatFinishReason | None) -> None:
        if stream is None:
            self.undo()
            return
        stream.cancel()
        if reason is None and stream.message == ChatMessage("assistant"):
            self.undo()
            return
        self.messages.append(stream.message)
        self._interrupted = self.messages[-1] if reason is None else None
        usage = stream.usage
        # The model was ahead of what came of an answer that Ctrl-C ended.
        self._used = None if reason is None else usage.prompt_tokens + usage.completion_tokens
        self.totals[0] += usage.prompt_tokens - usage.cached_tokens
        self.totals[1] += usage.completion_tokens


def _message(kept: Mapping[str, Any]) -> ChatMessage:
    pictures = tuple(Path(path) for path in kept.get("pictures", ()))
    reasoning = str(kept.get("reasoning_content", ""))
    return ChatMessage(str(kept["role"]), str(kept["content"]), reasoning, pictures=pictures)


def _kept(message: ChatMessage) -> dict[str, Any]:
    """A message as JSON has it, pictures by their paths."""
    found = replace(message, pictures=()).to_dict()
    return {**found, "pictures": [str(picture) for picture in message.pictures]} if message.pictures else found
