"""PEFT's folders of LoRA adapters made into GGUF files, with the names and the layout of llama.cpp's converter."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llamaq.boundary.arguments import one_of, path_of
from llamaq.boundary.progress import Progress
from llamaq.convert.encoded import OUTTYPES, check_magnitude, counted
from llamaq.convert.families import FAMILIES, family_of
from llamaq.convert.family import Family, new_tensors
from llamaq.convert.peft_folder import PeftFolder
from llamaq.convert.rope import neighbours
from llamaq.convert.section import Section, read_json, text_config
from llamaq.convert.views import NewTensor, View
from llamaq.convert.write import general
from llamaq.errors import ModelError, naming
from llamaq.formats import Format, encode, format_by_name
from llamaq.gguf import GGUFArray, GGUFFile, TensorData, write_gguf

__all__ = ["convert_adapter"]

F32 = NDArray[np.float32]
_TABLE = "token_embd.weight"
_BASE = "name the model that it was trained on by base, a folder with config.json or a GGUF file"


def convert_adapter(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    outtype: str = "f16",
    *,
    base: str | os.PathLike[str] | None = None,
    metadata: Mapping[str, str | list[str]] | None = None,
    progress: Progress | None = None,
) -> None:
    """Writes a GGUF adapter from a folder of PEFT: adapter_config.json and adapter_model.safetensors.

    ``base`` is the model that it was trained on, a folder with config.json (weights are not needed) or a GGUF file;
    without it the adapter's folder, or that which its configuration names, has config.json. The factors are written as
    ``outtype`` ("f32", "f16", "bf16", "q8_0"; rows that are no blocks of Q8_0 as F16). Where modules have scales of
    their own, the factors B are multiplied by what they differ. ``metadata`` are further keys ``general.*``,
    ``progress`` gets weights written and in total. Raises ModelError for damaged files and for what such a file cannot
    say (DoRA, modules_to_save, biases ...), by name; GGUFError where the disk refuses; ``target`` is then as it was.
    """
    one_of("outtype", outtype, OUTTYPES)
    target, extra = path_of("target", target), general(metadata)
    folder = PeftFolder(path_of("source", source))
    family, found, model = _base_of(folder, None if base is None else path_of("base", base))
    new = new_tensors(folder.shapes, family, found)
    _check_all_there(folder, new)
    for tensor in new if model is not None else ():
        _check_fits(tensor, model)
    keys: dict[str, Any] = {
        "general.architecture": family.architecture,
        "general.type": "adapter",
        "general.name": folder.path.resolve().name,
        "general.file_type": OUTTYPES[outtype],
        "adapter.type": "lora",
        "adapter.lora.alpha": folder.alpha,
        **extra,
    }
    tensors = [factor for tensor in new for factor in _factors(folder, tensor, outtype)]
    write_gguf(target, keys, counted(tensors, progress or (lambda done, total: None)))


def _base_of(folder: PeftFolder, base: Path | None) -> tuple[Family, dict[str, Any], Mapping[str, Any] | None]:
    """The model's family and hyperparameters, and the shapes of its tensors where they are known."""
    if base is not None and base.is_file() and base.suffix != ".json":
        with GGUFFile.open(base) as file:
            return *_of_gguf(base, file), {name: info.shape for name, info in file.tensors.items()}
    named = folder.config.text("base_model_name_or_path")
    places = [folder.path, Path(named)] if base is None else [base.parent if base.is_file() else base]
    if base is None and not named:
        places = places[:1]
    for place in places:
        if config := read_json(place / "config.json"):
            return family_of(config), _keys(config), None
    if base is not None:
        raise naming(ModelError(f"{base}: expected a folder with config.json, or a GGUF file, got neither"), "base")
    trained = f", which was trained on {named[:80]!r}" if named else ""
    raise naming(ModelError(f"{folder.path}: expected the configuration of the model beside the adapter{trained}, got "
                            f"none; {_BASE}"), "base")  # fmt: skip


def _keys(config: Section) -> dict[str, Any]:
    return family_of(config).keys(text_config(config))


