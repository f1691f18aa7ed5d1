"""Models for other runtimes, checked against PyTorch."""

from espalier.export._onnx import Exported as Exported
from espalier.export._onnx import session as session
from espalier.export._onnx import to_onnx as to_onnx
from espalier.export._openvino import openvino_session as openvino_session
from espalier.export._runtimes import in_onnx_runtime as in_onnx_runtime
from espalier.export._runtimes import in_openvino as in_openvino
