"""Errors come through pickle and copy whole: pools of processes send them so."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages

import pytest

import llamaq
from llamaq.errors import LlamaqError


def subclasses(kind: type[LlamaqError]) -> Iterator[type[LlamaqError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def all_kinds() -> list[type[LlamaqError]]:
    """Wherever in the package they are defined; what stands on other frameworks needs these, and defines none."""
    foreign = ("llamaq.integrations.", "llamaq.distributed.ray")
    for module in walk_packages(llamaq.__path__, "llamaq.", onerror=lambda name: None):
        if not module.name.endswith("__main__") and not module.name.startswith(foreign):
            import_module(module.name)
    return sorted(set(subclasses(LlamaqError)), key=lambda kind: kind.__qualname__)


@pytest.mark.parametrize("kind", all_kinds(), ids=lambda kind: kind.__name__)
def test_errors_survive_pickle_and_copy(kind: type[LlamaqError]) -> None:
    keywords = inspect.getfullargspec(kind.__init__).kwonlyargs
    error = kind("the message", **{name: number for number, name in enumerate(keywords, 7)})
    pickled = [pickle.loads(pickle.dumps(error, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)]
    for again in (*pickled, copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert (str(again), again.args, vars(again)) == ("the message", ("the message",), vars(error))
    assert set(keywords) <= set(vars(error))
