"""Small problems every solver is tried on."""

import torch


class TopK:
    """A constraint of ``keep`` nonzeros a tensor, by a full sort: independent of espalier.sets."""

    metric = None
    moved = False

    def __init__(self, keep):
        self.keep = keep

    def _mask(self, w):
        order = w.abs().flatten().argsort(descending=True, stable=True)[: self.keep]
        mask = torch.zeros(w.numel(), dtype=torch.bool)
        mask[order] = True
        return mask.reshape(w.shape)

    def support(self, w):
        return {name: self._mask(t) for name, t in w.items()}

    def project(self, w):
        return {name: torch.where(self._mask(t), t, 0.0) for name, t in w.items()}

    def project_list(self, w):
        return [torch.where(self._mask(t), t, 0.0) for t in w]


def random_weights(generator):
    return {
        "a": torch.randn(3, 4, generator=generator, dtype=torch.float64),
        "b": torch.randn(8, generator=generator, dtype=torch.float64),
    }
