"""Searching by asking for candidates and telling what they are worth: one protocol for all searches."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from espalier.errors import RequestError

C = TypeVar("C")
A = TypeVar("A")


@dataclass(frozen=True)
class Trial(Generic[C]):
    """A candidate, and what it was worth.

    Attributes:
        candidate: Plain data, so that trials can be written down.
        score: Higher is better.
    """

    candidate: C
    score: float


class Search(Protocol[C]):
    """A search at work. Its state is what it was told: a list of :class:`Trial`, plain data.

    Told the same trials, a search of the same settings goes on in the same way; so one that was
    interrupted is resumed by telling it again what is known (:func:`searched`).
    """

    def ask(self) -> C | None:
        """What to try next, the same until its score is told; ``None``: the search is over."""
        ...

    def tell(self, candidate: C, score: float) -> None:
        """What a candidate was worth, higher is better."""
        ...


class Stepwise(Generic[C, A]):
    """A search written as a generator: it yields candidates, is sent their scores, returns its answer.

    Args:
        steps: The generator, not yet begun.

    Attributes:
        answer: What the generator returned; ``None`` until the search is over.

    Example:
        >>> search = Stepwise(bisection(0, 8, until=1))
        >>> [trial.candidate for trial in searched(search, lambda x: 5.0 - x)], search.answer
        ([4, 6, 5], 5)
    """

    def __init__(self, steps: Generator[C, float, A]) -> None:
        self._steps = steps
        self._next: C | None = None
        self.answer: A | None = None
        self._advance(lambda: next(steps))

    def ask(self) -> C | None:
        """The candidate that the generator waits for."""
        return self._next

    def tell(self, candidate: C, score: float) -> None:
        """Send its score.

        Raises:
            RequestError: Another candidate than the one asked for.
        """
        if candidate != self._next:
            raise RequestError(
                f"told of {candidate!r}, but what was asked for is {self._next!r}; tell the "
                "candidates in the order of ask(), each once"
            )
        self._advance(lambda: self._steps.send(score))

    def _advance(self, step: Callable[[], C]) -> None:
        try:
            self._next = step()
        except StopIteration as end:
            self._next, self.answer = None, end.value


def searched(
    search: Search[C],
    score: Callable[[C], float],
    known: Sequence[Trial[C]] = (),
    note: Callable[[list[Trial[C]]], object] | None = None,
) -> list[Trial[C]]:
    """Ask, score and tell until the search is over.

    Args:
        search: At its beginning.
        score: What a candidate is worth, higher is better.
        known: The first trials, from before an interruption: they are told and not scored again.
        note: Called with all trials after each that was scored, to write them down.

    Returns:
        All trials, in order.

    Raises:
        RequestError: ``known`` are another search's.
    """
    trials: list[Trial[C]] = []
    for trial in known:
        if search.ask() != trial.candidate:
            raise RequestError(
                f"trial {len(trials) + 1} on record tried {trial.candidate!r}, and this search asks for "
                f"{search.ask()!r}: they are another search's, of other settings, weights or versions; "
                "begin anew in another place"
            )
        search.tell(trial.candidate, trial.score)
        trials.append(trial)
    while (candidate := search.ask()) is not None:
        trials.append(Trial(candidate, score(candidate)))
        search.tell(candidate, trials[-1].score)
        if note is not None:
            note(trials)
    return trials


def best(trials: Sequence[Trial[C]]) -> Trial[C]:
    """The trial of the highest score, the first of equals; NaN is below everything.

    >>> best([Trial("a", 1.0), Trial("b", float("nan")), Trial("c", 2.0), Trial("d", 2.0)])
    Trial(candidate='c', score=2.0)
    """
    return max(trials, key=lambda trial: (trial.score == trial.score, trial.score))


def bisection(low: Any, high: Any, until: float) -> Generator[Any, float, Any]:
    """The largest number that scores 0 or more, where scores fall: by halving [low, high).

    Args:
        low: Taken to score 0 or more; the answer where nothing else does.
        high: Taken to score less. Two integers are halved to integers.
        until: The width at which to stop; integers: 1.

    Example:
        >>> Stepwise(bisection(0.0, 1.0, until=0.5)).ask()
        0.5
    """
    whole = isinstance(low, int) and isinstance(high, int)
    while high - low > until:
        middle = (low + high) // 2 if whole else 0.5 * (low + high)
        score = yield middle
        low, high = (middle, high) if score >= 0 else (low, middle)
    return low
