"""What ``LLM`` tells of the answer that came last, which goes with the next release."""

from __future__ import annotations

import warnings

from llamaq.serving.stream import Stream, Usage

__all__ = ["Latest"]

_GOES = (
    "LLM.{0} goes: it is that of the answer that came last, of whatever thread; a Completion and a Stream have a {0}"
)


class Latest:
    """The deprecated attributes."""

    _latest: Stream | None = None

    @property
    def usage(self) -> Usage:
        """Deprecated: that of the answer that came last, of whatever thread; a ``Completion`` and a ``Stream`` have
        their own."""
        warnings.warn(_GOES.format("usage"), DeprecationWarning, stacklevel=2)
        return self._latest.usage if self._latest else Usage(0, 0, 0, 0.0, 0.0)

    @property
    def seed(self) -> int:
        """Deprecated, as ``usage`` is."""
        warnings.warn(_GOES.format("seed"), DeprecationWarning, stacklevel=2)
        return self._latest.seed if self._latest else 0
