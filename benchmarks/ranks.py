"""Selection over ranks against gathering the tensor and ``topk``: bytes sent per update, and time as a ratio.

``python benchmarks/ranks.py [--ranks 4] [--rounds 5] [--out benchmarks/results/ranks.json]``

Each of the ranks (processes of this machine, gloo) holds a part of one tensor of n weights and finds which tenth of
them stays: by counting (``espalier._ground.selection``), and by gathering all parts and taking the largest. Both must
choose the same weights, but for ties. The two are timed in turn, in one run, so that what else the machine does
meets both; the ratio is of the medians. Bytes are those that a rank hands to its collectives.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from espalier._ground.environment import hardware, versions
from espalier._ground.sharding import Piece
from espalier._ground.world import World, settled
from espalier.sets import Alone, Unstructured
from espalier.sets._over_ranks import support

SIZES = [10**4, 10**5, 10**6, 10**7]


class Counted(World):
    """A world that notes what it sends."""

    def _reduced(self, x, op):
        SENT.append(x.numel() * x.element_size())
        return super()._reduced(x, op)


SENT: list[int] = []


def by_counting(part, piece, constraint, world):
    return settled(support(constraint, {"w": part}, {}, {"w": piece}), world)["w"]


def by_gathering(part, piece, constraint, world):
    sizes = [end - start for start, end in piece.cuts]
    parts = [part.new_empty(size) for size in sizes]
    if len(set(sizes)) > 1:  # gloo gathers parts of one size
        raise SystemExit("give sizes that the ranks divide")
    dist.all_gather(parts, part)
    score = torch.cat(parts).abs()
    mask = torch.zeros(score.numel(), dtype=torch.bool)
    chosen = score.topk(constraint.keep, sorted=False)
    mask[chosen.indices] = True
    return piece.part(mask), chosen.values.min()


def timed(how, *arguments):
    dist.barrier()
    began = time.perf_counter()
    found = how(*arguments)
    dist.barrier()
    return time.perf_counter() - began, found


def rank(rounds: int, out: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    world = Counted(group=dist.group.WORLD)
    rows = []
    for n in SIZES:
        constraint = Alone("w", (n,), Unstructured(), n // 10)
        piece = Piece.chunk((n,), 0, world.size, world.rank)
        seconds: dict[str, list[float]] = {"counting": [], "gathering": []}
        for number in range(rounds + 1):
            w = torch.randn(n, generator=torch.Generator().manual_seed(number))
            part = piece.part(w).clone()
            SENT.clear()
            counting, first = timed(by_counting, part, piece, constraint, world)
            sent = list(SENT)
            gathering, (second, least) = timed(by_gathering, part, piece, constraint, world)
            assert bool(
                (part[first ^ second].abs() == least).all()
            )  # topk takes any of those that tie
            assert int(world.sum(first.sum())) == constraint.keep
            if number:  # the first warms both up
                seconds["counting"].append(counting)
                seconds["gathering"].append(gathering)
        low = {how: statistics.median(each) for how, each in seconds.items()}
        rows.append(
            {
                "weights": n,
                "collectives": len(sent),
                "bytes": {"counting": sum(sent), "gathering": part.numel() * part.element_size() * (world.size - 1)},
                "seconds": {how: {"median": low[how], "all": each} for how, each in seconds.items()},
                "times_faster": low["gathering"] / low["counting"],
            }
        )  # fmt: skip
        if world.rank == 0:
            row = rows[-1]
            print(
                f"{n:>12,} weights: {row['collectives']} collectives, {row['bytes']['counting']:,} bytes against "
                f"{row['bytes']['gathering']:,}; {row['times_faster']:.2f} times as fast", flush=True,
            )  # fmt: skip
    if world.rank == 0:
        told = {
            "ranks": world.size, "backend": "gloo", "rounds": rounds, "keep": "a tenth", "rows": rows,
            "versions": versions("torch", "espalier"), "hardware": hardware(),
        }  # fmt: skip
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(told, indent=2) + "\n")
    dist.destroy_process_group()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ranks.json"))
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        rank(arguments.rounds, arguments.out)
        return 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(arguments.ranks),
    }
    ranks = [
        subprocess.Popen([sys.executable, *sys.argv], env={**shared, "RANK": str(number)})
        for number in range(arguments.ranks)
    ]
    return max(abs(process.wait()) for process in ranks)


if __name__ == "__main__":
    sys.exit(main())
