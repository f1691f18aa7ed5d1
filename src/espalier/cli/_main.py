"""The entry point: commands by name, and every failure as one message and an exit status."""

import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from espalier import __version__
from espalier.cli import _compact as compact
from espalier.cli import _compare as compare
from espalier.cli import _export as export
from espalier.cli import _lists as lists
from espalier.cli import _measure as measure
from espalier.cli import _pack as pack
from espalier.cli import _plan as plan
from espalier.cli import _prune as prune
from espalier.cli import _report as report
from espalier.cli._failures import own_lines, sentence
from espalier.cli._output import StoppedError, advise, fail
from espalier.errors import AdviceWarning, EspalierError, nearest

INTERRUPTED = 130
"""The exit status of a program stopped by Ctrl-C, as shells have it."""


# Click's own exceptions; newer versions of typer carry their own copy of it, so they are reached by typer.
_UsageError: Any = typer.BadParameter.__mro__[1]
_ClickException: Any = typer.BadParameter.__mro__[2]


class _Commands(TyperGroup):
    """Commands in the order in which they are used; a mistyped one gets the nearest suggested."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            ctx.fail(f"no command {args[0]!r}; {nearest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Prune neural networks by constrained optimisation: train the weights onto the budget, then cut.",
)


def _version(asked: bool) -> None:
    if asked:
        print(f"espalier {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Nothing but what all commands share."""


app.command("plan")(plan.plan)
app.command("prune")(prune.prune)
app.command("compare")(compare.compare)
app.command("compact")(compact.compact)
app.command("export")(export.export)
app.command("pack")(pack.pack)
app.command("unpack")(pack.unpack)
app.command("report")(report.report)
app.command("measure")(measure.measure)
app.command("methods")(lists.methods)
app.command("recipes")(lists.recipes)
app.command("models")(lists.models)
app.command("data")(lists.data)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; see :func:`espalier.cli.main`."""
    with warnings.catch_warnings():  # its filters are its own
        warnings.showwarning = _show
        return _run(arguments)


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as a note, without the line of code that it came from if that is of no use."""
    if issubclass(category, AdviceWarning):
        advise([str(message)])
    else:
        print(warnings.formatwarning(message, category, filename, lineno), file=sys.stderr, end="")


def _run(arguments: Sequence[str] | None) -> int:
    try:
        status = app(args=arguments, prog_name="espalier", standalone_mode=False)
        if status == INTERRUPTED:  # newer versions of typer turn Ctrl-C into a status
            return fail("nothing was begun", INTERRUPTED, word="stopped")
        return status if isinstance(status, int) else 0
    except EspalierError as error:
        return fail("\n".join(filter(None, [str(error), own_lines(error)])), error.exit_status)
    except _UsageError as error:
        hint = f"\nTry '{error.ctx.command_path} --help'." if error.ctx else ""
        return fail(f"{error.format_message()}{hint}", 2)
    except _ClickException as error:
        return fail(error.format_message(), error.exit_code)
    except StoppedError as stopped:
        return fail(str(stopped), INTERRUPTED, word="stopped")
    except (KeyboardInterrupt, typer.Abort):
        return fail("nothing was begun", INTERRUPTED, word="stopped")
    except BrokenPipeError:  # `espalier plan … | head`: the reader has had enough
        sys.stderr.close()
        return 0
    except Exception as error:
        lines, said = own_lines(error), sentence(error)
        if lines:
            what = "".join(traceback.format_exception_only(error)).rstrip("\n")
            return fail(f"in your own code: {what}\n{lines}", 1)
        if said is None:
            raise  # a mistake of ours, whose lines are needed
        return fail(said, 1)
