"""Which architectures there are, by the name that files give in ``general.architecture``, and what people call them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["ARCHITECTURES", "OLD_NAMES", "UNSUPPORTED", "Architecture", "family_of", "what_runs"]


@dataclass(frozen=True)
class Architecture:
    """``family`` is what people call its models. ``module`` in this package has its ``read`` and ``trace``; it is
    imported once a file asks for it. ``tiny`` are random models that test it, with the logits of an independent
    implementation (``tests/models/test_tiny.py``)."""

    family: str
    module: str
    tiny: tuple[str, ...]


ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture("Llama, Mistral and Mixtral", "llama", ("llama", "mistral", "mixtral")),
    "mistral3": Architecture("Mistral Small and Ministral 3", "mistral3", ("ministral3",)),
    "qwen2": Architecture("Qwen 2", "qwen2", ("qwen2",)),
    "qwen3": Architecture("Qwen 3", "qwen3", ("qwen3",)),
    "gemma": Architecture("Gemma", "gemma", ("gemma",)),
    "gemma2": Architecture("Gemma 2", "gemma2", ("gemma2",)),
    "gemma3": Architecture("Gemma 3", "gemma3", ("gemma3",)),
    "phi3": Architecture("Phi 3 and 4", "phi3", ("phi3", "phi3-long")),
    "smollm3": Architecture("SmolLM 3", "smollm3", ("smollm3",)),
    "granite": Architecture("Granite", "granite", ("granite",)),
    "olmo2": Architecture("OLMo 2 and 3", "olmo2", ("olmo2", "olmo3")),
    "command-r": Architecture("Command R", "command_r", ("cohere",)),
    "cohere2": Architecture("Command R7B and Command A", "cohere2", ("cohere2",)),
    "glm4": Architecture("GLM 4", "glm4", ("glm4",)),
    "glm4moe": Architecture("GLM 4.5 to 4.7", "glm4moe", ("glm4moe", "glm4moe-normed")),
    "gemma4": Architecture("Gemma 4", "gemma4", ("gemma4", "gemma4-moe")),
    "lfm2": Architecture("LFM 2", "lfm2", ("lfm2",)),
    "lfm2moe": Architecture("LFM 2 with experts", "lfm2", ("lfm2moe",)),
    "starcoder2": Architecture("StarCoder 2", "starcoder2", ("starcoder2",)),
    "qwen2moe": Architecture("Qwen 1.5 and 2 with experts", "qwen2moe", ("qwen2moe",)),
    "qwen3moe": Architecture("Qwen 3 with experts", "qwen3moe", ("qwen3moe",)),
    "qwen2vl": Architecture("Qwen 2-VL and 2.5-VL", "qwen2", ("qwen2vl",)),
    "qwen3vl": Architecture("Qwen 3-VL", "qwen3", ("qwen3vl",)),
    "qwen3vlmoe": Architecture("Qwen 3-VL with experts", "qwen3moe", ("qwen3vlmoe",)),
    "qwen35": Architecture("Qwen 3.5", "qwen35", ("qwen35",)),
    "qwen35moe": Architecture("Qwen 3.5 with experts", "qwen35", ("qwen35moe",)),
    "qwen3next": Architecture("Qwen3-Next", "qwen35", ("qwen3next",)),
    "granitemoe": Architecture("Granite with experts", "granite", ("granitemoe",)),
    "granitehybrid": Architecture(
        "Granite 4 with Mamba layers", "granite_hybrid", ("granitehybrid", "granitehybrid-moe")
    ),
    "mamba2": Architecture("Mamba 2", "mamba2", ("mamba2",)),
    "nemotron_h": Architecture("Nemotron-H", "nemotron_h", ("nemotron-h",)),
    "nemotron_h_moe": Architecture("Nemotron 3", "nemotron_h", ("nemotron-h-moe", "nemotron-h-latent")),
    "gpt-oss": Architecture("gpt-oss", "gpt_oss", ("gptoss",)),
    "llama4": Architecture("Llama 4", "llama4", ("llama4",)),
    "mllama": Architecture("Llama 3.2 Vision", "mllama", ("mllama",)),
    "deepseek2": Architecture("DeepSeek 2 and 3", "deepseek2", ("deepseek2", "deepseek3")),
    "bert": Architecture("BERT and RoBERTa", "bert", ("bert", "bert-rank")),
    "nomic-bert": Architecture("Nomic Embed", "nomic_bert", ("nomic-bert",)),
}

OLD_NAMES: Mapping[str, str] = {
    "gptoss": "gpt-oss", "olmo3": "olmo2", "glm4moelite": "deepseek2", "qwen25vl": "qwen2vl",
}  # fmt: skip
"""Architectures as ollama's own converter called them, and so the keys of its files."""

