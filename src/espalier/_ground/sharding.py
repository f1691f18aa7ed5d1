"""Tensors of which this rank holds a part (``DTensor``): the part, and where in the whole it lies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from espalier._ground.types import Weights
from espalier._ground.world import World
from espalier.errors import RequestError


def distributed(x: Tensor) -> bool:
    """Whether it is a ``DTensor``, of which this rank holds a part or a copy."""
    return hasattr(x, "placements")


@torch.no_grad()
def local(x: Tensor) -> Tensor:
    """This rank's part, sharing storage; a plain tensor is its own part."""
    part: Tensor = x.to_local() if distributed(x) else x  # type: ignore[attr-defined]
    return part


def like(part: Tensor, whole: Tensor) -> Tensor:
    """A part as the tensor it is of: distributed as ``whole`` is; plain where that is plain."""
    if not distributed(whole):
        return part
    from torch.distributed.tensor import DTensor

    mesh, placements = whole.device_mesh, whole.placements  # type: ignore[attr-defined]
    made: Tensor = DTensor.from_local(
        part, mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride()
    )
    return made


def count(mask: Tensor) -> int:
    """How many are True in the whole tensor."""
    return int(totals({"": local(mask).sum()}, {"": mask})[0])


def peak(x: Tensor) -> float:
    """The largest entry of the whole tensor; −∞ of an empty one."""
    part = local(x)
    most = part.max() if part.numel() else part.new_full((), -torch.inf)
    return float(pieces_of({"": x})[1].most(most) if distributed(x) else most)


def reshard_(model: nn.Module) -> None:
    """Put the shards back that FSDP2 replaces by whole parameters, and may leave so after a forward pass.

    An optimiser moves the shards; what is written into a whole parameter is lost.
    """
    for module in model.modules():
        if hasattr(type(module), "set_reshard_after_forward"):  # torch's FSDPModule
            module.reshard()  # type: ignore[operator]


def parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters by name, as an optimiser knows them: of FSDP2 the shards."""
    reshard_(model)
    return dict(model.named_parameters())


def placed(values: Weights, of: Weights) -> dict[str, Tensor]:
    """Tensors that every rank has whole, or its parts, distributed as those of their names are."""
    pieces = pieces_of({name: of[name] for name in values})[0]
    return {name: like(pieces[name].part(x), of[name]) for name, x in values.items()}


def totals(values: Mapping[str, Tensor], of: Weights) -> list[float]:
    """A number for each tensor, summed over the parts that the ranks hold of it; one all-reduce for all.

    Args:
        values: 0-d, from this rank's part of the tensor of that name.
        of: The tensors.
    """
    if not values:
        return []
    stacked = torch.stack([value.double() for value in values.values()])
    if any(distributed(of[name]) for name in values):
        pieces, world = pieces_of({name: of[name] for name in values})
        counted = torch.tensor([piece.counted for piece in pieces.values()], device=stacked.device)
        stacked = world.sum(stacked.where(counted, 0.0))
    found: list[float] = stacked.tolist()
    return found


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Which part of a tensor a rank holds: all indices of every axis but one, and a run of that one.

    Attributes:
        shape: Of the whole tensor.
        axis: Along which it is cut.
        cuts: Start and end along it, of every rank.
        rank: Whose part this is.
        counted: Whether its weights count in a sum over the ranks: not so for the copies of a tensor
            that every rank holds whole, but the first.

    Example:
        >>> part = Piece.chunk((5, 2), axis=0, size=2, rank=1)
        >>> part.part_shape, part.places(torch.tensor([0, 3])).tolist()
        ((2, 2), [6, 9])
    """

    shape: tuple[int, ...]
    axis: int = 0
    cuts: tuple[tuple[int, int], ...] = ()
    rank: int = 0
    counted: bool = True

    @classmethod
    def chunk(cls, shape: tuple[int, ...], axis: int, size: int, rank: int) -> "Piece":
        """As ``torch.chunk`` cuts, and FSDP2 with it: all but the last are equal, and the last may be empty."""
        n = shape[axis]
        step = -(-n // size)
        cuts = tuple((min(r * step, n), min(r * step + step, n)) for r in range(size))
        return cls(shape=shape, axis=axis, cuts=cuts, rank=rank)

    @property
    def cut(self) -> bool:
        """Whether it is a part, and not a copy."""
        return bool(self.cuts)

    @property
    def part_shape(self) -> tuple[int, ...]:
        """Of what this rank holds."""
        return self.shape_of(self.rank)

    def shape_of(self, rank: int) -> tuple[int, ...]:
        """Of what another rank holds."""
        if not self.cut:
            return self.shape
        start, end = self.cuts[rank]
        return (*self.shape[: self.axis], end - start, *self.shape[self.axis + 1 :])

    def part(self, whole: Tensor) -> Tensor:
        """This rank's part of a tensor that it has whole; of a part itself."""
        if distributed(whole):
            return local(whole)
        if not self.cut or tuple(whole.shape) != self.shape:
            return whole
        start, end = self.cuts[self.rank]
        return whole.narrow(self.axis, start, end - start)

    def places(self, index: Tensor) -> Tensor:
        """Where in the whole tensor, flattened, elements of the part lie: int64, from their index in it."""
        if not self.cut:
            return index
        start, end = self.cuts[self.rank]
        inner = 1
        for n in self.shape[self.axis + 1 :]:
            inner *= n
        along, below = index // inner, index % inner
        above, along = along // max(1, end - start), along % max(1, end - start)
        return (above * self.shape[self.axis] + along + start) * inner + below


def pieces_of(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Piece], World]:
    """The part that this rank holds of every tensor, and the ranks that hold them together.

    Raises:
        RequestError: One is cut along two axes, of a sum not yet made, or over other ranks than another.
    """
    groups: dict[Any, tuple[str, World]] = {}
    cut: dict[str, Piece] = {}
    for name, x in tensors.items():
        mesh, placements = getattr(x, "device_mesh", None), getattr(x, "placements", ())
        shards = [n for n, p in enumerate(placements) if not p.is_replicate()]
        if not shards:
            continue
        kinds = [type(placements[n]).__name__ for n in shards]
        if kinds != ["Shard"]:
            raise RequestError(
                f"{name}: placed as {', '.join(map(str, placements))}; one axis of one tensor may be cut over the "
                "ranks, as FSDP2, HSDP, or tensor parallelism alone do; use one of them, or DDP"
            )
        assert mesh is not None
        world = World(group=mesh.get_group(shards[0]))
        piece = Piece.chunk(
            tuple(x.shape), placements[shards[0]].dim, world.size, mesh.get_local_rank(shards[0])
        )
        if tuple(local(x).shape) != piece.part_shape:
            raise RequestError(
                f"{name}: this rank holds {tuple(local(x).shape)} of {tuple(x.shape)}, not the "
                f"{piece.part_shape} of even chunks; shard it as fully_shard does"
            )
        cut[name] = piece
        groups.setdefault(
            tuple(torch.distributed.get_process_group_ranks(world.group)), (name, world)
        )
    if len(groups) > 1:
        (one, _), (other, _), *_ = groups.values()
        raise RequestError(
            f"{one} and {other} are sharded over different ranks; shard all that is pruned over one mesh"
        )
    world = next((world for _, world in groups.values()), World.current())
    whole = {
        n: Piece(shape=tuple(x.shape), counted=world.rank == 0)
        for n, x in tensors.items()
        if n not in cut
    }
    return {name: cut.get(name) or whole[name] for name in tensors}, world
