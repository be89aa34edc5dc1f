"""A plugin of pytest: tests that ask for what the server refuses must fail, and all of that list must be there.

``SDK_SUITE`` names the SDK.
"""

from __future__ import annotations

import importlib
import os
import re

import pytest

from sdk_suites.refusals import ANTHROPIC, OPENAI, Refusal

_SUITES = {"openai": OPENAI, "anthropic": ANTHROPIC}
_WAYS = "test_(method|raw_response|streaming_response)_"


def _asks(item: pytest.Item, refusal: Refusal) -> bool:
    name, _, client = item.name.partition("[")
    return (
        item.path.as_posix().endswith(f"tests/api_resources/{refusal.file}")
        and re.fullmatch(rf"{_WAYS}{refusal.operation}(_overload_\d)?", name) is not None
        and (not refusal.only or client.rstrip("]") in refusal.only)
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    sdk = os.environ["SDK_SUITE"]
    module = importlib.import_module(sdk)
    for refusal in _SUITES[sdk]:
        asking = [item for item in items if _asks(item, refusal)]
        if not asking:
            raise pytest.UsageError(f"no test is left that this is about: {refusal}")
        for item in asking:
            error = getattr(module, refusal.error)
            item.add_marker(pytest.mark.xfail(raises=error, reason=refusal.why, strict=True))
