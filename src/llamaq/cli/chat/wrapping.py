"""Text for a terminal that is broken between words, as it comes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

__all__ = ["WordWrap"]


class WordWrap:
    """Hands text on to ``write`` with line breaks in the place of spaces, so that no line is longer than ``width``
    columns (0: no matter). A word waits until it ends; one that is longer than a line is broken by the terminal."""

    def __init__(self, write: Callable[[str], None], width: int) -> None:
        self._write = write
        self._width = width
        self._column = 0
        self._spaces = ""
        self._word = ""
        self._long = 0  # columns of the word
        self._begun = False  # it is longer than a line, and its beginning is written

    def write(self, text: str) -> None:
        """More text."""
        if not self._width:
            self._write(text)
            return
        for letter in text:
            if letter == "\n":
                self.flush()
                self._write("\n")
                self._column = 0
            elif letter in " \t":
                self._end_word()
                self._spaces += letter
            else:
                size = _columns(letter)
                if size == 2:  # lines of Chinese or Japanese may break anywhere
                    self._end_word()
                self._word += letter
                self._long += size
                if size == 2:
                    self._end_word()
                elif self._long >= self._width:
                    self._end_word()
                    self._begun = True

    def flush(self) -> None:
        """The word and the spaces that wait."""
        self._end_word()
        if self._spaces:
            self._write(self._spaces)
            self._column += len(self._spaces)
            self._spaces = ""

    def _end_word(self) -> None:
        begun, self._begun = self._begun, False
        if not self._word:
            return
        columns = len(self._spaces) + self._long
        if self._column and self._column + columns > self._width and not begun:
            self._write("\n")
            self._column, self._spaces, columns = 0, "", self._long
        self._write(self._spaces + self._word)
        self._column = (self._column + columns - 1) % self._width + 1
        self._spaces, self._word, self._long = "", "", 0


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
