"""Batch files with requests of every kind for the small model of the tests, and with lines that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from asgi import TEMPLATE
from llamaq.batch import BatchJob

__all__ = ["BAD", "job_of", "line_of", "requests_of", "write_lines"]

BAD = (
    "no JSON at all",
    '{"custom_id": "twice", "custom_id": "twice"}',
    '{"custom_id": "chat-0", "method": "POST", "url": "/v1/embeddings", "body": {"input": "again"}}',
    '{"method": "POST", "url": "/v1/embeddings", "body": {"input": "nameless"}}',
    '{"custom_id": "a", "method": "GET", "url": "/v1/embeddings", "body": {"input": "got"}}',
    '{"custom_id": "b", "method": "POST", "url": "/v1/images/generations", "body": {"prompt": "a cat"}}',
    '{"custom_id": "c", "method": "POST", "url": "/v1/embeddings", "body": "nothing"}',
)
"""Lines that are no requests, to follow those of ``requests_of``."""


def line_of(custom_id: str, url: str, **body: Any) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": f"/v1/{url}", "body": body})


def requests_of(count: int) -> list[str]:
    """Four requests for each number, one to each address. None of the first two has a seed."""
    found = []
    for i in range(count):
        said = [{"role": "user", "content": f"Tell of {i} cats"}]
        found += [
            line_of(f"chat-{i}", "chat/completions", model="any", messages=said, max_tokens=6 + i % 5, logprobs=True),
            line_of(f"text-{i}", "completions", prompt=[f"Once {i}", "Tom"], max_tokens=8, n=2, logprobs=2, echo=True),
            line_of(f"vector-{i}", "embeddings", input=[f"the number {i}", "a dog"]),
            line_of(f"response-{i}", "responses", input=f"Once upon {i}", max_output_tokens=5 + i % 3, seed=i),
        ]
    return found


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def job_of(model: Path, **options: Any) -> BatchJob:
    load = {"n_ctx": 128, "n_cache": 1024, "threads": options.pop("threads", 2), **options.pop("load", {})}
    return BatchJob(model, load, template=TEMPLATE, **options)
