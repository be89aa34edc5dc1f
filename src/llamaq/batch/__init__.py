"""Files of requests in OpenAI's batch format, answered as the server answers them, with the same bytes each time."""

from __future__ import annotations

from llamaq.batch.answering import Answerer
from llamaq.batch.job import BatchJob
from llamaq.batch.requests import URLS, Request
from llamaq.batch.run import Answering, Summary, run_batch

__all__ = ["URLS", "Answerer", "Answering", "BatchJob", "Request", "Summary", "run_batch"]
