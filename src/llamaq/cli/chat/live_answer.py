"""An answer as it comes, in Markdown: what is finished stays, what is still growing is drawn anew."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.padding import Padding
from rich.segment import Segment
from rich.text import Text

from llamaq.chat import ChatEvent

__all__ = ["LiveAnswer", "finished_blocks"]

_REFRESHES = 8  # a second


class LiveAnswer:
    """Takes the events of one answer; as a context manager it leaves the whole answer on the screen."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            console=console, get_renderable=lambda: self, refresh_per_second=_REFRESHES, transient=True, screen=False
        )
        self._status = "..."
        self._growing = ""
        self._reasons = False
        self._blocks = 0

    def __enter__(self) -> LiveAnswer:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status = ""
        rest, self._growing = self._growing, ""
        self._live.__exit__(kind, error, trace)
        self._keep(rest)

    def event(self, event: ChatEvent) -> None:
        """The next piece of the answer."""
        for text, reasons in ((event.reasoning, True), (event.text, False)):
            if not text:
                continue
            self._status = ""
            if reasons != self._reasons:
                rest, self._growing = self._growing, ""
                self._keep(rest)
                self._reasons = reasons
            done, self._growing = finished_blocks(self._growing + text)
            self._keep(done)

    def progress(self, done: int, total: int) -> None:
        """Tokens of the prompt read so far and in total."""
        self._status = f"reading {done} of {total} tokens" if done < total else "..."

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._status:
            yield Text(self._status, style="dim")
            return
        # Short of the lines' ends: the ^C that a terminal echoes must not begin a new line.
        options = options.update(width=max(1, options.max_width - 4))
        lines = console.render_lines(self._view(self._growing), options, pad=False)
        for line in lines[-max(1, console.height - 2) :]:
            yield from line
            yield Segment.line()

    def _keep(self, text: str) -> None:
        """Puts a finished part of the answer on the screen for good, above what is growing."""
        if text.strip():
            if self._blocks:
                self._console.print()
            self._blocks += 1
            self._console.print(self._view(text))

    def _view(self, text: str) -> Markdown | Padding:
        if self._reasons:
            return Padding(Text(text.strip("\n"), style="dim italic"), (0, 0, 0, 2))
        return Markdown(text)


def finished_blocks(text: str) -> tuple[str, str]:
    """Cuts Markdown where nothing that follows can change what is before: at the last empty line that is in no fence
    and that a line without indentation follows."""
    end, at, fence = 0, 0, ""
    empty = False
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        if fence:
            fence = "" if bare.startswith(fence) and not bare.strip(fence[0]) else fence
        elif bare[:3] in ("```", "~~~"):
            end = at if empty else end
            fence = bare[: len(bare) - len(bare.lstrip(bare[0]))]
        elif empty and bare and not line[0].isspace():
            end = at
        empty = not bare and not fence
        at += len(line)
    return text[:end], text[end:]
