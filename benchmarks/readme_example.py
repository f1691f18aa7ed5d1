"""Run the README's example in a process of its own and keep what it prints.

    OMP_NUM_THREADS=1 python benchmarks/readme_example.py

Writes ``results/readme_example.json``; ``tests/test_readme.py`` holds the README to it.
"""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import torch

from espalier._ground.environment import hardware

ROOT = Path(__file__).parent.parent


def main() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    program = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert program is not None
    done = subprocess.run([sys.executable, "-c", program[1]], stdout=subprocess.PIPE, text=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime  # of the processor: others may share the machine
    if done.returncode:
        sys.exit(done.returncode)
    found = {
        "printed": done.stdout.splitlines(),
        "seconds": round(seconds),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "torch": torch.__version__,
        "processor": hardware()["cpu"],
    }
    file = Path(__file__).parent / "results" / "readme_example.json"
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(done.stdout, end="")


if __name__ == "__main__":
    main()
