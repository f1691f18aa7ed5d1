"""The learner of AMC: each of its steps against the formula, and what it learns where the best is known."""

import math

import pytest
import torch

from espalier.search._ddpg import DDPG, Agent, follow_, targets, truncated_normal


def test_noise_stays_in_the_interval_and_has_the_mean_of_a_truncated_normal():
    """Mean of N(μ, σ²) on [0, 1]: μ + σ (φ(α) − φ(β)) / (Φ(β) − Φ(α))."""
    generator = torch.Generator().manual_seed(0)
    mu, sigma = 0.8, 0.5
    drawn = torch.tensor([truncated_normal(mu, sigma, generator) for _ in range(4000)])
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) <= 1
    alpha, beta = -mu / sigma, (1 - mu) / sigma

    def phi(x):
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    def cdf(x):
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    wanted = mu + sigma * (phi(alpha) - phi(beta)) / (cdf(beta) - cdf(alpha))
    assert float(drawn.mean()) == pytest.approx(wanted, abs=0.02)


def test_noise_that_has_died_out_leaves_the_action():
    generator = torch.Generator().manual_seed(0)
    assert truncated_normal(0.25, 1e-9, generator) == pytest.approx(0.25, abs=1e-6)


def test_targets_are_those_of_the_paper_with_discount_one():
    """y = R − b + Q'(s', μ'(s')), and R − b after the last step."""
    y = targets(
        torch.tensor([[2.0], [2.0]]), 0.5, 1.0, torch.tensor([[0.0], [1.0]]),
        torch.tensor([[3.0], [7.0]]),
    )  # fmt: skip
    assert y.tolist() == [[4.5], [1.5]]


def test_copies_follow_by_tau():
    one, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    before = other.weight.item()
    follow_(other, one, 0.25)
    assert other.weight.item() == pytest.approx(0.25 * one.weight.item() + 0.75 * before)


def test_the_baseline_is_the_moving_mean_of_the_batches_rewards():
    agent = Agent(DDPG(hidden=4, baseline_rate=0.5), features=2, steps=1, seed=0)
    agent.remember([torch.zeros(2)], [0.5], 4.0)
    agent.learn()
    assert agent.baseline == 4.0
    agent.remember([torch.zeros(2)], [0.5], 0.0)
    agent.learn()
    assert agent.baseline == 3.0  # half of 4, half of the new batch's mean of 2


def test_every_step_of_an_episode_gets_its_reward_and_only_the_last_ends_it():
    agent = Agent(DDPG(hidden=4, memory=2), features=1, steps=3, seed=0)
    states = [torch.tensor([float(t)]) for t in range(3)]
    for reward in (1.0, 2.0, 3.0):
        agent.remember(states, [0.1, 0.2, 0.3], reward)
    rows = list(agent._memory)
    assert len(rows) == 6  # the first episode is forgotten
    assert [row[2] for row in rows] == [2.0] * 3 + [3.0] * 3
    assert [row[4] for row in rows] == [0.0, 0.0, 1.0] * 2
    assert [float(row[3]) for row in rows[:3]] == [1.0, 2.0, 2.0]


def test_it_learns_the_action_that_is_rewarded_most():
    """One step, reward −(a − 0.7)²: after a hundred episodes without noise it acts within 0.1 of the best."""
    agent = Agent(DDPG(hidden=64, actor_rate=1e-3, critic_rate=3e-3), features=1, steps=1, seed=0)
    state = torch.ones(1)
    for episode in range(160):
        action = agent.uniform() if episode < 60 else agent.act(state, 0.5 * 0.95 ** (episode - 60))
        agent.remember([state], [action], -((action - 0.7) ** 2))
        if episode >= 60:
            for _ in range(3):
                agent.learn()
    assert agent.act(state, 0.0) == pytest.approx(0.7, abs=0.1)


def test_nothing_it_draws_touches_the_global_generator():
    before = torch.get_rng_state()
    agent = Agent(DDPG(hidden=4), features=1, steps=1, seed=0)
    agent.remember([torch.ones(1)], [agent.act(torch.ones(1), 0.5)], 1.0)
    agent.learn()
    assert torch.equal(torch.get_rng_state(), before)
