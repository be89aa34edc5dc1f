"""GET /props, /slots and /lora-adapters: what the server tells of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from llamaq import __version__
from llamaq.chat.request import special_texts
from llamaq.sampling import SamplingParams
from llamaq.server.about import quantization, template_facts, template_of
from llamaq.server.dialect import json_response
from llamaq.server.errors import Refusal
from llamaq.server.native.told import settings_of
from llamaq.server.service import Service

__all__ = ["adapters", "no_adapters", "no_props", "no_slot", "props", "slots"]

_NO_DEFAULT = ("dry_sequence_breakers", "grammar", "grammar_lazy", "grammar_triggers", "logit_bias", "preserved_tokens",
               "stop")  # fmt: skip
"""Settings of an answer that llama-server leaves out of the defaults."""
_ANY_SEED = 2**32 - 1  # llama.cpp's number for a seed that is drawn


async def props(service: Service, request: Request) -> Response:
    settings = service.settings
    entry = service.models.find(request.query_params.get("model"))
    if entry.served is None:
        raise Refusal(400, f"{entry.name} is not in memory: ask it for something first", param="model")
    llm = entry.served.llm
    file = llm.model.parts.file
    sees, n_ctx = llm.model.encoder is not None, llm.n_ctx
    special = special_texts(llm.tokenizer)
    template, caps = await asyncio.to_thread(_template, llm.metadata, settings.template)  # it may be unloaded meanwhile
    params = {**settings_of(SamplingParams(), {}), "seed": _ANY_SEED}
    return json_response(
        {
            "default_generation_settings": {
                "params": {name: value for name, value in params.items() if name not in _NO_DEFAULT},
                "n_ctx": n_ctx,
            },
            "total_slots": settings.parallel, "model_alias": entry.name, "model_ftype": quantization(file),
            "model_path": file.path.name, "modalities": {"vision": sees, "video": False, "audio": False},
            "endpoint_slots": settings.slots, "endpoint_props": False, "endpoint_metrics": settings.metrics,
            "ui": settings.page,
            "chat_template": template, "chat_template_caps": caps,
            "bos_token": special["bos_token"], "eos_token": special["eos_token"], "build_info": f"llamaq-{__version__}",
            "is_sleeping": False, "cors_proxy_enabled": False,
        }
    )  # fmt: skip


def no_props(service: Service, request: Request) -> Response:
    raise Refusal(501, "this server's settings do not change while it runs; its options set them")


def slots(service: Service, request: Request) -> Response:
    """Answers that run, as the slots that llama-server would have for them."""
    if not service.settings.slots:
        raise Refusal(501, "this server does not tell what runs; start it with --slots")
    places, running = service.settings.parallel, service.admission.running
    if request.query_params.get("fail_on_no_slot") and running >= places:
        raise Refusal(503, "no slot is available: as many answers run as may", retry_after=1)
    n_ctx = max((served.llm.n_ctx for served in service.models.loaded), default=0)
    counts = [stream.usage for stream in service.streams]
    found = []
    for id in range(places):
        slot: dict[str, Any] = {"id": id, "n_ctx": n_ctx, "speculative": False, "is_processing": id < running}
        if id < min(running, len(counts)):
            slot["n_prompt_tokens"] = counts[id].prompt_tokens
            slot["next_token"] = [{"n_decoded": counts[id].completion_tokens}]
        found.append(slot)
    return json_response(found)


def no_slot(service: Service, request: Request) -> Response:
    raise Refusal(501, "there are no slots to save, restore or erase: what was read is shared by all requests")


def adapters(service: Service, request: Request) -> Response:
    """Those that the only model, or the first that is loaded, was given, with the scales that they have by default."""
    llm = next((served.llm for served in service.models.loaded), None)
    loaded = () if llm is None else llm.adapters
    return json_response(
        [
            {"id": id, "path": adapter.path.name, "scale": llm.adapter.get(adapter.name, 0.0) if llm else 0.0}
            for id, adapter in enumerate(loaded)
        ]
    )


def no_adapters(service: Service, request: Request) -> Response:
    raise Refusal(501, "scales do not change while the server runs: each request says its own, in its field lora")


def _template(metadata: Mapping[str, Any], choice: str | None) -> tuple[str, dict[str, bool]]:
    """The chat template in use, and what it can be given: parts of a content are joined, so that none need know them.
    It renders the template; runs in a thread."""
    template, facts = template_of(metadata, choice), template_facts(metadata, choice)
    return "" if template is None else template.source, {
        "supports_string_content": True, "supports_typed_content": False, "supports_system_role": facts.system,
        "supports_tools": facts.tools, "supports_tool_calls": facts.tool_calls,
        "supports_parallel_tool_calls": facts.tool_calls, "supports_object_arguments": facts.object_arguments,
        "supports_preserve_reasoning": False, "supports_reasoning_effort": facts.effort,
    }  # fmt: skip
