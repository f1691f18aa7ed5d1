"""Integer labels with union-find: which indices must live and die together.

A label is born for every index of every axis of every parameter. Operations unify labels; what is
unified in the end is one class. Some labels are frozen, each with a reason: they may not be removed.
"""

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
SILENT = ""
"""The reason of axes that are no channels at all (kernel positions, vocabulary)."""


class Labels:
    """The union-find forest, grown and merged while a graph is interpreted.

    Example:
        >>> labels = Labels()
        >>> a, b = labels.fresh(3), labels.fresh(3)
        >>> labels.unify(a, b[::-1])
        >>> labels.find(b).tolist()
        [2, 1, 0]
    """

    def __init__(self) -> None:
        self._parent: Ids = np.zeros(0, dtype=np.int64)
        self._size = 0
        self._stay = np.zeros(0, dtype=np.bool_)
        self._frozen: list[tuple[Ids, str]] = []
        self._consumed: list[Ids] = []
        self._produced: list[Ids] = []
        self._following: list[Ids] = []

    def fresh(self, *shape: int) -> Ids:
        """New labels, all different, in an array of ``shape``."""
        count = int(np.prod(shape, dtype=np.int64))
        if self._size + count > len(self._parent):
            # Doubled, so that all the growing together costs as much as the last of it.
            more = np.arange(len(self._parent), 2 * (self._size + count), dtype=np.int64)
            self._parent = np.concatenate([self._parent, more])
            self._stay = np.concatenate([self._stay, np.zeros(len(more), dtype=np.bool_)])
        ids = np.arange(self._size, self._size + count, dtype=np.int64)
        self._size += count
        return ids.reshape(shape)

    def find(self, ids: Ids) -> Ids:
        """The representative (the smallest member) of the class of each label."""
        parent = self._parent
        roots = parent[ids]
        while True:
            above = parent[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        # Paths are shortened for those that were asked for, which keeps them short for all who
        # ask.
        parent[ids] = roots
        return roots

    def unify(self, a: Ids, b: Ids) -> None:
        """Merge the classes of ``a`` and ``b``, index by index (they broadcast)."""
        a, b = np.broadcast_arrays(a, b)
        while True:
            root_a, root_b = self.find(a), self.find(b)
            differ = root_a != root_b
            if not differ.any():
                return
            # The smaller label always wins, so a class's representative does not depend on the
            # order of merging, and parents only ever decrease: no cycle can form.
            low = np.minimum(root_a[differ], root_b[differ])
            high = np.maximum(root_a[differ], root_b[differ])
            # Where several pairs share ``high`` the last one wins; the loop settles the others.
            self._parent[high] = low
            self._stay[low[self._stay[high]]] = True

    def unify_along(self, ids: Ids, axis: int) -> Ids:
        """Merge all labels that differ only in ``axis``; returns the array without that axis."""
        first = ids.take([0], axis)
        self.unify(np.broadcast_to(first, ids.shape), ids)
        return first.squeeze(axis)

    def freeze(self, ids: Ids, reason: str) -> None:
        """Forbid the removal of these labels, saying why."""
        if ids.size:
            self._frozen.append((ids.reshape(-1), reason))
            self._stay[self.find(ids)] = True

    def stay(self, ids: Ids) -> bool:
        """Is every one of these labels frozen already?"""
        return bool(self._stay[self.find(ids)].all())

    @property
    def marks(self) -> int:
        """How often something was frozen until now."""
        return len(self._frozen)

    def freeze_lost(self, before: list[Ids], after: list[Ids], reason: str, since: int = 0) -> None:
        """Freeze what is in ``before`` while nothing of its class is in ``after``.

        What was frozen after ``since`` :attr:`marks` has its reason already.
        """
        if not any(ids.size for ids in before):
            return
        old = np.unique(self.find(np.concatenate(before)))
        known = [ids for ids, _ in self._frozen[since:]]
        new = self.find(np.concatenate([old[:0], *after, *known]))
        self.freeze(np.setdiff1d(old, new), reason)

    def consumed(self, ids: Ids) -> None:
        """Note that these labels of a parameter are read (contracted over)."""
        self._consumed.append(ids.reshape(-1))

    def produced(self, ids: Ids) -> None:
        """Note that these labels of a parameter create the channel."""
        self._produced.append(ids.reshape(-1))

    def follows(self, ids: Ids) -> None:
        """Note that these labels of a parameter go along, and are never set to zero."""
        self._following.append(ids.reshape(-1))

    def roots(self) -> Ids:
        """The representative of every label there is."""
        return self.find(np.arange(self._size, dtype=np.int64))

    def reasons(self) -> dict[int, tuple[str, ...]]:
        """Root -> the reasons for which its class is frozen, in the order they were found."""
        found: dict[int, dict[str, None]] = {}
        for ids, reason in self._frozen:
            for root in np.unique(self.find(ids)).tolist():
                found.setdefault(root, {})[reason] = None
        return {root: tuple(reasons) for root, reasons in found.items()}

    def roles(self) -> tuple[NDArray[np.bool_], ...]:
        """For every label (not class): was it noted as produced, as consumed, as following."""
        found = []
        for noted in (self._produced, self._consumed, self._following):
            role = np.zeros(self._size, dtype=np.bool_)
            for ids in noted:
                role[ids] = True
            found.append(role)
        return tuple(found)
