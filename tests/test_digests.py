"""Bits that must not change by themselves: logits, sampled tokens, session files and quantized files of real models.

``python tests/test_digests.py`` records them anew, for a change that is meant to move them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from llamaq import LLM, SamplingParams
from llamaq.engine import bundled
from llamaq.quantization import quantize

RECORDED = Path(__file__).parent / "data" / "digests.json"
IDS = [1 + 7 * i * i % 250 for i in range(75)]  # they fill two pages of the cache, and some of a third
FORMATS = ["Q4_0", "Q8_0", "Q4_K_M", "IQ4_XS", "Q6_K"]


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:24]


def model_digests(path: Path, folder: Path) -> dict[str, str]:
    """Digests of what a model makes of a text."""
    with LLM.load(path, n_ctx=128, threads=2, n_batch=32) as llm:
        answer = llm.generate(IDS, max_tokens=40, sampling=SamplingParams(seed=1, ignore_eos=True))
        session = llm.session()
        session.extend(IDS)
        session.save(folder / "a.session")
        return {
            "logits": digest(llm.logits(IDS).tobytes()),
            "sampled": digest(bytes(str(answer.tokens), "ascii")),
            "hidden": digest(llm.forward(IDS, capture=["hidden"]).hidden.tobytes()),
            "embedding": digest(llm.embed([IDS]).tobytes()),
            "score": digest(llm.score(IDS).logprobs.tobytes()),
            "session": digest((folder / "a.session").read_bytes()),
        }


def quantized_digests(path: Path, folder: Path) -> dict[str, str]:
    """Digests of the files that quantizing makes."""
    found = {}
    for name in FORMATS:
        target = folder / f"{name}.gguf"
        quantize(path, target, name)
        found[name] = digest(target.read_bytes())
    return found


def cases(shared: Callable[[str], Path]) -> dict[str, Path]:
    references = sorted(shared("models").glob("*.ref.json"))
    models = [path for reference in references if (path := reference.with_name(f"{reference.name[:-9]}.gguf")).exists()]
    return {"bundled": Path(bundled.path()), **{path.stem: path for path in models}}


def all_digests(shared: Callable[[str], Path], folder: Path) -> dict[str, dict[str, str]]:
    found = {name: model_digests(path, folder) for name, path in cases(shared).items()}
    for name in ("stories260K-F32", "babyllama-tok361-pad256-F32"):
        found[f"quantized {name}"] = quantized_digests(cases(shared)[name], folder)
    return found


def test_the_bits_are_as_recorded(shared: Callable[[str], Path], tmp_path: Path) -> None:
    assert all_digests(shared, tmp_path) == json.loads(RECORDED.read_text())


def test_the_bits_of_the_bundled_model_are_as_recorded(tmp_path: Path) -> None:
    """Wheels are held to it wherever they are built; it needs nothing beside the wheel."""
    assert model_digests(bundled.path(), tmp_path) == json.loads(RECORDED.read_text())["bundled"]


if __name__ == "__main__":
    import tempfile

    from shared_files import shared_path

    with tempfile.TemporaryDirectory() as made:
        RECORDED.write_text(json.dumps(all_digests(shared_path, Path(made)), indent=1) + "\n")
    sys.stdout.write(f"recorded {RECORDED.name}\n")
