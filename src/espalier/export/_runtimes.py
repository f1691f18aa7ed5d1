"""Exported models as contestants of :func:`espalier.measure._latency.latency`."""

from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec

from torch import nn

from espalier._ground.example import Example, one_tensor
from espalier.errors import RequestError
from espalier.export._check import agreement
from espalier.export._onnx import session, to_onnx
from espalier.export._openvino import openvino_session
from espalier.measure._runtimes import Prepare


def in_onnx_runtime(model: nn.Module, example: Example) -> Prepare:
    """The model in ONNX Runtime, on the CPU; what it computes is checked on export.

    Args:
        model: With one tensor as input and one as output. Not modified.
        example: One batch.

    Raises:
        RequestError: The extra is not installed, or the model cannot be exported.
        RunError: ONNX Runtime computes something else.
    """
    data_for = _exports(model, example)

    def prepare(inputs: Example, threads: int) -> Callable[[], object]:
        here = one_tensor(inputs, "ONNX Runtime").cpu()
        run = session(data_for(len(here)), threads)
        return lambda: run(here)

    return prepare


def in_openvino(model: nn.Module, example: Example) -> Prepare:
    """The same in OpenVINO: compiled for each batch size, and checked on the batch it is timed on.

    Raises:
        RequestError: The extra is not installed, or the model cannot be exported.
        RunError: ONNX Runtime or, when it is prepared, OpenVINO computes something else.
    """
    if find_spec("openvino") is None:
        raise RequestError("OpenVINO is not installed; pip install 'espalier[openvino]'")
    net = deepcopy(model).cpu().eval()
    data_for = _exports(net, example)

    def prepare(inputs: Example, threads: int) -> Callable[[], object]:
        here = one_tensor(inputs, "OpenVINO").cpu()
        run = openvino_session(data_for(len(here)), here.shape, threads)
        agreement(net, run, [here], runtime="OpenVINO")
        return lambda: run(here)

    return prepare


def _exports(model: nn.Module, example: Example) -> Callable[[int], bytes]:
    """ONNX bytes for a batch size: one export where that dimension stays open, else one a size."""
    example = one_tensor(example, "an exported model")
    free = to_onnx(model, example)
    made: dict[int, bytes] = {}

    def data_for(batch: int) -> bytes:
        if free.batch is None:
            return free.data
        if batch not in made:
            made[batch] = to_onnx(model, example, batch=batch).data
        return made[batch]

    return data_for
