r"""Between two updates of a solver: a budget in parts moves to where a unit is dearest.

Legend: W ``w``, Λ the multipliers, ρ the penalty, Z the nearest point of the budget as its parts stand, H the norm.
"""

from espalier._ground.types import Weights
from espalier.errors import RequestError
from espalier.sets import Constraint, Product
from espalier.sets._priced import priced, with_priced
from espalier.solvers import Pulling, Solver, State
from espalier.solvers._algebra import ascend


def check_priced(constraint: Constraint, solver: Solver) -> None:
    """Raise ``RequestError`` where multipliers are to price a budget and the solver has none."""
    part = priced(constraint)
    if part is not None and part.by == "multipliers" and not solver.has_multipliers:
        raise RequestError(
            f"{solver.name} has no multipliers to price the budget by; give shadow_prices by: energies, "
            "or a solver that has them (slr, admm)"
        )


def repriced(
    constraint: Constraint, w: Weights, state: State, diagonal: Weights | None, decoupled: bool
) -> Constraint:
    r"""The constraint with its parts moved by the prices of W and the state; itself, where it has no such parts.

    Prices are taken at the border of the whole budget, also while it is still open: of the units outside
    :math:`\Pi_S(W + \Lambda/\rho)`, what is about to be projected, the energies of Λ or of that point itself. A
    decoupled pull carries :math:`H^{-1}\Lambda`, whose energy in the norm H is that of Λ in the norm
    :math:`H^{-1}`.
    """
    part = priced(constraint)
    if part is None:
        return constraint
    names = part.names
    point = {name: w[name] for name in names}
    multiplier = state.multiplier if isinstance(state, Pulling) else {}
    if isinstance(state, Pulling) and state.rho > 0:
        point = ascend(point, 1.0 / state.rho, {name: multiplier[name] for name in names})
    shapes = {name: tuple(point[name].shape) for name in names}
    z = Product(parts=(part,), shapes=shapes).project(point, diagonal)
    if part.by == "multipliers":
        moved = part.moved(multiplier, diagonal if decoupled else None, z)
    else:
        moved = part.moved(point, diagonal, z)
    return constraint if moved is part else with_priced(constraint, moved)
