"""A model as ONNX, run in ONNX Runtime and compared before it is handed out."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from espalier.errors import RequestError
from espalier.export._check import TOLERANCE, agreement

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An ONNX model that has been checked.

    Attributes:
        data: The file's bytes.
        batch: The only batch size it takes; None if it takes any.
        difference: max |Δoutput| between ONNX Runtime and PyTorch.
        scale: max |output| of PyTorch.
        batches: How many batches were compared.
    """

    data: bytes = field(repr=False)
    batch: int | None
    difference: float
    scale: float
    batches: int

    def __str__(self) -> str:
        return (
            f"checked in ONNX Runtime: max |Δoutput| {self.difference:.2e} (outputs up to "
            f"{self.scale:.2e}) on {self.batches} batches"
        )


def to_onnx(
    model: nn.Module,
    example: Tensor,
    batches: Iterable[Tensor] = (),
    *,
    batch: int | None = None,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Export a model and compare ONNX Runtime with PyTorch, in evaluation mode on the CPU.

    The batch dimension is left open where the exporter can; where it cannot, the model takes the
    batch size of the example.

    Args:
        model: With one tensor as input and tensors as output. Not modified.
        example: One batch, samples along the first axis.
        batches: Further, real ones to compare on; cut or repeated to the batch size if it is fixed.
        batch: A fixed batch size, >= 1.
        tolerance: On max |Δoutput| / max |output|.

    Raises:
        RequestError: The extra is not installed, or the model cannot be exported.
        RunError: ONNX Runtime computes something else.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise RequestError(
            f"export to ONNX needs {', '.join(missing)}; pip install 'espalier[onnx]'"
        )
    if batch is not None and batch < 1:
        raise RequestError(f"batch={batch}; give at least 1")
    net, example = deepcopy(model).cpu().eval(), example.cpu()
    data, fixed = _exported(net, example, batch)
    generator = torch.Generator().manual_seed(0)
    given = [example, torch.randn(_sized(example, 3).shape, generator=generator), *batches]
    inputs = [one.cpu() if fixed is None else _sized(one.cpu(), fixed) for one in given]
    found = agreement(net, session(data), inputs, runtime="ONNX Runtime", tolerance=tolerance)
    return Exported(
        data=data,
        batch=fixed,
        difference=found.difference,
        scale=found.scale,
        batches=found.batches,
    )


def session(data: bytes, threads: int = 0) -> Callable[[Tensor], Any]:
    """An ONNX model as a function on the CPU.

    Args:
        data: The model's bytes; one input. Of several outputs the function gives a tuple.
        threads: Within an operation; 0 leaves it to ONNX Runtime.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its idle threads would otherwise spin on, and slow whatever is measured next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    made = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = made.get_inputs()[0].name

    def run(inputs: Tensor) -> Any:
        found = tuple(torch.from_numpy(each) for each in made.run(None, {name: inputs.numpy()}))
        return found if len(found) > 1 else found[0]

    return run


def _exported(net: nn.Module, example: Tensor, batch: int | None) -> tuple[bytes, int | None]:
    """The bytes, and the batch size if it is fixed."""
    if batch is not None:
        return _program(net, _sized(example, batch), None), batch
    # With two samples: an example of one would be taken to mean that the size is always one.
    open_ = ({0: torch.export.Dim("batch", min=1)},)
    try:
        return _program(net, _sized(example, 2), open_), None
    except RequestError:
        return _program(net, example, None), len(example)


def _program(net: nn.Module, example: Tensor, shapes: Any) -> bytes:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                net, (example,), dynamo=True, dynamic_shapes=shapes, verbose=False,
                input_names=["input"], output_names=["output"],
            )  # fmt: skip
            data: bytes = program.model_proto.SerializeToString()  # type: ignore[union-attr]
        except Exception as error:  # the exporter raises whatever the model's code does
            first = (str(error).strip().splitlines() or [""])[0]
            raise RequestError(
                f"{type(net).__name__} cannot be exported to ONNX ({type(error).__name__}: {first})"
            ) from error
    return data


def _sized(inputs: Tensor, batch: int) -> Tensor:
    return inputs[torch.arange(batch) % len(inputs)]
