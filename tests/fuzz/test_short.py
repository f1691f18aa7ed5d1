"""The short form of ``make fuzz``: every file that has done harm, and some of the cases of every reader."""

import pytest

from fuzz import campaign as campaign_
from fuzz.campaign import KNOWN, NAMES, campaign, known
from fuzz.readers import Reader


def test_nothing_that_has_done_harm_does_it_again(tmp_path):
    assert campaign({KNOWN: known()}, 0, tmp_path)["failed"] == []


@pytest.mark.slow
def test_files_made_wrong_are_read_or_refused(tmp_path):
    """A process for each reader takes most of the time, so only the readers with the most to get wrong are here."""
    few = ("plan.yaml", "recipe.yaml", "net.packed", "metrics.jsonl", "images.idx")
    cases = {name: NAMES[name] // 40 for name in few}
    assert campaign(cases, 1, tmp_path)["failed"] == []


def test_a_reader_with_a_fault_is_found_and_told(tmp_path, monkeypatch):
    def faulty(path):
        raise KeyError("left out")

    monkeypatch.setattr(
        campaign_, "reader_of", lambda name: Reader(name=name, seeds=(b"",), read=faulty)
    )
    assert "KeyError: 'left out'" in campaign_.read("x", tmp_path)
