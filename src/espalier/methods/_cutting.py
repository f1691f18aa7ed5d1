"""Cutting, as if or for good, and holding what is cut: once for all methods."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from espalier._ground.sharding import parameters_of
from espalier._ground.types import Masks, Weights
from espalier.errors import RequestError
from espalier.methods._holding import hold_
from espalier.methods._method import Cut
from espalier.methods._watch import Tensors

_ENTRY = threading.Lock()


class Cutting(ABC):
    """A model that can be cut to a target.

    Args:
        model: Cut in place; looked up by parameter name at every use.
        names: The parameters that the target has values for.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self.model, self._tensors = model, Tensors(model, names)
        self._held: dict[str, Tensor] = {}  # of what may still move, once something is held
        # The values of tensors that are held elsewhere than at zero.
        self._frozen: dict[str, Tensor] = {}
        self._inside: int | None = None  # the thread in which the model is as if cut

    @abstractmethod
    def target(self) -> Cut:
        """What a cut would write now. Only this is each method's own to say."""

    @abstractmethod
    def _taking(self, cut: Cut) -> None:
        """Note what a cut is about to take."""

    def close(self) -> None:  # noqa: B027
        """Take hooks off the model and the optimiser."""

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
        """The model as if cut now; the weights come back, bit for bit, on exit.

        Raises:
            RequestError: Another thread is inside.
        """
        me = threading.get_ident()
        with _ENTRY:
            again = self._inside == me
            if self._inside is not None and not again:
                raise RequestError(
                    "the model is as if cut in another thread; let one hard_pruned() end before the next begins"
                )
            self._inside = me
        if again:
            yield
            return
        try:
            cut = self.target()
            parameters = parameters_of(self.model)
            saved = {n: parameters[n].detach().clone() for n in {**cut.values, **cut.free}}
            try:
                self._write_(cut)
                yield
            finally:
                self._copy_(saved)
        finally:
            self._inside = None

    def hard_prune_(self) -> None:
        """Write the target for good; from here on what is not free is held.

        Raises:
            RequestError: Inside :meth:`hard_pruned`, whose end would bring the weights back.
        """
        self._refuse_inside("hard_prune_()")
        self._tensors.now()
        self._hold_from_now_(self.target())

    def _refuse_inside(self, call: str) -> None:
        if self._inside is not None:
            raise RequestError(
                f"{call} inside hard_pruned(), at whose end the weights come back; call it after the block"
            )

    def _hold_from_now_(self, cut: Cut) -> None:
        self._taking(cut)
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
            hold_(parameters_of(self.model), self._held)
        elif self._held:
            zeros = {name: mask for name, mask in self._held.items() if name not in self._frozen}
            parameters = parameters_of(self.model)
            hold_(parameters, zeros)
            self._copy_(
                {n: torch.where(self._held[n], parameters[n], v) for n, v in self._frozen.items()}
            )

    def _write_(self, cut: Cut) -> None:
        self._copy_(cut.values)
        zeros = {name: mask for name, mask in cut.free.items() if name not in cut.values}
        hold_(parameters_of(self.model), zeros)

    @torch.no_grad()
    def _copy_(self, values: Weights) -> None:
        parameters = parameters_of(self.model)
        for name, value in values.items():
            parameters[name].copy_(value)
