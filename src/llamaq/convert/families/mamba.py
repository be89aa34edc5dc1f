"""What the families with Mamba-2 mixers share: the tensors of a mixer, and its keys."""

from __future__ import annotations

from typing import Any

from llamaq.convert.keys import expect
from llamaq.convert.rules import Rule, Source, squeezed
from llamaq.convert.section import Section
from llamaq.convert.views import NewTensor, View

__all__ = ["check_mixer", "mixer", "sizes"]


def _rows(name: str, count: str, **changes: Any) -> Rule:
    """A vector as a matrix of so many rows, as the key ``count`` says."""

    def rule(source: Source) -> list[NewTensor]:
        (old,), rows = source.names, source.keys[count]
        if len(source.shape) != 1 or source.shape[0] % rows:
            raise source.error(f"a vector, a multiple of {rows} numbers ({count})")
        length = source.shape[0] // rows
        views = (View(old, range(i * length, (i + 1) * length)) for i in range(rows))
        return [source.new(name, *views, stacked=True, **changes)]

    return rule


def mixer(prefix: str) -> dict[str, Any]:
    """The table of a mixer's tensors, whose names begin with ``prefix``."""
    return {
        f"{prefix}in_proj": "ssm_in",
        f"{prefix}conv1d.bias": "ssm_conv1d.bias",
        f"{prefix}conv1d": squeezed("ssm_conv1d"),
        f"{prefix}dt_bias": "ssm_dt.bias",
        f"{prefix}A_log": _rows("ssm_a", "ssm.time_step_rank", negative_exp=True),
        f"{prefix}D": _rows("ssm_d", "ssm.time_step_rank"),
        f"{prefix}norm": _rows("ssm_norm", "ssm.group_count"),
        f"{prefix}out_proj": "ssm_out",
    }


def check_mixer(config: Section, prefix: str = "mamba_") -> None:
    """Raises ModelError for what readers of the file do not have."""
    limit = config.values.get("time_step_limit")
    if isinstance(limit, list) and limit and limit[0] not in (0, 0.0):
        raise config.error("time_step_limit", "no least step, as readers of the file have none")
    expect(config, f"{prefix}proj_bias", False)


def sizes(config: Section, prefix: str = "mamba_") -> dict[str, Any]:
    """Keys of a mixer, which the configuration has by names that begin with ``prefix``."""
    check_mixer(config, prefix)
    heads = config.integer(f"{prefix}n_heads")
    inner = config.integer(f"{prefix}expand", 2) * config.integer("hidden_size")
    if inner % heads:
        raise config.error(f"{prefix}n_heads", f"a divisor of {inner} ({prefix}expand times hidden_size)")
    expect(config, f"{prefix}d_head", inner // heads, "auto")
    return {
        "ssm.conv_kernel": config.integer(f"{prefix}d_conv", 4),
        "ssm.state_size": config.integer(f"{prefix}d_state"),
        "ssm.group_count": config.integer(f"{prefix}n_groups", 1),
        "ssm.inner_size": inner,
        "ssm.time_step_rank": heads,
    }
