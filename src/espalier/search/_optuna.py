"""Settings of methods, searched by Optuna through the one ask-and-tell."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from espalier._ground.ranges import Checked
from espalier.errors import RequestError

if TYPE_CHECKING:
    import optuna

Settings = dict[str, Any]
"""By name the value of a setting."""


@dataclass(frozen=True, kw_only=True)
class Real(Checked):
    """A number in [low, high].

    Args:
        low: The least.
        high: The most.
        log: Whether its logarithm is searched; wants ``low`` > 0.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self)


@dataclass(frozen=True, kw_only=True)
class Whole(Checked):
    """An integer in [low, high]; arguments as for :class:`Real`."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range(self)


@dataclass(frozen=True)
class OneOf:
    """One of several values.

    Args:
        values: Numbers, texts, truth values or ``None``; at least one.
    """

    values: tuple[bool | int | float | str | None, ...]

    def __post_init__(self) -> None:
        fine = all(v is None or isinstance(v, bool | int | float | str) for v in self.values)
        if not self.values or not fine:
            raise RequestError(
                f"OneOf({self.values!r}); give at least one number, text, truth value or None"
            )


@dataclass(frozen=True, kw_only=True)
class Optuna(Checked):
    """Optuna's tree-structured Parzen estimator (TPE) as an ask-and-tell of ours.

    Trial n is drawn from (seed, n, the scores so far), so a search that goes on from its storage, or
    is told its trials anew, asks for what an uninterrupted one would have.

    Args:
        space: By name the values that a setting may have.
        trials: How many candidates are asked for, >= 1.
        seed: Of the sampler, >= 0.
        storage: A file that keeps the trials (Optuna's journal, lines of JSON), for one process at a
            time; ``None``: they are kept in memory.

    Raises:
        RequestError: An empty space, a domain that is none of ours, or numbers out of range.

    Source: Akiba et al. 2019, *Optuna*; Bergstra et al. 2011, *Algorithms for hyper-parameter
    optimization* (TPE).
    """

    space: Mapping[str, Real | Whole | OneOf]
    trials: Annotated[int, Ge(1)]
    seed: Annotated[int, Ge(0)] = 0
    storage: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        odd = [
            name for name, one in self.space.items() if not isinstance(one, Real | Whole | OneOf)
        ]
        if odd or not self.space:
            got = f"{odd[0]!r}: {self.space[odd[0]]!r}" if odd else "nothing to search"
            raise RequestError(f"space: {got}; give Real, Whole or OneOf by the name of a setting")

    def begin(self) -> "OptunaSearch":
        """The search, from its first trial or from where its storage ends.

        Raises:
            RequestError: Optuna is not installed; the storage is another search's.
        """
        return OptunaSearch(self)


class OptunaSearch:
    """A live :class:`Optuna`: a :class:`~espalier.search.Search` of settings by name."""

    def __init__(self, choice: Optuna) -> None:
        if find_spec("optuna") is None:
            raise RequestError("Optuna is not installed; pip install 'espalier[sweep]'")
        self.choice = choice
        self._distributions = {name: _distribution(one) for name, one in choice.space.items()}
        self._study = _opened(choice)
        # What was asked for and never told, before a kill, is asked for again.
        waiting = [t for t in self._study.get_trials(deepcopy=False) if not t.state.is_finished()]
        self._asked: tuple[int, Settings] | None = (
            (waiting[0].number, dict(waiting[0].params)) if waiting else None
        )

    def ask(self) -> Settings | None:
        """The settings to try next; ``None`` after the last trial."""
        if self._asked is None:
            number = len(self._study.get_trials(deepcopy=False))
            if number >= self.choice.trials:
                return None
            self._study.sampler = _sampler(self.choice.seed, number)
            with _quietly():
                trial = self._study.ask(self._distributions)
            self._asked = trial.number, dict(trial.params)
        return dict(self._asked[1])

    def tell(self, candidate: Settings, score: float) -> None:
        """What they are worth, higher is better; NaN or infinity: the trial failed, and still counts.

        Raises:
            RequestError: Not the settings asked for.
        """
        if self._asked is None or dict(candidate) != self._asked[1]:
            asked = None if self._asked is None else self._asked[1]
            raise RequestError(f"told of {candidate!r}, but what was asked for is {asked!r}")
        from optuna.trial import TrialState

        number, self._asked = self._asked[0], None
        with _quietly():
            if math.isfinite(score):
                self._study.tell(number, score)
            else:
                self._study.tell(number, state=TrialState.FAIL)


def _opened(choice: Optuna) -> "optuna.Study":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = None
    if choice.storage is not None:
        storage = JournalStorage(JournalFileBackend(str(choice.storage)))
    with _quietly():
        study = optuna.create_study(
            storage=storage, study_name="espalier", direction="maximize", load_if_exists=True
        )
    said = {"seed": choice.seed, "space": {name: repr(one) for name, one in choice.space.items()}}
    was = study.user_attrs.get("search", said)
    if was != said:
        raise RequestError(
            f"{choice.storage}: holds a search of another seed or space ({was}); give another file"
        )
    study.set_user_attr("search", said)
    return study


def _sampler(seed: int, number: int) -> Any:
    import numpy as np
    import optuna

    drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=drawn)


def _distribution(one: Real | Whole | OneOf) -> Any:
    from optuna import distributions

    if isinstance(one, OneOf):
        return distributions.CategoricalDistribution(one.values)
    if isinstance(one, Whole):
        return distributions.IntDistribution(one.low, one.high, log=one.log)
    return distributions.FloatDistribution(one.low, one.high, log=one.log)


def _check_range(one: Real | Whole) -> None:
    if one.low > one.high or (one.log and one.low <= 0):
        above = "0 < low <= high" if one.log else "low <= high"
        raise RequestError(f"{one}: give {above}")


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Optuna's own log of every trial."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
