"""The SLR paper's ResNet-18 on CIFAR-10 at 8.71×: SLR and ADMM at published and at matched cadence.

    python benchmarks/resnet18_cifar10.py --data FOLDER --device cuda --seconds 540

needs a GPU and some hours of it in all: 200 epochs of dense training, then four runs of 50. It works for ``--seconds``,
stops, and goes on where it was when called again, to the same weights; every call does a useful piece. ``--try`` is a
few steps on the CPU, to see that it runs. The tables are ``compare.json`` and ``report.html`` of the two folders.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "slr-ijcai21-resnet18-cifar10-8.71x.yaml"
TRY = {
    "data.limit_train": 256, "data.limit_test": 200, "training.epochs": 2,
    "training.batch_size": 64, "pretrain.epochs": 1,
}  # fmt: skip

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", required=True, help="folder that holds cifar10/cifar-10-batches-bin"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "resnet18-cifar10")
    parser.add_argument("--try", dest="trial", action="store_true")
    options = parser.parse_args()
    changes = {
        "training.device": "cpu" if options.trial else options.device,
        **(TRY if options.trial else {}),
    }
    settings = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    ends = time.monotonic() + options.seconds
    environment = {**os.environ, "ESPALIER_DATA": options.data}
    for name, cadence in (("published", ["--published-cadence"]), ("matched", [])):
        out = ["--out", str(options.out / name)]
        command = [
            sys.executable,
            "-m",
            "espalier.cli",
            "compare",
            str(RECIPE),
            *cadence,
            *settings,
            *out,
        ]
        try:
            subprocess.run(
                command, env=environment, check=True, timeout=max(1.0, ends - time.monotonic())
            )
        except subprocess.TimeoutExpired:
            sys.exit(
                f"{options.seconds:.0f} seconds are over; the same command goes on from the last checkpoint"
            )
