"""Randomness as a pure function of where one is: (seed, epoch, step)."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def generator_for(seed: int, *key: int) -> torch.Generator:
    """A CPU generator for every (seed, key); SeedSequence keeps neighbours independent.

    >>> one, two = (torch.rand(2, generator=generator_for(0, 3, 1)) for _ in range(2))
    >>> torch.equal(one, two)
    True
    """
    return torch.Generator().manual_seed(_word(seed, *key))


@contextmanager
def seeded(seed: int, *key: int) -> Iterator[None]:
    """Inside, the global generators of torch (CPU), ``random`` and NumPy start from (seed, key).

    After it, also when the block raises, they are what they were: whatever a data set or a collate
    function draws inside neither depends on the rest of the program nor changes it.
    """
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    word = _word(seed, *key)
    # Not torch.manual_seed: it would also seed every GPU, and those would not be put back.
    torch.default_generator.manual_seed(word)
    random.seed(word)
    np.random.seed(word % 2**32)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


def _word(seed: int, *key: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0])
