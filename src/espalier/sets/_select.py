"""Exact selection of the largest scores."""

import torch
from torch import Tensor


def largest(scores: Tensor, keep: int) -> Tensor:
    """Boolean mask of exactly ``keep`` largest of ``scores`` (1-D); ties go to the lower index."""
    n = scores.numel()
    if keep >= n:
        return torch.ones(n, dtype=torch.bool, device=scores.device)
    if keep <= 0:
        return torch.zeros(n, dtype=torch.bool, device=scores.device)
    threshold = torch.kthvalue(scores, n - keep + 1).values
    chosen = scores > threshold
    ties = (scores == threshold).nonzero().flatten()
    chosen[ties[: keep - int(chosen.sum())]] = True
    return chosen
