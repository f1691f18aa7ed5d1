"""The README's example runs as printed, and does what the README says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def test_the_output_in_the_readme_is_that_of_its_result_file():
    kept = json.loads((ROOT / "benchmarks/results/readme_example.json").read_text(encoding="utf-8"))
    printed = "\n".join(kept["printed"])
    assert f"```\n{printed}\n```" in README.read_text(encoding="utf-8")
    assert kept["seconds"] < 30  # "under half a minute"


def figures_of(text):
    return [float(f) for f in re.findall(r"^[a-z, ]+: +([\d.]+)%$", text, re.MULTILINE)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_example_runs_and_prints_what_it_says(tmp_path):
    pytest.importorskip("sklearn")
    text = README.read_text(encoding="utf-8")
    program = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert program is not None
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-c", program.group(1)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert printed.returncode == 0, printed.stderr
    dense, at_once, trained = figures_of(printed.stdout)
    said = figures_of(text)
    assert len(said) == 3
    # Sums in another order train to other weights: the figures hold to a few of 359 images.
    assert abs(dense - said[0]) < 2
    assert at_once < 50
    assert abs(trained - said[2]) < 4
    forced = re.search(
        r"^Forced at step 310: took ([\d.]+)% of the weights' norm", printed.stdout, re.MULTILINE
    )
    assert forced, printed.stdout
    assert forced[0].rsplit(" took", 1)[0] in text
    assert 8 < float(forced[1]) < 25
