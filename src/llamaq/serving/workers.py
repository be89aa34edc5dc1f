"""Threads for what may take any time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeAlias

__all__ = ["Workers"]

Task: TypeAlias = Callable[[], None]

_IDLE = 5.0  # seconds after which a thread without a task ends


class Workers:
    """Runs each task at once, on a free thread or a new one. No number of tasks that wait for others keeps one from
    running; whoever asks bounds the number."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._free: list[SimpleQueue[Task | None]] = []
        self._busy: set[SimpleQueue[Task | None]] = set()
        self._closed = False

    def run(self, task: Task) -> None:
        """Raises ``RuntimeError`` where the system has no thread for it."""
        with self._changed:
            is_new = not self._free
            queue: SimpleQueue[Task | None] = SimpleQueue() if is_new else self._free.pop()
            self._busy.add(queue)
        queue.put(task)
        try:
            if is_new:  # the end of the process does not wait for it
                threading.Thread(target=self._serve, args=(queue,), name="llamaq-worker", daemon=True).start()
        except BaseException:  # where this is Ctrl-C, the thread may have started
            with self._changed:
                self._busy.discard(queue)
            raise

    def close(self) -> None:
        """Lets the threads end, those with a task after it."""
        with self._changed:
            self._closed = True
            for queue in self._free:
                queue.put(None)
            self._free.clear()

    def wait(self, seconds: float) -> None:
        """Waits for the tasks to end, so long at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, seconds)

    def _serve(self, queue: SimpleQueue[Task | None]) -> None:
        while True:
            try:
                task = queue.get(timeout=_IDLE)
            except Empty:
                with self._changed:
                    if queue in self._free:
                        self._free.remove(queue)
                        return
                continue  # a task, or None, is on its way
            if task is None:
                return
            task()
            del task  # what it holds must not stay while the thread waits
            with self._changed:
                self._busy.discard(queue)
                self._changed.notify_all()
                if self._closed:
                    return
                self._free.append(queue)
