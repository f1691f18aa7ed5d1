"""Several ranks in one process: every rank's talk, and their questions answered together."""

import torch

from espalier._ground.sharding import Piece


def answered(talks):
    """What every rank's talk finds; and how many rounds it took, and how many bytes a rank sent."""
    found, rounds, sent = [None] * len(talks), 0, 0
    asked = {}

    def go_on(rank, answers):
        try:
            asked[rank] = next(talks[rank]) if answers is None else talks[rank].send(answers)
        except StopIteration as end:
            found[rank] = end.value
            asked.pop(rank, None)

    for rank in range(len(talks)):
        go_on(rank, None)
    while asked:
        assert len(asked) == len(talks), "some ranks ask and others do not: they would hang"
        rounds += 1
        sent += sum(ask.values.numel() * ask.values.element_size() for ask in asked[0])
        columns = list(zip(*asked.values(), strict=True))
        for column in columns:
            assert len({(a.values.shape, a.values.dtype, a.most) for a in column}) == 1
        answers = [
            (torch.stack([a.values for a in c]).amax(0) if c[0].most else sum(a.values for a in c))
            for c in columns
        ]
        for rank in list(asked):
            go_on(rank, [a.clone() for a in answers])
    return found, rounds, sent


def pieces(shapes, size, rank, axis=0, whole=()):
    """As a model sharded along ``axis`` has them; the names in ``whole`` every rank has whole."""
    return {
        name: Piece(shape=tuple(shape), counted=rank == 0)
        if name in whole or axis >= len(shape)
        else Piece.chunk(tuple(shape), axis, size, rank)
        for name, shape in shapes.items()
    }


def joined_parts(parts, of):
    """The whole tensor from the ranks' parts."""
    return torch.cat(parts, of.axis) if of.cut else parts[0]
