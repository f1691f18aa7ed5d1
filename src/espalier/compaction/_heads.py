"""PyTorch's attention with fewer heads, or over a narrower stream, than it was made for."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from espalier.compaction._edits import SliceEdit
from espalier.errors import RequestError


class NarrowAttention(nn.MultiheadAttention):
    """Attention whose heads, taken together, need not be as wide as its input.

    ``nn.MultiheadAttention`` has one number for both. Made from one by :func:`narrow_`; parameters, their
    names and ``forward`` are as they were, and the width of a head too.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As of ``nn.MultiheadAttention``; ``is_causal`` is a hint there, and the mask says it."""
        single, first = query.dim() == 2, self.batch_first
        inputs = (query, key, value)
        q, k, v = (x[None] if single else x if first else x.transpose(0, 1) for x in inputs)
        q, k, v = (
            x.reshape(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)
            for x in self._projected(q, k, v)
        )
        mask = _merged(attn_mask, key_padding_mask, q)
        weights = None
        if need_weights:
            scores = q @ k.mT * self.head_dim**-0.5
            weights = (scores if mask is None else scores + mask).softmax(-1)
            y = F.dropout(weights, self.dropout, self.training) @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights[0] if single else weights
        else:
            dropout = self.dropout if self.training else 0.0
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        return (out[0] if single else out if first else out.transpose(0, 1)), weights

    def _projected(self, q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
        if self.in_proj_weight is not None:
            matrices = self.in_proj_weight.chunk(3)
        else:
            matrices = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(x, w, b) for x, w, b in zip((q, k, v), matrices, biases, strict=True)]


def _merged(attn: Tensor | None, padding: Tensor | None, like: Tensor) -> Tensor | None:
    """What is added to the scores (batch, heads, queries, keys); where a mask is true, -∞."""
    parts = []
    if attn is not None:
        parts.append(attn if attn.dim() == 2 else attn.reshape(len(like), -1, *attn.shape[1:]))
    if padding is not None:
        parts.append(padding[..., None, None, :])
    found: Tensor | None = None
    for part in parts:
        if not part.is_floating_point():
            part = like.new_zeros(part.shape).masked_fill(part, float("-inf"))
        found = part if found is None else found + part
    return found


def narrow_(module: nn.MultiheadAttention, edits: Mapping[str, Mapping[int, SliceEdit]]) -> None:
    """Make an attention right for the projections it has been given, in place.

    Args:
        module: Its projections are cut already; not those of its output, which are a module's own.
        edits: Those of its tensors, by name and axis.

    Raises:
        RequestError: Heads that are cut within, or an attention with a bias for keys and values.
    """
    if not narrowable(module):
        raise RequestError("only a plain nn.MultiheadAttention can lose heads")
    packed = module.in_proj_weight is not None
    rows = edits.get("in_proj_weight" if packed else "q_proj_weight", {}).get(0)
    width = module.head_dim
    if rows is not None:
        count = len(rows.keep) // (3 if packed else 1)
        heads = {index // width for index in rows.keep}
        if len(heads) * width != len(rows.keep):
            raise RequestError(f"{rows.name}: heads of width {width} go whole")
        module.num_heads = count // width
    matrices = [module.in_proj_weight] * 3 if packed else None
    q, k, v = matrices or (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    module.embed_dim, module.kdim, module.vdim = (int(w.shape[1]) for w in (q, k, v))
    module.__class__ = NarrowAttention  # its hooks, mode and parameters stay where they are
    # The fused kernel of a whole encoder layer assumes the one number; this keeps it from there.
    module._qkv_same_embed_dim = False


def narrowable(module: nn.MultiheadAttention) -> bool:
    """One of PyTorch's own, without biases and zeros among keys and values."""
    plain = type(module) in (nn.MultiheadAttention, NarrowAttention)
    return plain and module.bias_k is None and module.bias_v is None and not module.add_zero_attn
