"""Several processes for one run: started here, or by ``torchrun`` and joined here."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from espalier.errors import RequestError

if TYPE_CHECKING:
    from espalier._ground.world import World

GRACE = 10.0
"""Seconds in which the other ranks may end by themselves once one was lost."""


@contextmanager
def joined(timeout: float) -> Iterator["World"]:
    """The ranks of this run, where ``torchrun`` or :func:`launch` has started this process as one of them.

    Args:
        timeout: Seconds after which a rank that does not answer counts as lost.
    """
    from espalier._ground.world import ALONE, World

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    # Gloo carries tensors of any device; what is summed here is small beside a step of training.
    dist.init_process_group("gloo", timeout=timedelta(seconds=timeout))
    try:
        yield World.current()
    finally:
        dist.destroy_process_group()


def launch(processes: int, arguments: Sequence[str], resume: str) -> int:
    """Run ``espalier`` with these arguments in several processes of this machine; the exit status.

    If one is lost the others are ended, and one message says so.

    Args:
        processes: How many, at least 1.
        arguments: Without the program's name.
        resume: The command that goes on with the run.
    """
    if processes < 1:
        raise RequestError(f"--nproc {processes}; give at least 1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    shared = {
        "OMP_NUM_THREADS": threads, **os.environ, "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    said = [tempfile.TemporaryFile() for _ in range(processes)]
    ranks = []
    for rank in range(processes):
        # Rank 0 speaks; what another says is shown if it is the one that failed.
        quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": said[rank]} if rank else {}
        own = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = [sys.executable, "-m", "espalier", *arguments]
        ranks.append(subprocess.Popen(command, env=own, **quiet))
    try:
        failed = _watched(ranks)
    except KeyboardInterrupt:  # the ranks have heard it too, and rank 0 says how to go on
        _ended(ranks, GRACE)
        return 130
    if failed is None:
        return 0
    _ended(ranks, GRACE)
    status = ranks[failed].returncode
    if failed:
        said[failed].seek(0)
        sys.stderr.write(said[failed].read().decode(errors="replace"))
    # Rank 0 hears of another's end, and has then said all of this itself.
    if status < 0 and not (failed and ranks[0].returncode > 0):
        name = signal.Signals(-status).name
        print(
            f"error: rank {failed} was lost ({name}); the last good checkpoint is kept. Resume with\n  {resume}",
            file=sys.stderr,
        )
    return status if status > 0 else 1


def _watched(ranks: Sequence["subprocess.Popen[bytes]"]) -> int | None:
    """Which rank failed first; ``None`` once all have ended well."""
    while True:
        ended = [rank.poll() for rank in ranks]
        lost = [n for n, status in enumerate(ended) if status]
        if lost:
            # A rank that hears of another's end fails too: the one that a signal ended was first.
            time.sleep(0.5)
            killed = [n for n, rank in enumerate(ranks) if (rank.poll() or 0) < 0]
            return (killed or lost)[0]
        if all(status == 0 for status in ended):
            return None
        time.sleep(0.1)


def _ended(ranks: Sequence["subprocess.Popen[bytes]"], grace: float) -> None:
    """Wait for all to end; those that do not are made to."""
    for end in (None, signal.SIGTERM, signal.SIGKILL):
        for rank in ranks:
            if end is not None and rank.poll() is None:
                rank.send_signal(end)
        until = time.monotonic() + grace
        while any(rank.poll() is None for rank in ranks) and time.monotonic() < until:
            time.sleep(0.05)
