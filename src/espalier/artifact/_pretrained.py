"""A compact model of ``transformers`` as a checkpoint that ``from_pretrained`` reads, where that can be.

The architecture of such a checkpoint is what its configuration says, so the configuration is found whose
model has the shapes of the compact one: numbers are changed as the sizes of the tensors did, one after the other, while
fewer shapes differ; then layer by layer. Nothing of a family is known here, and nothing of it is believed: the
checkpoint is read back and compared.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from espalier._ground.example import Example
from espalier.artifact._saving import save
from espalier.compaction import Compact, Edits, compare
from espalier.errors import RequestError

Shapes = dict[str, tuple[int, ...]]
Overrides = frozenset[tuple[str, Any]]
_LAYER = re.compile(r"\.(\d+)\.")
_UNSET = re.compile(r"inner|intermediate|head_dim|ffn")
ARTEFACT = "model.espalier"


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """What was written.

    Attributes:
        folder: Where.
        reader: ``"from_pretrained"``, or ``"espalier.load"`` for the artefact in the folder.
        changed: What the configuration says anew; for some layers under ``per_layer_config``.
        reason: Why no configuration says it; empty where one does.
    """

    folder: Path
    reader: str
    changed: Mapping[str, Any]
    reason: str = ""


def save_pretrained(
    folder: str | os.PathLike[str],
    small: Compact,
    example_input: Example,
    *,
    tolerance: float = 1e-5,
) -> Pretrained:
    """Write a compact model of ``transformers`` so that ``from_pretrained`` reads it, or as an artefact.

    A configuration can say uniform widths, with an RMSNorm over the stream; and other widths for some layers, where the
    installed ``transformers`` has ``per_layer_config`` and the model heeds it. It cannot say that a LayerNorm counts
    channels that are gone.

    Args:
        folder: Made if it is missing.
        small: What :func:`espalier.compact` returned.
        example_input: What the checkpoint read back is compared on.
        tolerance: For that: max |Δoutput| over max |output|.

    Raises:
        RequestError: The model is not one of ``transformers``.
    """
    folder, model = Path(folder), small.model
    config: Any = getattr(model, "config", None)
    if not all(hasattr(model, n) for n in ("save_pretrained", "from_pretrained")) or config is None:
        raise RequestError(
            f"{type(model).__name__} has no config and save_pretrained; give a model of "
            "transformers, or use espalier.save"
        )
    folder.mkdir(parents=True, exist_ok=True)
    reason = "a norm counts channels that are gone" if _padded(small.edits) else ""
    changed: dict[str, Any] = {}
    if not reason:
        changed, reason = _written(folder, small, example_input, tolerance)
    if not reason:
        return Pretrained(folder=folder, reader="from_pretrained", changed=changed)
    save(folder / ARTEFACT, small)
    return Pretrained(folder=folder, reader="espalier.load", changed={}, reason=reason)


def _padded(edits: Edits) -> bool:
    return any(not edit.eps for edit in edits.norms)


def _written(
    folder: Path, small: Compact, example: Example, tolerance: float
) -> tuple[dict[str, Any], str]:
    """What the configuration says anew, and why the checkpoint is not the compact model, if so."""
    reason = "no configuration has these widths"
    # Four heads of width 4 have the shapes of two of width 8: which it is, the comparison says.
    for found in _Search(small.model, small.edits).options():
        changed = {**found, **_eps(small.model, small.edits)}
        reason = _differs(folder, small.model, changed, example, tolerance)
        if not reason:
            return changed, ""
    return {}, reason


def _differs(
    folder: Path, model: Any, changed: dict[str, Any], example: Example, tolerance: float
) -> str:
    """Why the checkpoint of a configuration, as it was read back, is not the model; empty if it is."""
    try:
        fresh = type(model)(_configured(model.config, changed))
        fresh.load_state_dict(model.state_dict())
        fresh.to(dtype=model.dtype).save_pretrained(folder)
        again = type(model).from_pretrained(folder)
        again.to(model.device)
    except Exception as error:  # whatever the model's own code says to such a configuration
        return f"its model refuses the configuration: {str(error).strip()[:200]}"
    proof = compare(model, again, example, tolerance=tolerance)
    return "" if proof.holds else f"read back it differs: {proof}"


def _configured(config: Any, changes: Mapping[str, Any]) -> Any:
    return type(config).from_dict({**config.to_dict(), **changes})


def _eps(model: nn.Module, edits: Edits) -> dict[str, float]:
    """The ε of RMSNorms over fewer channels, if it is one number in the configuration."""
    config: Any = model.config
    changed = {}
    for edit in edits.norms:
        norm = model.get_submodule(edit.module)
        new = float(getattr(norm, edit.eps))
        old = new * norm.get_parameter("weight").numel() / edit.size
        for name, value in config.to_dict().items():
            if type(value) is float and abs(value - old) < 1e-6 * old:
                changed[name] = new
    return changed


class _Search:
    """The configurations of one model, and the shapes each of them gives."""

    def __init__(self, model: Any, edits: Edits) -> None:
        self._model, self._known = model, dict[Overrides, Shapes | None]()
        self.target = {n: tuple(t.shape) for n, t in model.state_dict().items()}
        ratios = {(edit.size, len(edit.keep)) for edit in edits.slices}
        self._fields = dict(_candidates(model.config.to_dict(), ratios))
        # What a head is wide, a configuration often leaves to be worked out from other widths.
        widths = {vars(m)["head_dim"] for m in model.modules() if "head_dim" in vars(m)}
        self._starts = [frozenset[tuple[str, Any]]()]
        if len(widths) == 1:
            self._fields.pop("head_dim", None)
            self._starts.append(frozenset({("head_dim", widths.pop())}))

    def _shapes(self, overrides: Overrides) -> Shapes | None:
        """Of the model that a configuration gives; None where there is none."""
        if overrides not in self._known:
            try:
                with torch.device("meta"):
                    made = type(self._model)(_configured(self._model.config, dict(overrides)))
                found = {n: tuple(t.shape) for n, t in made.state_dict().items()}
            except Exception:  # widths that do not divide, say
                found = None
            self._known[overrides] = found
        return self._known[overrides]

    def _differing(self, overrides: Overrides, wanted: Shapes) -> float:
        """How many sizes among ``wanted`` a configuration does not give."""
        found = self._shapes(overrides)
        if found is None or set(found) != set(self.target):
            return float("inf")
        pairs = ((found[name], shape) for name, shape in wanted.items())
        return sum(sum(a != b for a, b in zip(x, y, strict=True)) for x, y in pairs)

    def _nearest(self, start: Overrides, wanted: Shapes) -> Overrides:
        best, least = start, self._differing(start, wanted)
        while least:
            trials = [
                frozenset({**dict(best), name: value}.items())
                for name, values in self._fields.items()
                for value in values
                if dict(best).get(name) != value
            ]
            count, found = min(
                ((self._differing(trial, wanted), i) for i, trial in enumerate(trials)),
                default=(least, 0),
            )
            if count >= least:
                break
            best, least = trials[found], count
        return best

    def options(self) -> Iterator[dict[str, Any]]:
        """What configurations with the sizes of the target say anew."""
        for start in self._starts:
            found = self._nearest(start, self.target)
            layers = self._by_layer(found) if self._differing(found, self.target) else {}
            if layers is not None:
                yield {**dict(sorted(found)), **({"per_layer_config": layers} if layers else {})}

    def _by_layer(self, common: Overrides) -> dict[int, dict[str, Any]] | None:
        """What each layer says besides, or None where no configuration has these widths."""
        layers: dict[int, Shapes] = {}
        for name, shape in self.target.items():
            numbered = _LAYER.search(name)
            if numbered is None:
                if self._differing(common, {name: shape}):
                    return None
            else:
                layers.setdefault(int(numbered.group(1)), {})[name] = shape
        said = {}
        for number, wanted in layers.items():
            own = self._nearest(common, wanted)
            if self._differing(own, wanted):
                return None
            if own != common:
                said[number] = dict(own - common)
        return said


def _candidates(
    fields: Mapping[str, Any], ratios: set[tuple[int, int]]
) -> Iterator[tuple[str, list[int]]]:
    """Field -> the numbers it may have now: changed as some axis was, or that axis's size."""
    for name, value in fields.items():
        if type(value) is int and value > 1:
            found = {value * new // old for old, new in ratios if value * new % old == 0}
            if found - {0, value}:
                yield name, sorted(found - {0, value})
        elif value is None and _UNSET.search(name):
            yield name, sorted({new for _, new in ratios})
