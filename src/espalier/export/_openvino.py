"""An ONNX model in OpenVINO, on the CPU and in full precision."""

from collections.abc import Callable, Sequence

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
    compiled = openvino.compile_model(model, "CPU", settings)
    request, output = compiled.create_infer_request(), compiled.output(0)

    def run(inputs: Tensor) -> Tensor:
        found = request.infer([inputs.numpy()], share_inputs=True)[output]
        return torch.from_numpy(found)

    return run
