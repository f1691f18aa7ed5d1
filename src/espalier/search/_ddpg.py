r"""Deep deterministic policy gradient with one action in [0, 1], as AMC uses it.

Legend (paper → here):

==================  ===================================================== =======================
symbol              meaning                                               here
==================  ===================================================== =======================
s, a, R             state, action, reward of the whole episode            ``states``, ``actions``, ``rewards``
μ(s | θ^μ)          actor                                                 ``actor``
Q(s, a | θ^Q)       critic                                                ``Critic``
μ', Q'              their slowly following copies                         ``…_target``
τ, γ, b             rate of following, discount, baseline of the reward   ``tau``, ``discount``, ``baseline``
σ                   spread of the exploration noise                       ``sigma``
==================  ===================================================== =======================

Lillicrap et al. 2016, *Continuous control with deep reinforcement learning* (arXiv:1509.02971); He et al. 2018,
*AMC: AutoML for model compression and acceleration on mobile devices* (arXiv:1802.03494), §3.2 and §4.
"""

import copy
import math
from collections import deque
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from espalier._ground.ranges import Checked
from espalier.tasks._seeding import generator_for, seeded


@dataclass(frozen=True, kw_only=True)
class DDPG(Checked):
    """The learner's settings; the defaults are those of AMC's released code.

    Args:
        hidden: Units of both hidden layers.
        actor_rate: Adam's rate for the actor.
        critic_rate: Adam's rate for the critic.
        tau: τ.
        discount: γ.
        baseline_rate: Weight of the newest batch in the baseline b.
        batch: Transitions per update.
        memory: Episodes that are remembered.
    """

    hidden: Annotated[int, Ge(1)] = 300
    actor_rate: Annotated[float, Gt(0)] = 1e-4
    critic_rate: Annotated[float, Gt(0)] = 1e-3
    tau: Annotated[float, Gt(0), Le(1)] = 0.01
    discount: Annotated[float, Ge(0), Le(1)] = 1.0
    baseline_rate: Annotated[float, Gt(0), Le(1)] = 0.5
    batch: Annotated[int, Ge(1)] = 64
    memory: Annotated[int, Ge(1)] = 100


class Critic(nn.Module):
    """Q(s, a): state and action enter through a layer each, whose sum goes on."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.of_state, self.of_action = nn.Linear(features, hidden), nn.Linear(1, hidden)
        self.rest = nn.Sequential(
            nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """States (N, features) and actions (N, 1) to values (N, 1)."""
        value: Tensor = self.rest(self.of_state(states) + self.of_action(actions))
        return value


def actor(features: int, hidden: int) -> nn.Sequential:
    """μ: states (N, features) to actions (N, 1) in (0, 1)."""
    return nn.Sequential(
        nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, 1), nn.Sigmoid(),
    )  # fmt: skip


def truncated_normal(mean: float, sigma: float, generator: torch.Generator) -> float:
    r"""One draw from :math:`\mathcal N(\text{mean}, \sigma^2)` restricted to [0, 1], by its inverse distribution.

    >>> truncated_normal(0.3, 0.0, torch.Generator())
    0.3
    """
    if sigma <= 0:
        return min(1.0, max(0.0, mean))
    low, high = (0.5 * (1 + math.erf((x - mean) / (sigma * math.sqrt(2)))) for x in (0.0, 1.0))
    u = low + (high - low) * torch.rand((), dtype=torch.float64, generator=generator)
    drawn = mean + sigma * math.sqrt(2) * float(torch.erfinv(2 * u - 1))
    return min(1.0, max(0.0, drawn))


def targets(
    rewards: Tensor, baseline: float, discount: float, last: Tensor, following: Tensor
) -> Tensor:
    """y_i = R_i − b + γ Q'(s_{i+1}, μ'(s_{i+1})), the last term not after an episode's last step (AMC, eq. 4).

    >>> targets(torch.tensor([[3.0], [3.0]]), 1.0, 0.5, torch.tensor([[0.0], [1.0]]), torch.full((2, 1), 8.0))
    tensor([[6.],
            [2.]])
    """
    return rewards - baseline + discount * (1.0 - last) * following


class Agent:
    """A learner at work: networks, their optimisers, what it remembers, and its own randomness.

    Args:
        choice: Its settings.
        features: Numbers in a state.
        steps: Of an episode.
        seed: Of its networks and of what it draws.
    """

    def __init__(self, choice: DDPG, features: int, steps: int, seed: int) -> None:
        self.choice = choice
        with seeded(seed, 0):
            self.actor, self.critic = (
                actor(features, choice.hidden),
                Critic(features, choice.hidden),
            )
        self.actor_target = copy.deepcopy(self.actor)
        self.critic_target = copy.deepcopy(self.critic)
        self._actor_step = torch.optim.Adam(self.actor.parameters(), choice.actor_rate)
        self._critic_step = torch.optim.Adam(self.critic.parameters(), choice.critic_rate)
        self._memory: deque[tuple[Tensor, float, float, Tensor, float]] = deque(
            maxlen=choice.memory * steps
        )
        self._generator = generator_for(seed, 1)
        self.baseline: float | None = None

    def uniform(self) -> float:
        """A blind action."""
        return float(torch.rand((), dtype=torch.float64, generator=self._generator))

    @torch.no_grad()
    def act(self, state: Tensor, sigma: float) -> float:
        """μ(s) with noise of spread σ."""
        return truncated_normal(float(self.actor(state[None])), sigma, self._generator)

    def remember(self, states: list[Tensor], actions: list[float], reward: float) -> None:
        """An episode: every step of it is given the reward of its end."""
        for t, (state, action) in enumerate(zip(states, actions, strict=True)):
            last = t + 1 == len(states)
            follow = state if last else states[t + 1]
            self._memory.append((state, action, reward, follow, float(last)))

    def learn(self) -> None:
        """One update of critic, actor and their copies, on a batch of what is remembered."""
        chosen = torch.randperm(len(self._memory), generator=self._generator)[: self.choice.batch]
        rows = [self._memory[i] for i in chosen.tolist()]
        states, follow = (torch.stack([row[i] for row in rows]) for i in (0, 3))  # type: ignore[misc]
        actions, rewards, last = (torch.tensor([[row[i]] for row in rows]) for i in (1, 2, 4))
        mean, rate = float(rewards.mean()), self.choice.baseline_rate
        self.baseline = (
            mean if self.baseline is None else self.baseline + rate * (mean - self.baseline)
        )

        with torch.enable_grad():
            with torch.no_grad():
                following = self.critic_target(follow, self.actor_target(follow))
                y = targets(rewards, self.baseline, self.choice.discount, last, following)
            self._critic_step.zero_grad()
            nn.functional.mse_loss(self.critic(states, actions), y).backward()  # type: ignore[no-untyped-call]
            self._critic_step.step()
            self._actor_step.zero_grad()
            (-self.critic(states, self.actor(states)).mean()).backward()
            self._actor_step.step()
        follow_(self.actor_target, self.actor, self.choice.tau)
        follow_(self.critic_target, self.critic, self.choice.tau)


@torch.no_grad()
def follow_(target: nn.Module, source: nn.Module, tau: float) -> None:
    """θ' ← τ θ + (1 − τ) θ'."""
    for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
        mine.lerp_(theirs, tau)
