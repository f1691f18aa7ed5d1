"""Which runtime can use which sparsity: said before training, not after."""

from espalier.sets import NOfM, Set

_SENTENCES = {
    "unstructured": "no speed-up in eager PyTorch, torch.compile or ONNX Runtime, whose dense "
    "kernels multiply by the zeros; it saves storage only (linear layers beyond their break-even can "
    "run as sparse rows: espalier.measure._break_even)",
    "filters": "faster on every runtime once compacted: whole filters are physically removed",
    "channels": "faster on every runtime once compacted: whole channels are physically removed",
    "columns": "faster where all columns of a channel go, once compacted; kernels are cropped to the "
    "positions left, and what is scattered in them can be gathered (espalier compact --gather), "
    "which is faster for wide layers only: measure",
    "filters_and_columns": "faster on every runtime once compacted, by the filters and by the "
    "channels all of whose columns go; other columns as for columns: gathered, faster for wide "
    "layers only",
    "kernels": "no stock runtime skips single kernels; it saves storage only, unless all kernels of "
    "a filter or a channel go",
    "kernel_patterns": "no stock runtime uses patterns (compilers made for them do); in eager "
    "PyTorch, torch.compile and ONNX Runtime it saves storage only",
    "blocks": "not used by dense kernels (eager PyTorch, torch.compile, ONNX Runtime); block-sparse "
    "matrix kernels can use large blocks of linear layers: measure",
}
_TWO_OF_FOUR = (
    "NVIDIA sparse tensor cores, Ampere and later, for linear layers in half precision "
    "(torch.sparse.to_sparse_semi_structured, TensorRT): measure, gains depend on the shapes; "
    "CPUs and ONNX Runtime run it at dense speed"
)
_N_OF_M = "no stock runtime uses this N:M (NVIDIA sparse tensor cores want 2:4); storage only"


def usable_by(which: Set) -> str:
    """Who can turn this kind of sparsity into speed, in one sentence.

    >>> usable_by(NOfM(2, 4))[:26]
    'NVIDIA sparse tensor cores'
    """
    if isinstance(which, NOfM):
        return _TWO_OF_FOUR if (which.n, which.m) == (2, 4) else _N_OF_M
    return _SENTENCES.get(which.name, "not known to be used by any stock runtime; measure")
