"""An ONNX model in OpenVINO, on the CPU and in full precision."""

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def openvino_session(
    data: bytes, shape: Sequence[int], threads: int = 0
) -> Callable[[Tensor], Any]:
    """An ONNX model as a function, compiled by OpenVINO for inputs of one shape.

    Args:
        data: The model's bytes; one input. Of several outputs the function gives a tuple.
        shape: Of the input, samples first.
        threads: Of a call; 0 leaves it to OpenVINO.
    """
    import openvino

    model = openvino.Core().read_model(data)
    model.reshape(list(shape))
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # else every model has a core of its own, and not an equal one
        "INFERENCE_PRECISION_HINT": "f32",  # some processors would otherwise get bfloat16
    }
    with _signal_stack_kept():
        compiled = openvino.compile_model(model, "CPU", settings)
    request, outputs = compiled.create_infer_request(), compiled.outputs

    def run(inputs: Tensor) -> Any:
        found = request.infer([inputs.numpy()], share_inputs=True)
        tensors = tuple(torch.from_numpy(found[each]) for each in outputs)
        return tensors if len(tensors) > 1 else tensors[0]

    return run


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Leaves the thread the alternate signal stack it had.

    OpenVINO puts one of its own in its place for as long as the compiled model lives. Where models go in
    the order in which they came, the one that is left belongs to a model that is gone, and the next
    signal that Python handles (Ctrl-C, the end of a loader's worker) is a segmentation fault.
    """
    if sys.platform == "win32":
        yield
        return
    swap = ctypes.CDLL(None).sigaltstack
    before = ctypes.create_string_buffer(64)  # a stack_t, whatever the order of its three fields
    swap(None, before)
    try:
        yield
    finally:
        swap(before, None)
