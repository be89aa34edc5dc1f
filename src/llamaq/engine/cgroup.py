"""The control groups that bound this process (Linux, versions 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["groups", "number", "text"]

_MOUNTS = ("sys/fs/cgroup", "sys/fs/cgroup/{}", "sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/unified")


def groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Folders of this process's group for ``controller`` ("cpu", "memory") and of those around it.

    They need not exist: a container may see its own group as the root of the mount, so that is yielded as well.
    """
    for line in (text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if controllers and controller not in controllers.split(","):
            continue
        for mount in (root / mount.format(controller) for mount in _MOUNTS):
            folder = mount / path.lstrip("/")
            for group in (folder, *folder.parents):
                if not group.is_relative_to(mount):
                    break
                yield group


def text(path: Path) -> str | None:
    """A file's text without the white space around it; None where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def number(path: Path) -> float | None:
    """A file's only number; None where it holds something else."""
    try:
        return float(text(path) or "")
    except ValueError:
        return None
