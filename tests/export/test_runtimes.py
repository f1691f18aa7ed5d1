"""Exported models that are timed compute what the model computes, or are refused."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from espalier import export
from espalier.errors import RequestError, RunError
from espalier.export import _runtimes as contestants
from espalier.export import openvino_session, to_onnx

ENTER = {"ONNX Runtime": export.in_onnx_runtime, "OpenVINO": export.in_openvino}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)
    )


@pytest.mark.parametrize("runtime", ENTER)
def test_every_batch_size_and_number_of_threads_gives_the_models_outputs(net, runtime):
    pytest.importorskip("onnxscript")
    pytest.importorskip(runtime.replace(" ", "").lower())
    prepare = ENTER[runtime](net.train(), torch.randn(1, 1, 6, 6))
    assert net.training
    net.eval()
    for batch, threads in ((1, 1), (5, 2)):
        inputs = torch.randn(batch, 1, 6, 6)
        found = prepare(inputs, threads)()
        torch.testing.assert_close(found, net(inputs).detach(), rtol=1e-4, atol=1e-5)


def test_an_output_of_openvino_outlives_the_next_call(net):
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    inputs = torch.randn(2, 1, 6, 6)
    run = openvino_session(to_onnx(net, inputs).data, inputs.shape)
    first = run(inputs)
    kept = first.clone()
    run(-inputs)
    assert torch.equal(first, kept)


SIGNALLED = """
import faulthandler, os, signal, sys, torch
from espalier.export import openvino_session, to_onnx

faulthandler.enable()
inputs = torch.randn(2, 4)
data = to_onnx(torch.nn.Linear(4, 3).eval(), inputs).data
first, second = (openvino_session(data, inputs.shape, 1) for _ in range(2))
del first
del second
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_signals_are_handled_after_models_of_openvino_are_gone():
    """In a process of its own, which a freed signal stack would end."""
    pytest.importorskip("openvino")
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_what_computes_something_else_in_openvino_is_not_timed(net, monkeypatch):
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    true = contestants.openvino_session
    monkeypatch.setattr(
        contestants, "openvino_session", lambda *about: lambda x: true(*about)(x) * 1.01
    )
    prepare = export.in_openvino(net, torch.randn(1, 1, 6, 6))
    with pytest.raises(RunError, match="OpenVINO computes something else"):
        prepare(torch.randn(1, 1, 6, 6), 1)


def test_without_the_extra_the_answer_says_what_to_install(net, monkeypatch):
    monkeypatch.setattr(contestants, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'espalier\[openvino\]'"):
        export.in_openvino(net, torch.randn(1, 1, 6, 6))
