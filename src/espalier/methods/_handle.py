"""The live handle that a method makes: a loop's calls, the evidence and the state, once for all methods."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier._ground.sharding import local, parameters_of, totals
from espalier._ground.types import Weights
from espalier._ground.world import World
from espalier.errors import RequestError
from espalier.methods._attachment import Attachable, Attachment
from espalier.methods._certificate import Certificate, Figures, Forced, Taken, taken
from espalier.methods._method import Cut
from espalier.methods._placing import as_placed
from espalier.methods._states import check_entries, check_tensors, fitting
from espalier.methods._update import Update
from espalier.methods._verdict import Course, certify
from espalier.methods._watch import PullWatch, Tensors
from espalier.sets import Constraint
from espalier.solvers import Approach, State
from espalier.tasks import Goal


class Handle(Attachable):
    """A method at work on one model. Every hook but :meth:`target` may be left as it is.

    What a loop does wrong is an error at the first step at which it is wrong (``_watch.py``).

    Args:
        model: The model that is trained and cut; looked up by parameter name at every use.
        constraint: What its weights may be.
        optimizer: What moves it, and what the method adds to it; ``None``: the loop's own business.
        world: The ranks that train it together; ``None``: all of the default process group.

    Attributes:
        updates: What was done so far, in order; each becomes an event of the run.
        advice: What was said of the run before it began.

    Raises:
        RequestError: The optimiser does not hold what is constrained; two names of one tensor; parameters sharded
            over ranks, where the method needs whole ones.
    """

    takes_schedule: ClassVar[bool] = True
    """Whether a stage's learning-rate schedule moves the optimiser; False: its rate has another meaning."""

    needs_whole: ClassVar[str | None] = "the method works on"
    """What it does with parameters that must be whole, for the refusal of sharded ones; ``None``: it takes both."""

    def __init__(
        self,
        model: nn.Module,
        constraint: Constraint,
        optimizer: Optimizer | None = None,
        world: World | None = None,
    ) -> None:
        constraint.check(model)
        super().__init__(model, constraint.names)
        self.world = World.current() if world is None else world
        constraint = as_placed(constraint, model, self.needs_whole)
        self.constraint, self.optimizer = constraint, optimizer
        self._pull: PullWatch | Attachment = PullWatch(optimizer)
        if optimizer is not None:
            self._tensors.moved_by(optimizer)
        self.updates: list[Update] = []
        self.advice: tuple[str, ...] = ()
        self._count = 0
        self._forced: list[Forced] = []
        self._figures: Figures | None = None

    # ---- what a method says ---------------------------------------------------------------------

    def trained(self) -> nn.Module:
        """What the loss is computed on: the model, or a wrapper of it that gates its parameters."""
        return self.model

    def add_gradients_(self) -> None:
        """After ``backward`` (and clipping), before the optimiser's step."""

    def step(self, loss: Tensor | float | None = None) -> None:
        """After the optimiser's step: count it, do what is due, and hold what has been cut.

        Args:
            loss: Of this step; ``None``: it is not known.

        Raises:
            RequestError: The pull was not added; a parameter was replaced; the model is as if cut now.
        """
        self._refuse_inside("step()")
        self._tensors.now()
        self._pull.count(self._count + 1, owed=self._owes_pull())
        self._count += 1
        self._after_step_(loss)
        self._hold_()

    def _after_step_(self, loss: Tensor | float | None) -> None:
        """What the method does once a step is counted, before what is cut is held."""

    def _owes_pull(self) -> bool:
        """Whether the step now ending needed :meth:`add_gradients_`."""
        return False

    def nothing_to_cut(self) -> bool:
        """Whether a cut would change nothing: the weights are where they may be."""
        return self.constraint.contains(parameters_of(self.model))

    # ---- the evidence ---------------------------------------------------------------------------

    @property
    def approach(self) -> Approach:
        """What is true of every run of the method."""
        return State.approach

    def evaluated(
        self, figure: float | None, goal: Goal | None = None, *, before: bool = False
    ) -> None:
        """Tell of an evaluation, so that the certificate can say what forcing the zeros cost.

        Args:
            figure: The task's metric of the model as it is now, not as if cut; ``None``: it has none.
            goal: Its name, unit and direction; by default an accuracy, as a fraction.
            before: It was measured before the handle was made, which may hold zeros from the first step.

        Raises:
            RequestError: Inside :meth:`hard_pruned`, where the model is not as it is now.
        """
        if figure is None:
            return
        self._refuse_inside("evaluated()")
        figures = self._figures or Figures(goal=goal or Goal())
        self._figures = figures.then(
            self._count, float(figure), forced=bool(self._forced) and not before
        )

    @torch.no_grad()
    def certificate(self, tolerance: float = 1e-2) -> Certificate:
        """What became of the weights, and the verdict; from the moment when zeros were forced it is final.

        Args:
            tolerance: The part of the weights' norm that counts as nothing.

        Raises:
            RequestError: A parameter was replaced since the handle was made; inside :meth:`hard_pruned`.
        """
        self._refuse_inside("certificate()")
        self._tensors.now()
        parameters = parameters_of(self.model)
        odd = {n: (~local(p).isfinite()).sum() for n, p in parameters.items()}
        finite = not any(totals(odd, parameters))
        ahead, left = _NOTHING, None
        if finite:
            w, z = self._effective(), self.target().values
            ahead, left = taken(w, z), self._off_plan({**w, **z})
        course = Course(
            approach=self.approach, steps=self._count, updates=self.updates, ahead=ahead, left=left,
            forced=self._forced, figures=self._figures, finite=finite,
            done=finite and self.nothing_to_cut(), advice=self.advice,
        )  # fmt: skip
        return certify(course, tolerance)

    def _off_plan(self, z: Weights) -> tuple[float, float] | None:
        """Of weights whose zeros are not where the plan wants them: how many are left, and the plan's part.

        Not so for a method whose own setting decides how many are zero.
        """
        kept = {name: (z[name] != 0).float() for name in self.constraint.names}
        if self.constraint.contains(kept):
            return None
        left = sum(totals({name: local(k).sum() for name, k in kept.items()}, kept))
        return left / sum(k.numel() for k in kept.values()), self.constraint.density

    def _effective(self) -> dict[str, Tensor]:
        """The constrained weights as they count for the loss."""
        return {name: p.detach() for name, p in self._tensors.now().items()}

    def _taking(self, cut: Cut) -> None:
        self._force(self._effective(), cut.values)

    def _force(self, w: Weights, z: Weights) -> None:
        """Note that ``z`` is about to be written over ``w``, unless that has taken nothing anew."""
        took = taken(w, z)
        if took.total != 0.0 or not self._forced:
            forced = Forced(step=self._count, total=took.total, layers=took.layers)
            self._forced.append(forced)

    # ---- what it keeps --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything, as nested dicts of tensors and JSON scalars: resume is exact to the bit.

        A method adds its own entries to these.
        """
        return {
            "handle": type(self).__name__,
            "density": self.constraint.density,
            "count": self._count,
            "forced": [asdict(one) for one in self._forced],
            "figures": self._figures and asdict(self._figures),
            "updates": [update.event() for update in self.updates],
            "masks": dict(self._held),
            "frozen": dict(self._frozen),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """The inverse of ``state_dict``, into a handle made with the same arguments.

        Raises:
            RequestError: The state is another method's, another model's, or none; nothing was changed.
        """
        with fitting():
            self._check_state(saved)
            updates = [Update.from_event(event) for event in saved["updates"]]
            # States of earlier versions know nothing of these.
            forced = [Forced(**one) for one in saved.get("forced", ())]
            figures = saved.get("figures")
            figures = None if figures is None else Figures.from_dict(figures)
        self._tensors = Tensors(self.model, self.constraint.names)
        self.updates, self._forced, self._figures = updates, forced, figures
        self._held, self._frozen = dict(saved["masks"]), dict(saved["frozen"])
        self._count = saved.get("count", 0)

    def _check_state(self, saved: Mapping[str, Any]) -> None:
        """Refuse what is not a state of such a handle on such a model."""
        if saved.get("handle") != type(self).__name__:
            raise RequestError(
                f"a state of {saved.get('handle', 'nothing')} cannot go on as {type(self).__name__}; "
                "resume with the method the run began with"
            )
        own, its = self.constraint.density, saved.get("density", self.constraint.density)
        if own != its:
            raise RequestError(
                f"a state of density {its:.6g} cannot go on to the density {own:.6g}; resume with the plan the "
                "run began with"
            )
        check_entries(saved, self.state_dict(), optional=_NEWER)
        parameters = parameters_of(self.model)
        for what in ("masks", "frozen"):
            check_tensors(what, saved[what], parameters)


_NEWER = ("density", "count", "forced", "figures", "parts")
_NOTHING = Taken(weight={}, violation={})
