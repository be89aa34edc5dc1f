"""What a file is that is not GGUF, and what its owner can do about it."""

from __future__ import annotations

__all__ = ["identify"]

_CONVERT = "convert the model to GGUF (llama.cpp's convert_hf_to_gguf.py), or download a GGUF of it"
_OLD = "the format was given up in August 2023: convert the original model to GGUF, or download a GGUF of it"
_DOWNLOAD = "the download failed: get the model file itself"
_UNPACK = "unpack it first"

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    # ggml's old magics are numbers, stored little-endian: the letters come backwards
    (b"lmgg", "an unversioned GGML file", _OLD),
    (b"fmgg", "a GGMF file", _OLD),
    (b"tjgg", "a GGJT file", _OLD),
    (b"algg", "a GGLA adapter", "convert the adapter to GGUF (llama.cpp's convert_lora_to_gguf.py)"),
    (b"nsgg", "a saved llama.cpp session", "give the model file"),
    (b"qsgg", "a saved llama.cpp sequence", "give the model file"),
    (b"FUGG", "the magic backwards", "whatever wrote the file swapped its bytes: convert the model again"),
    (b"PK\x03\x04", "a zip archive, such as a PyTorch checkpoint", _CONVERT),
    (b"\x80\x02", "a pickle, such as an old PyTorch checkpoint", _CONVERT),
    (b"\x89HDF", "an HDF5 file", _CONVERT),
    (b"version https://git-lfs", "the Git LFS pointer of a file", "fetch the file itself: git lfs pull"),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"\xfd7zXZ", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\x7fELF", "a program", "give the model file"),
    (b"\0\0\0\0", "zeros", "the file was reserved and never filled: download it again"),
)


def identify(head: bytes) -> tuple[str, str]:
    """Says what a file beginning with ``head`` (64 bytes or fewer) is, and the remedy."""
    if not head:
        return "an empty file", _DOWNLOAD
    for signature, what, remedy in _SIGNATURES:
        if head.startswith(signature):
            return what, remedy
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:9].lower() == b"<!doctype" or text[:5].lower() == b"<html":
        return "a web page", _DOWNLOAD + ", not the page about it"
    if head[8:10] == b'{"':
        return "a safetensors file", _CONVERT
    if text[:1] in (b"{", b"["):
        return f"JSON text beginning {head[:16]!r}", "give the model file, not its configuration"
    return f"{head[:8]!r}", "give the path of a GGUF file"
