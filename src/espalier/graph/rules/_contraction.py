"""Products that are summed: matmul, einsum, attention; and embeddings."""

from dataclasses import replace

from espalier.graph._context import Arguments, Context
from espalier.graph._labels import SILENT
from espalier.graph._value import Value, canonical, fix
from espalier.graph.rules._convolution import matrix_product
from espalier.graph.rules._elementwise import first_zero, opaque
from espalier.graph.rules._movement import repeated
from espalier.graph.rules._parts import part

BATCH = "abcdfghij"


def _terms(x: Value, y: Value) -> tuple[str, str, str]:
    """Einsum terms of ``matmul``."""
    first = "k" if x.rank == 1 else BATCH[9 - (x.rank - 2) :] + "mk"
    second = "k" if y.rank == 1 else BATCH[9 - (y.rank - 2) :] + "kn"
    batch = BATCH[9 - max(x.rank - 2, y.rank - 2, 0) :] if max(x.rank, y.rank) > 2 else ""
    return first, second, batch + ("m" if x.rank > 1 else "") + ("n" if y.rank > 1 else "")


def _product(ctx: Context, x: Value, y: Value) -> Value:
    # A linear layer in other words. As one, it is read weight by weight, where the general product
    # below only knows that a channel is read.
    if y.static and y.rank == 2 and not x.static:
        return matrix_product(ctx, x, y)
    first, second, out = _terms(x, y)
    return ctx.contract([(x, first), (y, second)], out)


def matmul(ctx: Context, a: Arguments) -> Value:
    """``matmul``, ``mm``, ``bmm``, ``mv``, ``dot``."""
    x, y = [v for v in a.values() if isinstance(v, Value)][:2]
    return _product(ctx, x, y)


def added_matmul(ctx: Context, a: Arguments) -> Value:
    """``addmm``, ``baddbmm``: a matrix product and a summand."""
    bias, x, y = [v for v in a.values() if isinstance(v, Value)][:3]
    return ctx.align([_product(ctx, x, y), bias])


def einsum(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """Any sum of products over letters; diagonals are not understood."""
    operands: list[Value] = list(a["tensors"])
    equation = a["equation"].replace(" ", "")
    left, _, out = equation.partition("->")
    terms = left.split(",")
    if "->" not in equation:
        letters = sorted({c for c in left if c.isalpha() and left.count(c) == 1})
        out = ("..." if "..." in left else "") + "".join(letters)
    # Letters for the ellipsis, matched from the right, as broadcasting matches axes.
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in equation]
    ranks = [v.rank - len(t.replace("...", "")) for v, t in zip(operands, terms, strict=True)]
    widest = max(ranks)
    terms = [
        t.replace("...", "".join(spare[widest - r : widest]))
        for t, r in zip(terms, ranks, strict=True)
    ]
    out = out.replace("...", "".join(spare[:widest]))
    if any(len(set(t)) < len(t) for t in terms):
        return opaque(ctx, a)
    return ctx.contract(list(zip(operands, terms, strict=True)), out)


def by_expert(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """``_grouped_mm``: rows in runs, each times the matrix of its expert; experts are no channels."""
    x, w = [ctx.canonical(v) for v in a.values() if isinstance(v, Value)][:2]
    if x.rank != 2 or w.rank != 3 or not w.static:
        return opaque(ctx, a)
    w = ctx.fix(w, [0], "experts are chosen by number")
    matrix = replace(w.renamed(w.shape[1:], {1: 0, 2: 1}), data=None)
    out = ctx.contract([(x, "tk"), (matrix, "kn")], "tn")
    bias = a.get("bias")
    return ctx.align([out, bias]) if isinstance(bias, Value) else out


def attention(ctx: Context, a: Arguments) -> Value | tuple[Value, ...]:
    """``softmax(q kᵀ · scale + mask) v``: a head of q, k and v is one class.

    With grouped queries it is a head of k and v, and all the queries that read it.
    """
    q, k, v = (canonical(ctx.labels, a[name]) for name in ("query", "key", "value"))
    if a.get("enable_gqa") and q.shape[-3] != k.shape[-3]:
        group = q.shape[-3] // k.shape[-3]
        k, v = (repeated(value, value.rank - 3, group) for value in (k, v))
    width = q.factor(q.rank - 1)
    if width is not None and len(width.dims) == 1 and a.get("scale") is None:
        q = ctx.fix(q, [q.rank - 1], "the scale 1/√width depends on it")
    batch = BATCH[: q.rank - 2]
    scores = ctx.contract([(q, batch + "le"), (k, batch + "se")], batch + "ls")
    scores = replace(scores, shape=(*q.shape[:-1], k.shape[-2]))
    mask = a.get("attn_mask")
    if isinstance(mask, Value):
        scores = ctx.align([scores, mask], scores.shape)
    scores = ctx.fix(scores, [scores.rank - 2, scores.rank - 1], "positions of attention")
    out = ctx.contract([(scores, batch + "ls"), (v, batch + "sv")], batch + "lv")
    out = replace(out, shape=ctx.shape)
    return (out, *(Value(shape=s) for s in ctx.shapes[1:])) if len(ctx.shapes) > 1 else out


def embedding(ctx: Context, a: Arguments) -> Value:
    """Rows of a table: axis 1 of the table is the channel, axis 0 (the vocabulary) is fixed."""
    table = fix(ctx.labels, a["weight"], [0], SILENT)
    channel = table.labels(1)
    if channel is not None:
        ctx.labels.produced(channel)
    return replace(table.renamed(ctx.shape, {1: len(ctx.shape) - 1}), static=False, data=None)


def glu(ctx: Context, a: Arguments) -> Value:
    """Two halves multiplied index by index."""
    value: Value = ctx.canonical(a["self"])
    dim = a.get("dim", -1) % value.rank
    size = value.shape[dim] // 2
    halves = [part(ctx, value, dim, start, size) for start in (0, size)]
    ctx.site(value)
    return ctx.align(halves, combine=first_zero)
