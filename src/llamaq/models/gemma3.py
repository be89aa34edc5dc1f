"""Gemma 3: Kamath et al. (2025). Gemma 2 with normed heads in place of caps; windows have a rope of their own."""

from __future__ import annotations

from dataclasses import replace

from llamaq.models.gemma2 import Gemma2, scale_of, trace
from llamaq.models.hparams import read_decoder, windows_of
from llamaq.models.keys import Keys
from llamaq.models.ropes import local_rope_of

__all__ = ["OLD_KEYS", "read", "trace"]

OLD_KEYS = {
    "rope.freq_base": "rope.global.freq_base",
    "rope.freq_base_swa": "rope.local.freq_base",
    "rope.scaling.yarn_ext_factor": "rope.scaling.extrapolation_factor",
    "rope.scaling.yarn_beta_fast": "rope.scaling.beta_fast",
    "rope.scaling.yarn_beta_slow": "rope.scaling.beta_slow",
    "attention.layer_norm_rms_epsilon": 1e-6,
}
"""As ollama's converter called them, or what it left out."""


def read(keys: Keys) -> Gemma2:
    # That converter put the image encoder into the file, and left out two numbers that models with one have.
    whole = any(name.startswith("v.") for name in keys.shapes) and not keys.has("rope.freq_base")
    hp = read_decoder(keys, layout="neox", rope_base=1e6 if whole else 1e4, rope_factor=8.0 if whole else 0.0)
    windows = windows_of(keys, hp.layers, period=6)
    local = local_rope_of(keys, hp.head_dim, layout="neox", base=10000.0)
    ropes = tuple(local if window else hp.rope for window in windows)
    return Gemma2(
        **vars(replace(hp, windows=windows, ropes=ropes, scale=scale_of(hp, 62))),
        head_norms=True,
        attention_softcap=keys.non_negative("attn_logit_softcapping", 0.0),
        final_softcap=keys.non_negative("final_logit_softcapping", 0.0),
    )