def _of_gguf(path: Path, file: GGUFFile) -> tuple[Family, dict[str, Any]]:
    architecture = str(file.metadata.get("general.architecture"))
    for family in FAMILIES:
        if family.architecture == architecture:
            keys = {key.removeprefix(f"{architecture}."): value for key, value in file.metadata.items()}
            return family, {
                key: value.tolist() if isinstance(value, GGUFArray) else value for key, value in keys.items()
            }
    raise ModelError(
        f"{path}: llamaq does not know how Hugging Face's folders name the tensors of {architecture[:80]!r}"
    )


def _check_all_there(folder: PeftFolder, new: list[NewTensor]) -> None:
    used = {view.name for tensor in new for view in tensor.views}
    if lost := next((name for name in folder.shapes if name not in used), None):
        raise ModelError(f"tensor {lost!r}: the GGUF file of the model does not have it; train the adapter without it")


def _check_fits(new: NewTensor, model: Mapping[str, tuple[int, ...]] | None) -> None:
    tied = _TABLE if new.name == "output.weight" else ""
    expected = (model or {}).get(new.name, (model or {}).get(tied))
    if expected != new.shape:
        got = "none of that name" if expected is None else f"one of shape {expected}"
        raise ModelError(f"tensor {new.views[0].name!r}: expected {new.name!r} of shape {new.shape} in the model, got "
                         f"{got}; the adapter is of another model")  # fmt: skip


def _factors(folder: PeftFolder, new: NewTensor, outtype: str) -> Iterator[TensorData]:
    """A and B of a tensor, read when their turn comes. Those of a table of embeddings lie the other way around."""
    if new.shift or new.packed or new.negative_exp or any(view.cols is None or view.index for view in new.views):
        raise ModelError(f"tensor {new.views[0].name!r}: GGUF has it changed in a way that factors cannot follow; "
                         "merge the adapter into its model first (peft: merge_and_unload)")  # fmt: skip
    rank = max(folder.rank(view.name) for view in new.views)
    table = new.name.endswith(_TABLE)
    *outer, rows, cols = new.shape
    shapes = ((rows, rank), (cols, rank)) if table else ((*outer, rank, cols), (*outer, rows, rank))

    def data(index: int, format: Format) -> Iterator[NDArray[np.uint8]]:
        a, b = _pair(folder, new, rank)
        factor = np.ascontiguousarray(((b, a.T) if table else (a, b))[index])
        factor = factor.reshape(-1, factor.shape[-1])
        check_magnitude(new.views[0].name, factor, format)
        yield encode(format, factor)

    for index, shape in enumerate(shapes):
        format = _format(outtype, shape)
        yield TensorData(f"{new.name}.lora_{'ab'[index]}", format, shape, data(index, format))


def _pair(folder: PeftFolder, new: NewTensor, rank: int) -> tuple[F32, F32]:
    """A and B with the matrix's rows and columns as GGUF has them; of a stack those of all matrices."""
    head_rows = new.views[0].shape[0] // new.heads if new.heads else 1
    pairs = []
    for view in new.views:
        a, b = _seen(folder, view)
        if new.heads:
            b = neighbours(b, len(b) // head_rows)
        if new.columns:
            a = np.concatenate([a[:, c.start : c.stop : c.step] for c in new.columns], axis=1)
        if missing := rank - len(a):  # experts may differ: zeros add nothing, but the file's scale has the stack's rank
            b = (b * (rank / len(a))).astype(np.float32)
            a, b = np.pad(a, ((0, missing), (0, 0))), np.pad(b, ((0, 0), (0, missing)))
        pairs.append((a, b))
    if new.joined:  # parts of one tensor, which has one A
        return pairs[0][0], np.concatenate([b for _, b in pairs])
    if new.stacked:
        return np.stack([a for a, _ in pairs]), np.stack([b for _, b in pairs])
    return pairs[0]


def _seen(folder: PeftFolder, view: View) -> tuple[F32, F32]:
    """What a view sees of a product B A: some of B's rows, some of A's columns."""
    a, b = folder.factors(view.name)
    rows, cols = view.rows, view.cols
    assert cols is not None
    a, b = a[:, cols.start : cols.stop : cols.step], b[rows.start : rows.stop : rows.step]
    return (b.T, a.T) if view.transposed else (a, b)


def _format(outtype: str, shape: tuple[int, ...]) -> Format:
    wanted = format_by_name(outtype)
    return wanted if shape[-1] % wanted.block == 0 else format_by_name("F16")
