"""A method: how weights get to where they may be. The frozen choice, and the live handle it makes.

``Method`` → ``Handle`` is to training what ``Metric`` → ``Gauge`` is to norms: a recipe names the first, a
training loop holds the second. A loop does, in this order,

    loss = f(handle.trained(), batch); loss.backward(); clip
    handle.add_gradients_()       # a pull, the gradient of a penalty
    handle.optimizer.step()
    handle.step(loss)             # counts; updates; holds what is held
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier._ground.registry import Family
from espalier._ground.types import Masks, Weights
from espalier.errors import RequestError
from espalier.methods._certificate import Certificate, Update, certify
from espalier.methods._holding import hold_
from espalier.sets import Constraint
from espalier.tasks import Task

Groups = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
"""What a torch optimiser takes: parameters, or groups of them with settings of their own."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a method may know of the run it is part of.

    Attributes:
        optimizer: Makes the stage's optimiser over parameters, or over groups of them.
        steps: Planned optimiser steps; ``None``: not known.
        steps_per_epoch: Of the task; ``None``: not known.
        lr: The stage's learning rate, before its schedule.
        task: What the model is trained on; ``None`` in a loop of one's own.
        seed: Of the run; a method draws from it what it draws.
        held: Masks of zeros that earlier stages hold; they stay held.
        probe: f on one fixed batch, for surrogate condition (3); ``None``: the interval's mean loss.
    """

    optimizer: Callable[[Groups], Optimizer]
    steps: int | None = None
    steps_per_epoch: int | None = None
    lr: float = 1e-3
    task: Task | None = None
    seed: int = 0
    held: Masks = field(default_factory=dict)
    probe: Callable[[], float] | None = None


@dataclass(frozen=True, kw_only=True)
class Method(Family, ABC):
    """How weights get into a constraint, as a recipe names it."""

    name: ClassVar[str]
    """What recipes and ``espalier methods`` call it."""
    title: ClassVar[str]
    """Its name in prose, as tables and reports print it."""
    sentence: ClassVar[str]
    """What it does, in a line, without formulas."""
    published_cadence: ClassVar[str | None] = None
    """``"epoch"``, ``"10 epochs"``: how often its paper updates; ``None`` where that has no meaning."""

    takes: ClassVar[frozenset[str]] = frozenset()
    """Settings of a recipe's solver that mean the same to it, so that a comparison hands them over."""

    @property
    def label(self) -> str:
        """What tables call it with these settings."""
        return self.title

    @abstractmethod
    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> "Handle":
        """The live thing: bound to the model, with its optimiser made.

        Raises:
            RequestError: The method cannot do what the constraint or the setting asks.
        """


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What the weights would become, and which of them may still move after that.

    Attributes:
        values: By parameter name; a name that is only in ``free`` keeps its value where it is free.
        free: Masks: True where a weight may move on; where False it stays at its value.
    """

    values: Weights
    free: Masks


class Handle(ABC):
    """A method at work on one model. Every hook but :meth:`target` may be left as it is.

    Args:
        model: The model that is trained and cut; looked up by parameter name at every use.
        constraint: What its weights may be.
        optimizer: What moves it, and what the method adds to it; ``None``: the loop's own business.

    Attributes:
        updates: What was done so far, in order; each becomes an event of the run.
    """

    takes_schedule: ClassVar[bool] = True
    """Whether a stage's learning-rate schedule moves the optimiser; False: its rate has another meaning."""

    def __init__(
        self, model: nn.Module, constraint: Constraint, optimizer: Optimizer | None = None
    ) -> None:
        constraint.check(model)
        self.model, self.constraint, self.optimizer = model, constraint, optimizer
        self.updates: list[Update] = []
        self._held: dict[str, Tensor] = {}  # of what may still move, once something is held
        self._frozen: dict[
            str, Tensor
        ] = {}  # the values of tensors that are held elsewhere than at zero

    # ---- what a method says ---------------------------------------------------------------------

    @abstractmethod
    def target(self) -> Cut:
        """What a cut would write now. Only this is each method's own to say."""

    def trained(self) -> nn.Module:
        """What the loss is computed on: the model, or a wrapper of it that gates its parameters."""
        return self.model

    def add_gradients_(self) -> None:  # noqa: B027
        """After ``backward`` (and clipping), before the optimiser's step."""

    def step(self, loss: Tensor | float) -> None:
        """After the optimiser's step. An override calls this last: it holds what has been cut."""
        self._hold_()

    def nothing_to_cut(self) -> bool:
        """Whether a cut would change nothing: the weights are where they may be."""
        return self.constraint.contains(dict(self.model.named_parameters()))

    def certificate(self, tolerance: float = 1e-2) -> Certificate:
        """Per layer how near the weights are to their sets, and the verdict."""
        return certify(self.updates, held=self.nothing_to_cut(), tolerance=tolerance)

    def close(self) -> None:  # noqa: B027
        """Take hooks off the model and the optimiser."""

    # ---- cutting and holding, once for all methods ----------------------------------------------

    @property
    def masks(self) -> Masks:
        """Of the weights that may still move, by parameter name; empty until something is held."""
        return self._held

    @property
    def zeros(self) -> Masks:
        """False where a weight is held at zero, by parameter name: what a later stage goes on holding.

        A weight held at another value, on its level, is True: it is no zero.
        """
        frozen = self._frozen
        return {n: m | (frozen[n] != 0) if n in frozen else m for n, m in self._held.items()}

    @contextmanager
    def hard_pruned(self) -> Iterator[None]:
        """The model as if cut now; the weights come back, bit for bit, on exit."""
        cut = self.target()
        parameters = dict(self.model.named_parameters())
        saved = {n: parameters[n].detach().clone() for n in {**cut.values, **cut.free}}
        try:
            self._write_(cut)
            yield
        finally:
            self._copy_(saved)

    def hard_prune_(self) -> None:
        """Write the target for good; from here on what is not free is held."""
        self._hold_from_now_(self.target())

    def _hold_from_now_(self, cut: Cut) -> None:
        self._write_(cut)
        self._held = {**self._held, **cut.free}  # what else was held stays so
        self._frozen = {
            name: value
            for name, value in cut.values.items()
            if bool((value * ~cut.free[name]).any())
        }
        self.close()

    def _hold_(self) -> None:
        """Put back what an optimiser's momentum or decay has moved."""
        if self._held and not self._frozen:
            hold_(dict(self.model.named_parameters()), self._held)
        elif self._held:
            zeros = {name: mask for name, mask in self._held.items() if name not in self._frozen}
            parameters = dict(self.model.named_parameters())
            hold_(parameters, zeros)
            self._copy_(
                {n: torch.where(self._held[n], parameters[n], v) for n, v in self._frozen.items()}
            )

    def _write_(self, cut: Cut) -> None:
        self._copy_(cut.values)
        zeros = {name: mask for name, mask in cut.free.items() if name not in cut.values}
        hold_(dict(self.model.named_parameters()), zeros)

    @torch.no_grad()
    def _copy_(self, values: Weights) -> None:
        parameters = dict(self.model.named_parameters())
        for name, value in values.items():
            parameters[name].copy_(value)

    # ---- what it keeps --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything, as nested dicts of tensors and JSON scalars: resume is exact to the bit.

        A method adds its own entries to these.
        """
        return {
            "handle": type(self).__name__,
            "updates": [update.event() for update in self.updates],
            "masks": dict(self._held),
            "frozen": dict(self._frozen),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``, into a handle made with the same arguments.

        Raises:
            RequestError: The state is another method's.
        """
        if saved.get("handle") != type(self).__name__:
            raise RequestError(
                f"a state of {saved.get('handle')} cannot go on as {type(self).__name__}; "
                "resume with the method the run began with"
            )
        self.updates = [Update.from_event(event) for event in saved["updates"]]
        self._held, self._frozen = dict(saved["masks"]), dict(saved["frozen"])
