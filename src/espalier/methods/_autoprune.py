r"""AutoPrune: every unit has an auxiliary parameter that decides whether it is on, and learns from other data.

Legend: :math:`m_u` of unit u (a weight, a filter, or a channel through several tensors); h(m) = 1[m > 0];
:math:`t = w \, h(m)`; :math:`G = \partial L / \partial t`; a budget b is over units of which each is the part
:math:`r_u` of the whole, and :math:`d_b` may stay; :math:`\mu` and :math:`\delta_b` are prices.
"""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt
from torch import nn

from espalier.errors import RequestError
from espalier.methods._method import Method, Setting
from espalier.methods._straight_through import Estimator, LeakyReLU
from espalier.methods._switching import Switching
from espalier.sets import Constraint
from espalier.solvers import Cubic, Schedule
from espalier.tasks import Parted, Task


@dataclass(frozen=True, kw_only=True)
class AutoPrune(Method):
    r"""Xiao, Wang & Rajasekaran 2019: units are switched by parameters that learn on data the weights do not see.

    .. math:: \min_W \; L_{\text{train}}(W \odot h(M)) + \tfrac{\lambda}{2} \|W\|^2, \qquad
              \min_M \; L_{\text{held out}}(W \odot h(M)) + \mu \sum_u r_u h(m_u)

        m_u \leftarrow m_u - \tfrac{\eta}{\sigma_b} \,
            \Bigl(\sum_{i \in u} G_i \operatorname{sgn}(w_i) + \mu r_u\Bigr) \, h'(m_u)

    in turn. With ``penalty`` μ is fixed and the density is what comes out: no layer is given a ratio, and the
    budget of the constraint is not used. Without, every step of M is followed by the smallest price
    :math:`\delta_b \ge 0`, :math:`m_u \leftarrow m_u - \delta_b h(m_u)`, at which no more units are on than the
    budget has room for. λ is the weight decay of the stage's optimiser, η follows its learning rate, and
    :math:`\sigma_b` is the root mean square of the gradient over all units of a budget, one figure for it.

    Args:
        penalty: μ, the price of the whole model kept; the paper's μ, which is per weight, times the weights.
            ``None``: the price that meets the budget.
        estimator: Whose derivative h' stands in for that of the step function.
        held_out: Fraction of the training data that M learns from and W never sees; the same of each class.
            0: both learn from the same batch in one pass, which is half the work.
        cadence: Steps of W to one of M.
        lr: η over the learning rate of W.
        start: The mean of m at the start; all units are on.
        by_size: Begin with m in proportion to the mean size of a unit's weights, within each tensor's budget;
            False: all alike.
        erodes: Let decay and momentum go on moving weights that are off; else they wait as they were.
        opening: How the budget closes, where there is no ``penalty``; the cut is always at the budget itself.
        settle: The fraction of the run after which M is fixed and W is fine-tuned; ``None``: never.

    Raises:
        RequestError: A number outside its range.
    """

    name = "autoprune"
    title = "AutoPrune"
    sentence = "Every unit is switched by a parameter that learns on held-out data; what went can come back"

    penalty: Annotated[float, Ge(0)] | None = None
    estimator: Estimator = field(default_factory=LeakyReLU)
    held_out: Annotated[float, Ge(0), Lt(1)] = 0.1
    cadence: Annotated[int, Ge(1)] = 1
    lr: Annotated[float, Gt(0)] = 0.3
    start: Annotated[float, Gt(0)] = 0.1
    by_size: bool = True
    erodes: bool = False
    opening: Schedule = field(default_factory=lambda: Cubic(until=0.5))
    settle: Annotated[float, Gt(0), Le(1)] | None = 0.7

    def trains_on(self, task: Task) -> Task:
        """The part of the training data that W sees.

        Raises:
            RequestError: The task cannot be parted.
        """
        return self._parts(task)[0]

    def held_out_of(self, task: Task | None) -> Task | None:
        """The part that M learns from; ``None`` where both learn from the same batches."""
        if not self.held_out:
            return None
        if task is None:
            raise RequestError(
                "autoprune needs the task to hold a part of its training data out; give task= in the "
                "setting, or held_out=0 to learn both from the same batches"
            )
        return self._parts(task)[1]

    def _parts(self, task: Task) -> tuple[Task, Task]:
        if not self.held_out:
            return task, task
        if not isinstance(task, Parted):
            raise RequestError(
                f"{type(task).__name__} cannot hold out a part of its training data: it has no "
                "parted(fraction) -> (rest, part); write it, or set held_out: 0"
            )
        return task.parted(self.held_out)

    def attach(self, model: nn.Module, constraint: Constraint, setting: Setting) -> Switching:
        """A :class:`Switching` handle; the optimiser moves the model's parameters, and M in turn."""
        return Switching(model, constraint, self, setting)