UNSUPPORTED: Mapping[str, str] = {
    "afmoe": "Trinity",
    "apertus": "Apertus",
    "arcee": "Arcee AFM",
    "arctic": "Snowflake Arctic",
    "arwkv7": "ARWKV 7",
    "baichuan": "Baichuan",
    "bailingmoe": "Ling",
    "bailingmoe2": "Ling 2",
    "bitnet": "BitNet",
    "bloom": "BLOOM",
    "chameleon": "Chameleon",
    "chatglm": "ChatGLM",
    "clip": "An image encoder (mmproj)",
    "codeshell": "CodeShell",
    "cogvlm": "CogVLM",
    "cohere2moe": "Command A with experts",
    "dbrx": "DBRX",
    "deci": "Nemotron 49B to 253B (DeciLM)",
    "deepseek": "DeepSeek",
    "deepseek2-ocr": "DeepSeek-OCR",
    "deepseek32": "DeepSeek V3.2",
    "deepseek4": "DeepSeek V4",
    "dflash": "A draft model (DFlash)",
    "dots1": "dots.llm1",
    "dream": "Dream",
    "eagle3": "A draft head (EAGLE 3)",
    "ernie4_5": "ERNIE 4.5",
    "ernie4_5-moe": "ERNIE 4.5 with experts",
    "eurobert": "EuroBERT",
    "exaone": "EXAONE 3",
    "exaone-moe": "EXAONE with experts",
    "exaone4": "EXAONE 4",
    "falcon": "Falcon",
    "falcon-h1": "Falcon-H1",
    "flux": "An image generator (FLUX)",
    "gemma-embedding": "EmbeddingGemma",
    "gemma-embedding2": "EmbeddingGemma 2",
    "gemma3n": "Gemma 3n",
    "gemma4-assistant": "A draft head of Gemma 4",
    "glm-dsa": "GLM 5",
    "gpt2": "GPT-2",
    "gptj": "GPT-J",
    "gptneox": "GPT-NeoX",
    "granite_swa": "Granite with windows",
    "graniteswitch": "Granite Switch",
    "grok": "Grok",
    "grovemoe": "GroveMoE",
    "hunyuan-dense": "Hunyuan",
    "hunyuan-moe": "Hunyuan with experts",
    "hunyuan_vl": "Hunyuan-VL",
    "internlm2": "InternLM 2",
    "jais": "Jais",
    "jais2": "Jais 2",
    "jamba": "Jamba",
    "jina-bert-v2": "Jina Embeddings 2",
    "jina-bert-v3": "Jina Embeddings 3",
    "kimi-k3": "Kimi K3",
    "kimi-linear": "Kimi Linear",
    "llada": "LLaDA",
    "llada-moe": "LLaDA with experts",
    "maincoder": "Maincoder",
    "mamba": "Mamba",
    "mimo2": "MiMo 2",
    "minicpm": "MiniCPM",
    "minicpm3": "MiniCPM 3",
    "minimax-01": "MiniMax 01",
    "minimax-m2": "MiniMax M2",
    "minimax-m3": "MiniMax M3",
    "mistral4": "Mistral 4",
    "modern-bert": "ModernBERT",
    "mpt": "MPT",
    "nemotron": "Nemotron",
    "neo-bert": "NeoBERT",
    "nomic-bert-moe": "Nomic Embed 2",
    "olmo": "OLMo 1",
    "olmoe": "OLMoE",
    "openelm": "OpenELM",
    "orion": "Orion",
    "paddleocr": "PaddleOCR-VL",
    "pangu-embedded": "Pangu",
    "phi2": "Phi 2",
    "phimoe": "Phi 3.5 with experts",
    "plamo": "PLaMo",
    "plamo2": "PLaMo 2",
    "plamo3": "PLaMo 3",
    "plm": "PLM",
    "qwen": "Qwen 1",
    "refact": "Refact",
    "rwkv6": "RWKV 6",
    "rwkv6qwen2": "QRWKV 6",
    "rwkv7": "RWKV 7",
    "seed_oss": "Seed-OSS",
    "smallthinker": "SmallThinker",
    "stablelm": "StableLM",
    "starcoder": "StarCoder",
    "step35": "Step 3.5",
    "t5": "T5",
    "t5encoder": "T5 as an encoder",
    "whisper": "Whisper",
    "xverse": "XVERSE",
}
"""What people call models that llamaq does not run yet."""


def family_of(name: object) -> str | None:
    """What people call the models of an architecture, None where nobody here knows it."""
    if not isinstance(name, str):
        return None
    name = OLD_NAMES.get(name, name)
    return ARCHITECTURES[name].family if name in ARCHITECTURES else UNSUPPORTED.get(name)


def what_runs(name: object) -> str:
    """Of an architecture that does not run: what it is, and which ones do."""
    if name == "clip":
        return "the file is a projector, with which another model sees pictures: --mmproj or mmproj= of that model"
    known = family_of(name)
    beginning = f"general.architecture is {name!r}" if known is None else f"{known} is not supported yet"
    return f"{beginning}; llamaq runs {', '.join(entry.family for entry in ARCHITECTURES.values())}"
