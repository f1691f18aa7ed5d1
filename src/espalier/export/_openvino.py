"""An ONNX model in OpenVINO, on the CPU and in full precision."""

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def openvino_session(
    data: bytes, shape: Sequence[int], threads: int = 0
) -> Callable[[Tensor], Tensor]:
    """An ONNX model as a function, compiled by OpenVINO for inputs of one shape.

    Args:
        data: The model's bytes; one input, one output.
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
    request, output = compiled.create_infer_request(), compiled.output(0)

    def run(inputs: Tensor) -> Tensor:
        found = request.infer([inputs.numpy()], share_inputs=True)[output]
        return torch.from_numpy(found)

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
