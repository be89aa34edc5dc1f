"""An HTTP server for clients of OpenAI, Anthropic, Ollama and llama-server: ``llamaq.server.app`` makes it of models,
for any ASGI server.

It needs the extra ``llamaq[server]``; importing this without it raises ``LlamaqError``.
"""

from __future__ import annotations

from llamaq.errors import LlamaqError

try:
    import starlette
except ImportError:
    raise LlamaqError("the server needs starlette: pip install 'llamaq[server]'") from None

from llamaq.server.app import app
from llamaq.server.settings import Settings

__all__ = ["Settings", "app"]

del starlette
