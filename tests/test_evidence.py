"""The table of claims names tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_claim_names_tests_that_there_are():
    page = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    claims = [row for row in rows if row != "| claim | test |"]
    named = {
        row: re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)(?:::(\w+))?`", row) for row in claims
    }
    assert [row for row, tests in named.items() if not tests] == []
    missing = [
        f"{path}::{name}"
        for tests in named.values()
        for path, name in tests
        if not (ROOT / path).is_file()
        or f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8") + "def ("
    ]
    assert missing == []
