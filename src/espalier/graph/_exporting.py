"""The ATen graph of a module."""

import io
import warnings
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stderr

import torch
from torch import nn
from torch.export import ExportedProgram

from espalier._ground.modes import evaluating
from espalier.errors import RequestError

PARTS = ("backbone", "body", "encoder", "features")


def exported(
    model: nn.Module,
    positional: tuple[object, ...],
    named: Mapping[str, object],
    *,
    as_it_is: bool = False,
) -> ExportedProgram:
    """The model's ATen graph, in evaluation mode or in the modes that it is in.

    Raises:
        RequestError: It cannot be exported.
    """
    # What the exporter prints of a failure, the whole graph so far, is in no proportion to its use.
    quiet = redirect_stderr(io.StringIO())
    mode = nullcontext() if as_it_is else evaluating(model)
    with mode, torch.no_grad(), warnings.catch_warnings(), quiet:
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(model, positional, dict(named))
            decomposed: ExportedProgram = program.run_decompositions({})
            return decomposed
        except Exception as error:  # the exporter raises whatever the model's code does
            first = str(error).strip().splitlines()[:1]
            parts = (n for n, m in model.named_children() if n in PARTS)
            part = next(parts, None)
            advice = f", or its part without that (model.{part})" if part else ""
            raise RequestError(
                f"{type(model).__name__} cannot be exported by torch.export with these inputs "
                f"({type(error).__name__}: {first[0] if first else ''}); "
                "give inputs on which the model runs, and a forward without data-dependent control "
                f"flow{advice}"
            ) from error
