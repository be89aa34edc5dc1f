"""Records what transformers makes of the tiny Llama 3.2 Vision (tests/data/tiny/converted.json) and of pictures for it.

    python tests/vision/record_mllama.py

needs torch, transformers and the extra ``convert``, and writes tests/data/vision/mllama.npz. Rows before the first
picture pass layers with cross-attention by, and the states that are taken from the encoder are the inputs of the layers
that are named, both as in Meta's own code. transformers 5.24 lets the attention of such rows look at all pictures, and
takes the outputs of these layers; both are mended here.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import transformers
from transformers.models.mllama import modeling_mllama
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

sys.path.append(str(Path(__file__).parents[1] / "support"))

from mllama_cases import IMAGE, PROMPTS, SIDES, ids_of
from tiny_converted import checkpoint
from vision_cases import PIXELS, SHAPES, SIZE, picture

OUT = Path(__file__).parents[1] / "data" / "vision" / "mllama.npz"


def take_inputs(model: Any) -> None:
    def shift(module: Any, args: Any, output: Any) -> Any:
        output.hidden_states = (args[0], *output.hidden_states[:-1])
        return output

    model.model.vision_model.transformer.register_forward_hook(shift)


def mask_rows(model: Any) -> None:
    for layer in model.model.language_model.layers:
        if not isinstance(layer, modeling_mllama.MllamaCrossAttentionDecoderLayer):
            continue

        def keep(module: Any, args: Any, kwargs: Any) -> None:
            module.row_mask = kwargs.get("full_text_row_masked_out_mask")

        def mask(module: Any, args: Any, output: Any, layer: Any = layer) -> Any:
            return (output[0] * layer.row_mask[:, 0], *output[1:])

        layer.register_forward_pre_hook(keep, with_kwargs=True)
        layer.cross_attn.register_forward_hook(mask)


def logits_of(model: Any, processor: Any, name: str) -> Any:
    ids = ids_of(name)
    images = [PIL.Image.fromarray(picture(*SIDES[i], i)) for i in PROMPTS[name] if i is not None]
    if not images:
        return model(input_ids=torch.tensor([ids])).logits[0]
    made = processor([images], return_tensors="np")
    dense = convert_sparse_cross_attention_mask_to_dense(
        [get_cross_attention_token_mask(ids, IMAGE)], num_tiles=made["num_tiles"], max_num_tiles=4, length=len(ids)
    )
    return model(
        input_ids=torch.tensor([ids]),
        cross_attention_mask=torch.tensor(dense),
        **{key: torch.tensor(made[key]) for key in ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")},
    ).logits[0]


def model_of(folder: Path) -> Any:
    kind = transformers.MllamaForConditionalGeneration
    return kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def made_by(model: Any) -> dict[str, Any]:
    """Log-probabilities of all prompts by a model, which gets both differences mended."""
    processor = MllamaImageProcessorPil(
        size={"height": 28, "width": 28}, image_mean=[0.48145466, 0.4578275, 0.40821073],
        image_std=[0.26862954, 0.26130258, 0.27577711],
    )  # fmt: skip
    take_inputs(model)
    plain = {name: logits_of(model, processor, name) for name in PROMPTS}
    mask_rows(model)
    found = {}
    for name in PROMPTS:
        logits = logits_of(model, processor, name)
        print(name, "unmasked, transformers' logits differ by", float(abs(logits - plain[name]).max()))
        found[name] = torch.log_softmax(logits.double(), -1).float().numpy()
    return found


def main() -> None:
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as folder:
        found = made_by(model_of(checkpoint("mllama", Path(folder) / "mllama")))
    tiles = MllamaImageProcessorPil(size={"height": SIZE, "width": SIZE}, do_rescale=False, do_normalize=False)
    for width, height in SHAPES:
        made = tiles(PIL.Image.fromarray(picture(width, height)), return_tensors="np")
        count = int(np.asarray(made["num_tiles"]).reshape(-1)[0])
        pixels = np.asarray(made["pixel_values"]).reshape(-1, 3, SIZE, SIZE)[:count].transpose(0, 2, 3, 1)
        found[f"{width}x{height}"] = pixels[:, PIXELS[:, 0], PIXELS[:, 1]].round().astype(np.uint8)
        found[f"{width}x{height} id"] = np.asarray(made["aspect_ratio_ids"]).reshape(-1)[:1].astype(np.uint8)
    np.savez_compressed(OUT, **found)


if __name__ == "__main__":
    main()
