"""Bytes flipped, lost and added at random: the file loads identically or is refused."""

import random
import resource
import time

import pytest
import torch
from torch import nn

from artifact.nets import Net, bits, compacted
from espalier.artifact import load, save, state_dict
from espalier.errors import CheckpointError, RequestError


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A good artefact, and what it loads as."""
    path = tmp_path_factory.mktemp("good") / "net.espalier"
    save(path, compacted()[1], metrics={"accuracy": 0.5})
    return path, load(path, Net).state_dict()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bad.espalier"


def test_damage_anywhere_loads_identically_or_is_refused(good, path):
    source, state = good
    raw = source.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    chance = random.Random(0)
    refusals, begun = 0, time.monotonic()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for trial in range(400):
        bad = bytearray(raw)
        low, high = [(0, 9), (9, start), (start, len(raw)), (0, len(raw))][trial % 4]
        for _ in range(chance.choice([1, 1, 2, 8])):
            at = chance.randrange(low, high)
            kind = chance.randrange(4)
            if kind == 0:
                bad[min(at, len(bad) - 1)] ^= 1 << chance.randrange(8)
            elif kind == 1:
                bad[min(at, len(bad) - 1)] = chance.choice(b'\0\xff"{}[],:0919-\\ ')
            elif kind == 2:
                del bad[at : at + chance.choice([1, 3, 10**9])]
            else:
                bad[at:at] = chance.randbytes(chance.randrange(1, 9))
            bad = bad or bytearray(b"\0")
        path.write_bytes(bad)
        try:
            back = load(path, Net).state_dict()
        except (CheckpointError, RequestError):
            refusals += 1
            continue
        assert list(back) == list(state)
        assert all(torch.equal(bits(back[name]), bits(state[name])) for name in state)
    assert refusals > 380
    assert time.monotonic() - begun < 60  # a hang, not a slow machine
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000  # KiB


def test_every_flipped_bit_of_the_weights_is_noticed(path):
    save(path, nn.Linear(2, 1, bias=False))
    raw = path.read_bytes()
    for bit in range(64):
        bad = bytearray(raw)
        bad[len(raw) - 8 + bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match="checksum"):
            state_dict(path)


def test_every_truncation_is_refused(path):
    save(path, nn.Linear(2, 1, bias=False))
    raw = path.read_bytes()
    for size in range(0, len(raw), 7):
        path.write_bytes(raw[:size])
        with pytest.raises(CheckpointError, match=r"cut short|not a safetensors file"):
            state_dict(path)


def test_the_constructor_is_not_called_for_a_bad_file(path):
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError):
        load(path, lambda: pytest.fail("called"))
