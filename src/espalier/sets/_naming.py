"""Errors that say which parameter they are about."""

from espalier.errors import EspalierError


class named:
    """Put a parameter's name in front of what is raised inside.

    >>> from espalier.errors import BudgetError
    >>> with named("fc.weight"):
    ...     raise BudgetError("too much")
    Traceback (most recent call last):
    espalier.errors.BudgetError: fc.weight: too much
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, EspalierError):
            raise type(error)(f"{self.name}: {error}") from error
