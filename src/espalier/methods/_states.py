"""Whether a state that is to be loaded is one of such a handle; nothing is changed before that is known."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from espalier.errors import EspalierError, RequestError, nearest, shown


@contextmanager
def fitting() -> Iterator[None]:
    """Whatever does not fit in a state that was not ours is one sentence."""
    try:
        yield
    except EspalierError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"the state is not one of such a handle ({type(error).__name__}: {error!s:.80}); give what state_dict() "
            "returned"
        ) from error


def check_entries(
    saved: Mapping[str, Any], own: Mapping[str, Any], optional: Sequence[str]
) -> None:
    """Refuse a state that lacks what a handle's own has.

    Raises:
        RequestError: With what is missing.
    """
    missing = [name for name in own if name not in saved and name not in optional]
    if missing:
        raise RequestError(
            f"the state lacks {', '.join(missing)}; give what state_dict() of such a handle returned"
        )
    for name, mine in own.items():
        its = saved.get(name, mine)
        kind = Mapping if isinstance(mine, Mapping) else list if isinstance(mine, list) else object
        if not isinstance(its, kind) or (type(mine) is int and (type(its) is not int or its < 0)):
            raise RequestError(
                f"the state's {name} is {shown(its)}; give what state_dict() of such a handle returned"
            )


def check_tensors(what: str, saved: Mapping[str, Any], like: Mapping[str, Tensor]) -> None:
    """Refuse tensors of another model.

    Raises:
        RequestError: A name that the model does not have, or another shape.
    """
    for name, value in saved.items():
        if not hasattr(value, "shape"):
            raise RequestError(
                f"the state has {what} of {name!r} that are {shown(value)}, no tensor"
            )
        if name not in like:
            raise RequestError(
                f"the state has {what} of {name!r}, which is no parameter here: {nearest(name, like)}"
            )
        if tuple(value.shape) != tuple(like[name].shape):
            raise RequestError(
                f"the state has {what} of {name!r} in the shape {tuple(value.shape)}, and here it is "
                f"{tuple(like[name].shape)}; give the state of this very model"
            )
