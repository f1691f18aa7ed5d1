"""Models for other runtimes, checked against PyTorch."""

from espalier.export.onnx import Exported as Exported
from espalier.export.onnx import session as session
from espalier.export.onnx import to_onnx as to_onnx
