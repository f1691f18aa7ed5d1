"""Real processes over gloo: DDP and FSDP2 come to what one rank comes to. What they do is in ``cases.py``."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("cases.py")
TOLERANCE = 1e-5


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def run_ranks(size, folder):
    """What every case found; all of them in one start of the processes."""
    here = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(WORKER), str(folder)]
    logs = [open(folder / f"log-{size}-{rank}", "wb") for rank in range(size)]
    ranks = [
        subprocess.Popen(
            command,
            env={**os.environ, **here, "RANK": str(rank), "WORLD_SIZE": str(size)},
            stdout=logs[rank], stderr=subprocess.STDOUT,
        )
        for rank in range(size)
    ]  # fmt: skip
    try:
        for rank in ranks:
            rank.wait(timeout=400)
    finally:
        for rank, log in zip(ranks, logs, strict=True):
            rank.kill()
            rank.wait()
            log.close()
    found = folder / f"found-{size}.json"
    assert found.is_file(), (folder / f"log-{size}-0").read_text()[-3000:]
    return json.loads(found.read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Of two ranks, then of four: these go on with what two have saved."""
    folder = tmp_path_factory.mktemp("ranks")
    return {size: run_ranks(size, folder) for size in (2, 4)}


def assert_equal_to_one_rank(told):
    assert told["supports"], told
    assert told["difference"] < TOLERANCE, told
    assert told["evidence"] < TOLERANCE, told
    assert told["verdict"], told
    assert told["conditions"], told


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("size", [2, 4])
def test_every_solver_set_metric_and_mesh_comes_to_what_one_rank_comes_to(found, size):
    compared = {name: told for name, told in found[size].items() if "supports" in told}
    assert len(compared) >= {2: 32, 4: 12}[size]
    for name, told in found[size].items():
        assert "error" not in told, (name, told["error"])
    for told in compared.values():
        assert_equal_to_one_rank(told)


def test_a_state_saved_on_two_ranks_goes_on_on_four_and_on_one(found):
    assert found[2]["saved"]["files"] == [".safetensors"]  # nothing pickled
    assert_equal_to_one_rank(found[4]["resumed"]["four"])
    assert_equal_to_one_rank(found[4]["resumed"]["one"])


def test_mixed_precision_prunes_the_weights_that_the_optimiser_moves(found):
    assert found[2]["mixed-precision"] == {"same": True, "rows": [4, 2], "dtype": "torch.float32"}


def test_what_needs_whole_parameters_is_refused_by_name(found):
    told = found[2]["refusals"]
    assert "0.weight: sharded; l0 multiplies whole parameters, so use DDP" in told["l0"]
    assert "0.weight: sharded; autoprune switches whole parameters" in told["autoprune"]
    assert "0.weight: filters_and_columns: " in told["filters-and-columns"]
    assert "0.weight: the distance of its levels" in told["levels"]
    assert (
        "blocks: parts of [5, 5] along axis 0 of (10, 8) cut through its blocks" in told["blocks"]
    )


def test_two_sharded_axes_or_two_meshes_are_refused_by_name(found):
    assert "0.weight: placed as" in found[4]["two-meshes"]["refused"]


def test_ranks_that_have_parted_are_told_what_differs(found):
    for said in found[2]["apart"]["said"]:
        assert "step 10: ranks 0 and 1 do not hold the same" in said
        assert "weights of 2.weight" in said
