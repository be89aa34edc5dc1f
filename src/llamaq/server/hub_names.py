"""Names of models on the Hugging Face hub, as clients say them."""

from __future__ import annotations

import re

from llamaq.hub.address import Address, address_of, is_url

__all__ = ["hub_address"]

_REPO = re.compile(r"[\w.-]+/")


def hub_address(name: str) -> Address | None:
    """What ``hf.co/user/repo:QUANT``, ``hf:user/repo`` and ``user/repo`` mean; None for any other name, and for a URL:
    clients name no hosts. Raises ``ValueError`` for a wrong one."""
    if is_url(name):
        return None
    found = address_of(name)
    if found is None and _REPO.match(name):
        found = address_of(f"hf:{name}")
    if found is not None and found.file and not found.file.lower().endswith(".gguf"):
        return None
    return found
