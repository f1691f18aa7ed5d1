"""Bytes: of the dense model, and of what is left when zeros are not stored."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ModelBytes:
    """What a model weighs.

    Attributes:
        parameters: bytes of all parameters as they are, each shared one once.
        buffers: bytes of all buffers (running statistics …).
        nonzeros: bytes of the parameters when each tensor is stored as its nonzero values and one
            bit per weight, wherever that is smaller.
    """

    parameters: int
    buffers: int
    nonzeros: int

    @property
    def dense(self) -> int:
        """Parameters and buffers as they are."""
        return self.parameters + self.buffers

    @property
    def sparse(self) -> int:
        """Buffers, and parameters without their zeros."""
        return self.nonzeros + self.buffers


def model_bytes(model: nn.Module) -> ModelBytes:
    r"""Bytes of a model: dense, and with a bitmask in place of the zeros.

    .. math:: \text{stored}(W) = \min(n b,\; \|W\|_0 \, b + \lceil n / 8 \rceil)

    n weights of b bytes each. A storage figure: no runtime computes on this form.

    Args:
        model: any module; on the meta device nothing counts as zero.

    Example:
        >>> model = nn.Linear(8, 4, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> sizes = model_bytes(model)
        >>> sizes.dense, sizes.sparse
        (128, 4)
    """
    parameters = list(model.parameters())
    return ModelBytes(
        parameters=sum(p.numel() * p.element_size() for p in parameters),
        buffers=sum(b.numel() * b.element_size() for b in model.buffers()),
        nonzeros=sum(_stored(p) for p in parameters),
    )


def _stored(tensor: Tensor) -> int:
    dense = tensor.numel() * tensor.element_size()
    if tensor.is_meta:
        return dense
    nonzero = int(torch.count_nonzero(tensor))
    return min(dense, nonzero * tensor.element_size() + -(-tensor.numel() // 8))
