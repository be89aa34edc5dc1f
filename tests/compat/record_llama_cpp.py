"""Records what llama-cpp-python itself gives for the calls of ``llama_cpp_calls``, for test_same_as_llama_cpp.py. Run
by hand, with that package installed:

    PYTHONPATH=src python tests/compat/record_llama_cpp.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from llama_cpp_calls import observed, story_model

RECORD = Path(__file__).with_name("llama_cpp.json")


def plain_weights(low: Any) -> None:
    """Leaves weights as they are in the file: the AMX kernels of llama.cpp crash in some virtual machines."""
    defaults = low.llama_model_default_params

    def changed() -> Any:
        parameters = defaults()
        parameters.use_extra_bufts = False
        return parameters

    low.llama_model_default_params = changed


if __name__ == "__main__":
    import llama_cpp

    plain_weights(llama_cpp.llama_cpp)
    with tempfile.TemporaryDirectory() as folder:
        found = {"version": llama_cpp.__version__, **observed(llama_cpp, story_model(Path(folder)))}
    entries = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.pop("results").items()]
    rest = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items()]
    results = ",\n  ".join(entries)
    RECORD.write_text("{\n " + ",\n ".join(rest) + f',\n "results": {{\n  {results}\n }}\n}}\n', encoding="utf-8")
