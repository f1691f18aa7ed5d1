"""From which pruned fraction on compressed rows (CSR) are not slower than dense, in eager PyTorch, one thread.

python benchmarks/break_even.py            # writes benchmarks/results/break_even.json
"""

import json
import platform
from pathlib import Path

import torch
from torch import nn

from espalier.measure import break_even

RESULT = Path(__file__).parent / "results" / "break_even.json"
SHAPES = ((800, 500), (1024, 1024), (4096, 4096))


def main() -> None:
    torch.manual_seed(0)
    rows = []
    for inputs, outputs in SHAPES:
        for batch in (1, 32):
            found = break_even(nn.Linear(inputs, outputs), batch=batch, threads=1)
            rows.append(
                {
                    "inputs": inputs,
                    "outputs": outputs,
                    "batch": batch,
                    "fraction": found.fraction,
                    "ratio": found.ratio,
                    "speedups": {
                        str(f): [s.low, s.median, s.high] for f, s in found.speedups.items()
                    },
                }
            )
            print(rows[-1], flush=True)
    versions = {"torch": torch.__version__, "machine": platform.machine()}
    RESULT.write_text(json.dumps({"rows": rows, "versions": versions}, indent=1) + "\n")


if __name__ == "__main__":
    main()
