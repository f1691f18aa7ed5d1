r"""Regularised dual averaging and proximal SGD: optimisers whose iterates have exact zeros.

    symbol      here              meaning
    t           state["t"]        steps done, from 1
    g_t         parameter.grad    minibatch gradient at w_t
    ḡ_t         state["mean"]     (1/t) Σ_{i≤t} g_i, the running mean of all gradients
    λ           group["l1"]       weight of ‖w‖₁ in the objective
    γ           group["gamma"]    β_t = γ√t weighs the proximal term ½‖w − c‖²
    c           state["centre"]   centre of that term: 0 for what is thresholded, else w_1
    soft(x, τ)  soft              sgn(x) · max(|x| − τ, 0)

RDA thresholds the mean gradient by the constant λ; proximal SGD thresholds the weights by α_t λ, which
shrinks with the step size. That is why the zeros of the first stay and those of the second do not.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from espalier.errors import RequestError

Groups = Iterable[nn.Parameter] | Iterable[dict[str, Any]]


def soft(x: Tensor, threshold: float) -> Tensor:
    r"""The soft threshold, :math:`\operatorname{sgn}(x) \max(|x| - \tau, 0)`: a new tensor.

    Args:
        x: Any shape, dtype and device; NaN stays NaN.
        threshold: τ >= 0; entries of at most this magnitude become +0.0.

    Example:
        >>> soft(torch.tensor([-3.0, -1.0, 0.5, 2.0]), 1.0)
        tensor([-2.,  0.,  0.,  1.])
    """
    return F.softshrink(x, threshold).add_(0.0)  # −0.0 + 0.0 is +0.0


class _Proximal(Optimizer):
    """What both share: a loop over the parameters that have gradients."""

    def _move_(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Torch's own, with the ranges checked."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for key, holds in {
            "l1": 0 <= group["l1"] < math.inf,
            "lr": group["lr"] is None or 0 < group["lr"] < math.inf,
            "gamma": 0 < group.get("gamma", 1.0) < math.inf,
            "start": 0 <= group.get("start", 0) < math.inf,
        }.items():
            if not holds:
                allowed = f"{key} >= 0" if key in ("l1", "start") else f"{key} > 0"
                raise RequestError(f"{key}={group[key]} in a parameter group; give {allowed}")
        if any(p.dtype in (torch.float16, torch.bfloat16) for p in group["params"]):
            raise RequestError(
                "a mean over all gradients is lost in half precision; keep the weights in float32 "
                "and compute the loss under autocast"
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` re-evaluates the loss and is returned, as in torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move_(p, p.grad, self.state[p], group)
        return loss


class RDA(_Proximal):
    r"""Regularised dual averaging with an :math:`\ell_1` term.

    .. math:: \bar g_t = \tfrac{t-1}{t} \bar g_{t-1} + \tfrac1t g_t, \qquad
              w_{t+1} = \arg\min_w \langle \bar g_t, w \rangle + \lambda \|w\|_1
              + \tfrac{\gamma}{\sqrt t} \tfrac12 \|w\|^2
              = -\tfrac{\sqrt t}{\gamma} \operatorname{soft}(\bar g_t, \lambda)

    A weight is exactly zero if and only if :math:`|\bar g_{t,i}| \le \lambda` (eq. 18), a threshold that
    does not shrink. The first weights enter through their gradient alone. A group with ``centred=True`` keeps
    them, :math:`w_{t+1} = w_1 - (\sqrt t/\gamma)\bar g_t`: for BatchNorm, biases, whatever is not thresholded.

    With λ = 0 it is simple dual averaging, which is SGD with a shrinkage that fades (Lemma 1):
    :math:`w_{t+1} = \sqrt{(t-1)/t}\, w_t - g_t/(\gamma\sqrt t)`.

    Args:
        params: Parameters, or groups of them with ``l1``, ``gamma`` and ``centred`` of their own; float32 or
            float64 on any device.
        gamma: γ > 0. Dividing it by c multiplies every thresholded weight by c at the next step.
        l1: λ >= 0, in units of the gradient.
        centred: Whether the proximal term is around the first weights; only with ``l1=0``.
        start: t_0 >= 0. Above 0 the run begins as if after t_0 steps, with the mean gradient whose iterate is
            w_1, so that w_1 is not forgotten and the first step is of size 1/(γ√(t_0+1)). Not in the paper: it
            is for networks without BatchNorm, which w_2 = −soft(g_1, λ)/γ mostly kills, and for pretrained ones.

    ``lr`` of each group is 1/γ for whoever prints it, and must stay: a scheduler's factor would multiply
    the weights themselves, not their steps, and is refused. Stages change ``group["gamma"]``, ``group["l1"]``.

    Raises:
        RequestError: A number outside its range; ``centred`` with λ > 0; a scheduler that changed ``lr``.

    Source: Algorithm 2 and Lemma 1 of He, Jia, Xu, Zhang & Zhao, "Make ℓ1 regularization effective in
    training sparse CNN", COAP 2020 (arXiv:1807.04222); Xiao, JMLR 2010.

    Example:
        >>> w = nn.Parameter(torch.tensor([5.0, 5.0]))
        >>> optimizer = RDA([w], gamma=0.5, l1=1.0)
        >>> w.grad = torch.tensor([3.0, -1.0]); optimizer.step(); w.data
        tensor([-4.,  0.])
    """

    def __init__(
        self,
        params: Groups,
        *,
        gamma: float = 1.0,
        l1: float = 0.0,
        centred: bool = False,
        start: int = 0,
    ) -> None:
        own = {"gamma": gamma, "l1": l1, "centred": centred, "start": start}
        super().__init__(params, {"lr": None, **own})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Torch's own, with the ranges checked."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["lr"] = group["unscheduled_lr"] = 1.0 / group["gamma"]
        if group["centred"] and group["l1"]:
            raise RequestError(
                "centred=True with l1 > 0; the threshold needs the centre 0: set one of them only"
            )

    def _move_(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if group["lr"] != group["unscheduled_lr"]:
            raise RequestError(
                f"a schedule set lr={group['lr']:.4g}; in RDA lr is 1/γ = {group['unscheduled_lr']:.4g} and "
                "scales the weights themselves, not their steps: train with the schedule 'constant' "
                "and set l1 and gamma by stages instead"
            )
        if not state:
            state["t"], state["mean"] = 0, torch.zeros_like(p)
            if group["centred"]:
                state["centre"] = p.clone()
            if group["start"]:
                state["t"] = group["start"]
                if not group["centred"]:  # the mean whose iterate is w_1: the closed form, inverted
                    pull = group["gamma"] / math.sqrt(group["start"])
                    state["mean"] = -pull * p - group["l1"] * p.sign()
        state["t"] += 1
        t, mean = state["t"], state["mean"]
        mean.lerp_(g, 1.0 / t)
        scale = math.sqrt(t) / group["gamma"]
        if group["centred"]:
            p.copy_(state["centre"]).add_(mean, alpha=-scale)
        else:  # thresholded before it is scaled, so that rounding leaves the criterion |ḡ| ≤ λ exact
            p.copy_(soft(mean, group["l1"])).mul_(-scale).add_(0.0)

    @torch.no_grad()
    def restage_(self, *, gamma: float, l1: float) -> None:
        r"""Another γ and λ from the next step on, with the mean gradient that keeps every weight where it is.

        .. math:: \bar g \leftarrow \frac{\gamma'}{\gamma} \operatorname{soft}(\bar g, \lambda)
                  + \frac{\lambda'}{\lambda} \min(\lambda, \max(-\lambda, \bar g))

        Not in the paper, where γ → γ/c multiplies every weight by c: BatchNorm does not notice, a network
        without it does. ``gamma`` alone is for centred groups, whose λ stays 0.

        Raises:
            RequestError: A number outside its range.
        """
        if not (0 < gamma < math.inf and 0 <= l1 < math.inf):
            raise RequestError(f"gamma={gamma}, l1={l1}; give gamma > 0 and l1 >= 0")
        for group in self.param_groups:
            old, wanted = group["l1"], 0.0 if group["centred"] else l1
            ratio = gamma / group["gamma"]
            for p in group["params"]:
                if "mean" in self.state[p]:
                    mean = self.state[p]["mean"]
                    inside = mean.clamp(-old, old).mul_(wanted / old if old else 0.0)
                    mean.copy_(soft(mean, old).mul_(ratio).add_(inside))
            group["gamma"], group["l1"] = gamma, wanted


class SDA(RDA):
    r"""Simple dual averaging, :math:`w_{t+1} = -(\sqrt t/\gamma) \bar g_t`: RDA without a threshold.

    By Lemma 1 it is SGD at the rate 1/(γ√t) with a shrinkage that fades,
    :math:`w_{t+1} = \sqrt{(t-1)/t}\, w_t - g_t/(\gamma\sqrt t)`.

    Args:
        params: As of :class:`RDA`, and the rest likewise.
        gamma: γ > 0.
        centred: Whether the proximal term is around the first weights.
        start: t_0 >= 0.

    Example:
        >>> w = nn.Parameter(torch.tensor([5.0, 5.0]))
        >>> optimizer = SDA([w], gamma=0.5)
        >>> w.grad = torch.tensor([3.0, -1.0]); optimizer.step(); w.data
        tensor([-6.,  2.])
    """

    def __init__(
        self, params: Groups, *, gamma: float = 1.0, centred: bool = False, start: int = 0
    ) -> None:
        super().__init__(params, gamma=gamma, centred=centred, start=start)


class ProxSGD(_Proximal):
    r"""Proximal stochastic gradient descent with an :math:`\ell_1` term: what RDA is compared with.

    .. math:: w_{t+1} = \operatorname{soft}(w_t - \alpha_t g_t, \alpha_t \lambda), \qquad
              \alpha_t = \mathrm{lr}/\sqrt t

    A weight becomes zero if and only if :math:`|w_{t,i}/\alpha_t - g_{t,i}| \le \lambda` (eq. 19): for one that
    is not zero yet, ever less likely as :math:`\alpha_t \to 0`; and one that is zero leaves as soon as a single
    minibatch has :math:`|g_{t,i}| > \lambda`.

    Args:
        params: Parameters, or groups of them with ``lr`` and ``l1`` of their own; float32 or float64.
        lr: α_1 > 0: 1/γ of RDA. A scheduler's factor multiplies α_t, as in SGD.
        l1: λ >= 0.
        anneal: Whether α_t falls as 1/√t; False leaves it to a scheduler.
        start: t_0 >= 0: the steps are those after t_0 others, lr/√(t_0 + t).

    Raises:
        RequestError: A number outside its range.

    Source: Algorithm 1 of He et al. 2020 (as :class:`RDA`).

    Example:
        >>> w = nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> optimizer = ProxSGD([w], lr=0.5, l1=1.0)
        >>> w.grad = torch.tensor([-1.0, 1.5]); optimizer.step(); w.data
        tensor([1., 0.])
    """

    def __init__(
        self, params: Groups, *, lr: float, l1: float = 0.0, anneal: bool = True, start: int = 0
    ) -> None:
        super().__init__(params, {"lr": lr, "l1": l1, "anneal": anneal, "start": start})

    def _move_(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        state["t"] = state.get("t", group["start"]) + 1
        alpha = group["lr"] / (math.sqrt(state["t"]) if group["anneal"] else 1.0)
        p.copy_(soft(p - alpha * g, alpha * group["l1"]))
