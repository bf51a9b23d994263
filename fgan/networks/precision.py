"""Networks in bfloat16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax


@dataclass(frozen=True)
class InPrecision:
    """`network` computed in `dtype`: parameters keep their own type, outputs have the type of the first input."""

    network: Any
    dtype: Any

    def init(self, *arguments: Any) -> Any:
        """The network's own parameters."""
        return self.network.init(*arguments)

    def apply(self, parameters: Any, *inputs: jax.Array, **options: Any) -> Any:
        """The network's outputs."""
        narrow = jax.tree.map(lambda x: x.astype(self.dtype), (parameters, inputs))
        outputs = self.network.apply(narrow[0], *narrow[1], **options)
        return jax.tree.map(lambda y: y.astype(inputs[0].dtype), outputs)
