"""What an architecture is traced with: a method for each operation."""

from __future__ import annotations

from llamaq.plan.op import Norm, Value
from llamaq.plan.ops.attention import TracesAttention
from llamaq.plan.ops.embed import TracesEmbed
from llamaq.plan.ops.glu_linear import TracesGluLinear
from llamaq.plan.ops.linear import TracesLinear
from llamaq.plan.ops.rms_norm import TracesRmsNorm
from llamaq.plan.ops.select_rows import TracesSelectRows
from llamaq.plan.ops.short_conv import TracesShortConv
from llamaq.plan.plan import Plan, make_plan

__all__ = ["Graph", "Norm", "Plan", "Value"]


class Graph(
    TracesAttention, TracesEmbed, TracesGluLinear, TracesLinear, TracesRmsNorm, TracesSelectRows, TracesShortConv
):
    """Records the ops that an architecture function calls, and checks every shape on the way.

    It is made from ``shapes``: full tensor names to (rows, cols) or (n,), as in ``TensorInfo.shape``. Weights are
    named without ".weight"; the bias of a linear weight is added where the file has ``name.bias``.
    Every method raises ``ModelError`` for a tensor that is missing or does not fit.
    """

    def plan(self, out: Value) -> Plan:
        """The plan that ends with ``out``."""
        return make_plan(self.traced, out)
