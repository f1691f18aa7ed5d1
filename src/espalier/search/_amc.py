r"""AMC: how much of each layer stays, learned by reinforcement under a budget that is always met.

Legend (paper → here): layer t ``t``, action :math:`a_t` the fraction of it that stays; n, c its filters and
channels, k its kernel; FLOPs[t] what it costs; ``reduced`` what the layers before it save, ``rest`` what those
after it may still cost. Error is 1 − accuracy; the search is told ``score`` = −Error.

He, Lin, Liu, Wang, Li & Han, *AMC: AutoML for Model Compression and Acceleration on Mobile Devices*, ECCV 2018
(arXiv:1802.03494), §3; settings from its released code.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from espalier.errors import RequestError
from espalier.planning import Allotment
from espalier.search._allocating import Searching, Steps, clamped
from espalier.search._ddpg import DDPG, Agent


@dataclass(frozen=True, kw_only=True)
class Random(Searching):
    """Keeps drawn at random under the budget; the best of them: the control of every search.

    Args:
        evaluations: How many are tried.
        floor: The smallest fraction of a group that is tried.
        log: Whether fractions are drawn on a logarithmic scale from ``floor`` to 1.
    """

    name = "random"

    evaluations: Annotated[int, Ge(1)] = 400
    floor: Annotated[float, Ge(0), Lt(1)] = 0.0
    log: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_floor(self.floor, self.log)

    def steps(self, of: Allotment, seed: int) -> Steps:
        """The warm-up of AMC, and nothing after it."""
        n = self.evaluations
        return AMC(floor=self.floor, log=self.log, episodes=n, warmup=n).steps(of, seed)


@dataclass(frozen=True, kw_only=True)
class AMC(Searching, DDPG):
    r"""Keeps that an agent learns to choose, layer after layer, from the accuracy of what they leave.

    .. math:: R_{\text{err}} = -\text{Error}, \qquad R_{\text{cost}} = -\text{Error} \cdot \log(\text{cost})

    Args:
        episodes: How many candidates are tried, each one evaluation.
        warmup: The first of them, drawn blindly.
        noise: σ of the exploration noise after that.
        decay: What each episode leaves of σ.
        reward: ``budget``: R_err, all of the budget may be spent; ``accuracy``: R_cost, which pays for what
            is left of it.
        floor: The smallest fraction of a group that is tried.
        log: Whether an action is the logarithm of a fraction, from ``floor`` to 1: for budgets of a few per cent.

    Source: He et al. 2018, *AMC* (arXiv:1802.03494).
    """

    name = "amc"
    sentence = "An agent (DDPG) learns each layer's share under the budget (AMC, ECCV 2018)"

    episodes: Annotated[int, Ge(1)] = 400
    warmup: Annotated[int, Ge(0)] = 100
    noise: Annotated[float, Ge(0)] = 0.5
    decay: Annotated[float, Gt(0), Le(1)] = 0.95
    reward: Literal["budget", "accuracy"] = "budget"
    floor: Annotated[float, Ge(0), Lt(1)] = 0.0
    log: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_floor(self.floor, self.log)

    def steps(self, of: Allotment, seed: int) -> Steps:
        """Episodes; the keeps of the highest reward, filled up where the reward does not ask to save."""
        layers = fixed_features(of)
        agent = Agent(self, layers.shape[1] + 3, len(of.names), seed)
        found, highest = of.least, -math.inf
        for episode in range(self.episodes):
            states: list[Tensor] = []
            actions: list[float] = []
            blind = episode < self.warmup
            sigma = self.noise * self.decay ** max(0, episode - self.warmup)

            def action(
                keep: list[int], states: list[Tensor] = states, actions: list[float] = actions,
                blind: bool = blind, sigma: float = sigma,
            ) -> float:  # fmt: skip
                states.append(state(of, layers, keep))
                actions.append(agent.uniform() if blind else agent.act(states[-1], sigma))
                return actions[-1]

            keep = clamped(of, self.floor, self.log, action)
            score = yield dict(zip(of.names, keep, strict=True))
            reward = self.rewarded(score, of.cost(keep))
            if not math.isfinite(reward):
                continue  # a cut that broke the model teaches nothing
            # What the budget forbade was not done: the agent learns of the fraction that was.
            agent.remember(states, taken(of, keep, self.floor, self.log), reward)
            if reward > highest:
                found, highest = keep, reward
            if not blind:
                for _ in keep:
                    agent.learn()
        return of.filled(found) if self.reward == "budget" else found

    def rewarded(self, score: float, cost: float) -> float:
        """R of a score −Error and a cost.

        >>> AMC().rewarded(-0.25, 100.0), round(AMC(reward="accuracy").rewarded(-0.25, 100.0), 4)
        (-0.25, -1.1513)
        """
        return score if self.reward == "budget" else score * math.log(max(cost, 1.0))


def fixed_features(of: Allotment) -> Tensor:
    """What is always the same of each group: (T, 7), each column scaled to [0, 1].

    Columns: t, n, c, output positions h'w', stride, k, FLOPs[t].
    """
    parameters, rows = dict(of.model.named_parameters()), []
    for t, name in enumerate(of.names):
        weight = parameters[name]
        stride: Any = getattr(of.model.get_submodule(name.rpartition(".")[0]), "stride", 1)
        rows.append(
            [t, of.allowed[t].size, weight.shape[1] if weight.dim() > 1 else 1,
             of.macs.get(name, 0) / weight.numel(), stride[0] if isinstance(stride, tuple) else stride,
             weight.shape[-1] if weight.dim() > 2 else 1, of.own[t]]
        )  # fmt: skip
    columns = torch.tensor(rows, dtype=torch.float64)
    low, high = columns.amin(0), columns.amax(0)
    return ((columns - low) / (high - low).clamp(min=1e-12)).float()


def state(of: Allotment, layers: Tensor, keep: list[int]) -> Tensor:
    """s_t, after the keeps of the groups before t: the fixed features, reduced, rest, and a_{t−1}."""
    t, total = len(keep), max(sum(of.own), 1e-12)
    decided = of.cost([*keep, *of.dense[t:]])
    reduced = (of.cost(of.dense) - decided) / total
    rest = sum(of.own[t + 1 :]) / total
    before = keep[-1] / of.allowed[t - 1].size if keep else 1.0
    return torch.cat([layers[t], torch.tensor([reduced, rest, before])])


def taken(of: Allotment, keep: list[int], floor: float, log: bool) -> list[float]:
    """The actions in [0, 1] that stand for the fractions kept."""
    found = []
    for k, one in zip(keep, of.allowed, strict=True):
        ratio = max(k / one.size, floor)
        u = 1.0 - math.log(ratio) / math.log(floor) if log else (ratio - floor) / (1.0 - floor)
        found.append(min(1.0, max(0.0, u)))
    return found


def _check_floor(floor: float, log: bool) -> None:
    if log and floor <= 0:
        raise RequestError("log: true wants floor > 0, the fraction from which the scale begins")
