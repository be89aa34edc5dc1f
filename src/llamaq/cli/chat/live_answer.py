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
from llamaq.cli.output import harmless

__all__ = ["LiveAnswer", "finished_blocks", "last_lines"]

_REFRESHES = 8  # drawings a second


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
        for text, reasons in ((harmless(event.reasoning), True), (harmless(event.text), False)):
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

    def looking(self, done: int, total: int) -> None:
        """Layers of the encoder that pictures are through and in total."""
        self._status = f"looking at the picture, {done} of {total} layers" if done < total else "..."

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._status:
            yield Text(self._status, style="dim")
            return
        # It stops short of the lines' ends: the ^C that a terminal echoes must not begin a new line.
        options = options.update(width=max(1, options.max_width - 4))
        height = max(1, console.height - 2)
        lines = console.render_lines(self._view(last_lines(self._growing, height)), options, pad=False)
        for line in lines[-height:]:
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
    end, at, fence, empty = 0, 0, "", False
    for line in text.splitlines(keepends=True):
        if empty and not fence and line.strip() and not line[0].isspace():
            end = at
        fence = _fence_after(line, fence)
        empty = not line.strip() and not fence
        at += len(line)
    return text[:end], text[end:]


def last_lines(text: str, count: int) -> str:
    """The last lines of growing Markdown, with the beginning of a fence that they are in: drawing takes time."""
    lines = text.splitlines(keepends=True)
    opening = fence = ""
    for line in lines[:-count]:
        before, fence = fence, _fence_after(line, fence)
        opening = line if fence and not before else opening if fence else ""
    return opening + "".join(lines[-count:])


def _fence_after(line: str, fence: str) -> str:
    """The marks of the fence that is open after a line, where ``fence`` is open before it; none: empty."""
    bare = line.strip()
    if fence:
        return "" if bare.startswith(fence) and not bare.strip(fence[0]) else fence
    return bare[: len(bare) - len(bare.lstrip(bare[0]))] if bare[:3] in ("```", "~~~") else ""
