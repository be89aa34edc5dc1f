"""Pictures in messages: where they stand in a prompt, and the prompt's ids with their rows."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llamaq.boundary.progress import Progress
from llamaq.errors import ChatTemplateError
from llamaq.plan.inserted import Inserted, LookedAt
from llamaq.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llamaq.vision.encoder import Encoder
    from llamaq.vision.preprocess import PictureSource

__all__ = ["PICTURE_TYPES", "Places", "picture_in"]

PICTURE_TYPES = ("image_url", "image", "input_image")
"""Types of parts that are pictures: as OpenAI has them, as Hugging Face's templates have them, as in OpenAI's
responses."""


def picture_in(part: Mapping[str, Any]) -> PictureSource | None:
    """What a part of such a type has as its picture."""
    found = part.get("image_url", part.get("image"))
    return found.get("url") if isinstance(found, Mapping) else found


class Places:
    """Where pictures stand among the texts of a conversation. Templates write a mark for each, and texts in which the
    same mark stands get it back once the prompt is rendered."""

    def __init__(self, encoder: Encoder, sources: Sequence[PictureSource], progress: Progress | None = None) -> None:
        self._encoder, self._sources, self._progress = encoder, sources, progress
        self._mark = encoder.projector.placeholder
        self._hidden = secrets.token_hex(16)

    def marked(self, message: dict[str, Any], *, parts: bool) -> dict[str, Any]:
        """A message with a mark for each picture, or with ``parts`` as a list in which the template finds them."""
        message = self.without_marks(message)
        content = message["content"]
        if not isinstance(content, list):
            return message
        joined = "".join(part["text"] if part["type"] == "text" else self._mark for part in content)
        return {**message, "content": content if parts else joined}

    def ids(self, prompt: str, tokenizer: Tokenizer) -> tuple[str, list[int], tuple[Inserted | LookedAt, ...]]:
        """The rendered prompt as text, its ids without BOS, and the rows among them. Raises ``ChatTemplateError`` where
        it does not show each picture once, and what ``Encoder.pieces_of`` raises."""
        texts = prompt.split(self._mark)
        if len(texts) != len(self._sources) + 1:
            raise ChatTemplateError(
                f"the chat template shows {len(texts) - 1} of {len(self._sources)} pictures; choose one that was made "
                "for pictures"
            )
        texts = [text.replace(self._hidden, self._mark) for text in texts]
        ids: list[int] = []
        inserted: dict[int, Inserted | LookedAt] = {}
        waiting = texts[0]
        seen = self._encoder.pieces_of(self._sources, self._progress)
        for pieces, text in zip(seen, texts[1:], strict=True):
            for piece in (*pieces, text):
                if isinstance(piece, str):
                    waiting += piece
                    continue
                ids += tokenizer.encode(waiting, add_special=False, parse_special=True, continuation=bool(ids))
                ids += piece.ids
                inserted[piece.first] = piece
                waiting = ""
        ids += tokenizer.encode(waiting, add_special=False, parse_special=True, continuation=bool(ids))
        return self._mark.join(texts), ids, tuple(inserted.values())

    def without_marks(self, value: Any) -> Any:
        """The same, in whose texts the mark is hidden from ``ids``."""
        if isinstance(value, str):
            return value.replace(self._mark, self._hidden)
        if isinstance(value, Mapping):
            return {key: self.without_marks(each) for key, each in value.items()}
        return [self.without_marks(each) for each in value] if isinstance(value, list | tuple) else value
