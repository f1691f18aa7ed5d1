"""The rule for every ATen operation that is understood: ``aten op -> rule``.

A rule takes the context and the call's arguments by the names of its schema, and returns the
abstract result. An operation in no row is treated as pointwise where PyTorch tags it so; any other
is not understood: :func:`~espalier.graph.rules._elementwise.opaque` freezes what it touches.
"""

from collections.abc import Callable

import torch

from espalier.graph._context import Arguments, Context
from espalier.graph._value import Value
from espalier.graph.rules import _contraction as contraction
from espalier.graph.rules import _convolution as convolution
from espalier.graph.rules import _elementwise as elementwise
from espalier.graph.rules import _indexing as indexing
from espalier.graph.rules import _movement as movement
from espalier.graph.rules import _normalisation as normalisation
from espalier.graph.rules import _parts as parts
from espalier.graph.rules import _pooling as pooling
from espalier.graph.rules import _recurrent as recurrent
from espalier.graph.rules import _windows as windows

Rule = Callable[[Context, Arguments], "Value | tuple[Value, ...]"]

_ROWS: list[tuple[str, Rule]] = [
    ("conv1d conv2d conv3d convolution", convolution.convolution),
    ("conv_transpose1d conv_transpose2d conv_transpose3d", convolution.convolution),
    ("linear", convolution.linear),
    ("matmul mm bmm mv dot", contraction.matmul),
    ("addmm baddbmm", contraction.added_matmul),
    ("einsum", contraction.einsum),
    ("scaled_dot_product_attention", contraction.attention),
    ("_scaled_dot_product_flash_attention_for_cpu", contraction.attention),
    ("_grouped_mm grouped_mm_fallback", contraction.by_expert),
    ("embedding", contraction.embedding),
    ("glu", contraction.glu),
    ("gru lstm rnn_tanh rnn_relu", recurrent.recurrent),
    ("_native_batch_norm_legit_no_training batch_norm", normalisation.batch_norm),
    ("instance_norm _native_batch_norm_legit", normalisation.own_statistics),
    ("_weight_norm _weight_norm_interface", normalisation.weight_norm),
    ("group_norm native_group_norm", normalisation.group_norm),
    ("layer_norm native_layer_norm rms_norm _fused_rms_norm", normalisation.layer_norm),
    ("view reshape _unsafe_view flatten unflatten view_copy", movement.view),
    ("permute", movement.permute),
    ("transpose t", movement.transpose),
    ("squeeze", movement.squeeze),
    ("unsqueeze", movement.unsqueeze),
    ("expand", movement.expand),
    ("repeat", movement.repeat),
    ("repeat_interleave", movement.repeat_interleave),
    ("cat", movement.cat),
    ("stack", movement.stack),
    ("split split_with_sizes chunk", parts.split),
    ("slice", parts.narrow),
    ("select", movement.select),
    ("unbind", movement.unbind),
    ("flip", movement.flip),
    ("softmax _softmax log_softmax _log_softmax cumsum logsumexp", movement.along("dim")),
    ("index", indexing.index),
    ("index_select gather", indexing.index_select),
    ("slice_scatter select_scatter", indexing.scatter_part),
    ("unfold", indexing.windows),
    ("im2col", windows.im2col),
    ("col2im", windows.col2im),
    ("roll", indexing.roll),
    ("tril triu", indexing.triangle),
    ("max_pool1d max_pool2d max_pool3d max_pool2d_with_indices", pooling.spatial),
    ("max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d", pooling.spatial),
    ("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d", pooling.spatial),
    ("_adaptive_avg_pool2d _adaptive_avg_pool3d", pooling.spatial),
    ("adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d", pooling.spatial),
    ("upsample_nearest1d upsample_nearest2d upsample_nearest3d", pooling.spatial),
    ("upsample_linear1d upsample_bilinear2d upsample_trilinear3d", pooling.spatial),
    ("upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa", pooling.spatial),
    ("_upsample_nearest_exact1d _upsample_nearest_exact2d", pooling.spatial),
    ("reflection_pad1d reflection_pad2d reflection_pad3d", pooling.spatial),
    ("replication_pad1d replication_pad2d replication_pad3d", pooling.spatial),
    ("pad constant_pad_nd", pooling.pad),
    ("pixel_shuffle", pooling.pixel_shuffle),
    ("pixel_unshuffle", pooling.pixel_unshuffle),
    ("channel_shuffle native_channel_shuffle", pooling.channel_shuffle),
    ("sum", pooling.total),
    ("mean var std var_mean amax amin max min argmax argmin any all prod", pooling.statistic),
    ("linalg_vector_norm norm", pooling.norm),
    ("prelu _prelu_kernel", elementwise.prelu),
    ("mul multiply", elementwise.multiply),
    ("div divide", elementwise.divide),
    ("subtract negative absolute greater less", elementwise.pointwise),
    (
        "where masked_fill copy clamp hardswish hardsigmoid hardtanh relu6 copy_",
        elementwise.pointwise,
    ),
    ("rrelu log_sigmoid_forward floor_divide rsub lerp __and__ __or__", elementwise.pointwise),
    ("clone alias contiguous detach _to_copy to lift_fresh_copy", elementwise.same),
    ("type_as", elementwise.typed),
    ("dropout feature_dropout alpha_dropout native_dropout", elementwise.same),
    ("zeros_like ones_like full_like zero fill", elementwise.like),
    ("new_zeros new_ones new_full full zeros ones", elementwise.uniform),
    ("arange scalar_tensor new_empty empty eye linspace new_empty_strided", elementwise.fresh),
]

TABLE: dict[str, Rule] = {name: rule for names, rule in _ROWS for name in names.split()}
"""The rule of each operation, by its name without ``aten.`` and overload."""


def rule_for(target: object) -> Rule:
    """The rule for the target of a call in the exported graph."""
    if not isinstance(target, torch._ops.OpOverload):
        return elementwise.opaque
    namespace, _, name = target._schema.name.partition("::")
    # transformers has an operation of its own where PyTorch's does not run.
    if namespace in ("aten", "transformers") and name in TABLE:
        return TABLE[name]
    if namespace == "aten" and torch.Tag.pointwise in target.tags:
        return elementwise.pointwise
    return elementwise.opaque
