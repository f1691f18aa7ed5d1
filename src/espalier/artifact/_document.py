"""The JSON of an artefact: written, and read back as if a stranger had written it.

``{"version": 1, "sha256": …, "content": {…}}``. The checksum covers the content and the header's
description of every tensor; the content holds the checksum of the weights. Checksums tell damage,
not authorship: whoever alters a file can compute new ones, so everything is checked besides.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from espalier._ground.safetensors import TensorInfo, count, plain_name
from espalier.artifact._container import bounded_json
from espalier.compaction import Edits, Proof, Size
from espalier.errors import CheckpointError, EspalierError, shown
from espalier.planning import Plan

VERSION = 1

_CONTENT = {
    *("weights_sha256", "tied", "edits", "plan", "metrics"),
    *("proof", "change", "before", "after", "provenance"),
}
_MOST_CHANNELS = 1 << 24
_PATH = re.compile(r"(?!__)[A-Za-z0-9_-]+(\.(?!__)[A-Za-z0-9_-]+)*", re.ASCII)
_ATTRIBUTE = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Of an object that the module holds, or a name in a method (``forward().C``).
_NUMBER = re.compile(rf"{_ATTRIBUTE.pattern}((\(\))?\.{_ATTRIBUTE.pattern})?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What an artefact says of itself.

    Attributes:
        tensors: Name -> dtype, shape and place in the file.
        tied: Further names of tensors that are stored once: name -> the name it is stored under.
        edits: What turns the original architecture into the stored one; empty for a masked model.
        plan: What was to be pruned, if it was given.
        metrics: As given (accuracy …).
        proof: That the compact model equals the masked one; None for a masked model.
        change: What zeroing constants did to the outputs, where that was asked for.
        before: What the masked model weighed; None for a masked model.
        after: What the stored model weighs.
        provenance: Versions, and what was given; no date unless one was given.
        weights_sha256: Of the weights, as they lie in the file.
    """

    tensors: Mapping[str, TensorInfo]
    tied: Mapping[str, str]
    edits: Edits
    plan: Plan | None
    metrics: Mapping[str, Any]
    proof: Proof | None
    change: Proof | None
    before: Size | None
    after: Size
    provenance: Mapping[str, Any]
    weights_sha256: str


def to_text(artifact: Artifact) -> str:
    """The document as text; the same artefact gives the same bytes.

    Raises:
        TypeError, ValueError: Metrics or provenance hold what JSON does not.
    """
    content = {
        "weights_sha256": artifact.weights_sha256,
        "tied": dict(artifact.tied),
        "edits": artifact.edits.as_data(),
        "plan": None if artifact.plan is None else artifact.plan.to_dict(),
        "metrics": dict(artifact.metrics),
        "proof": None if artifact.proof is None else asdict(artifact.proof),
        "change": None if artifact.change is None else asdict(artifact.change),
        "before": None if artifact.before is None else asdict(artifact.before),
        "after": asdict(artifact.after),
        "provenance": dict(artifact.provenance),
    }
    sha256 = _checksum(content, artifact.tensors)
    return _dump({"version": VERSION, "sha256": sha256, "content": content})


def from_text(text: str, tensors: Mapping[str, TensorInfo]) -> Artifact:
    """The inverse of :func:`to_text`.

    Args:
        text: From the file's metadata.
        tensors: From the file's header.

    Raises:
        CheckpointError: Damaged, of another version, or not what an artefact may say.
    """
    document = bounded_json(text, "the document")
    version = document.get("version") if isinstance(document, dict) else None
    if type(version) is not int or version != VERSION:
        raise CheckpointError(
            f"it has schema version {version!s:.20} and this Espalier reads {VERSION}; "
            "use the Espalier that wrote it"
        )
    document = _record(document, {"version", "sha256", "content"}, "the document")
    content = _record(document["content"], _CONTENT, "the document")
    try:
        sha256 = _checksum(content, tensors)
    except ValueError as error:  # 1e999 is JSON, and infinite
        raise CheckpointError("a number in the document is not finite") from error
    if document["sha256"] != sha256:
        raise CheckpointError("the document does not match its checksum: damaged or altered")
    return Artifact(
        tensors=tensors,
        tied=_tied(content["tied"], tensors),
        edits=_edits(content["edits"]),
        plan=None if content["plan"] is None else _plan(content["plan"]),
        metrics=_mapping(content["metrics"], "metrics"),
        proof=None if content["proof"] is None else _proof(content["proof"], "proof"),
        change=None if content["change"] is None else _proof(content["change"], "change"),
        before=None if content["before"] is None else _size(content["before"], "before"),
        after=_size(content["after"], "after"),
        provenance=_mapping(content["provenance"], "provenance"),
        weights_sha256=_string(content["weights_sha256"], "weights_sha256"),
    )


def _checksum(content: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> str:
    # Over the header's tensors too: a document that is put before other tensors does not match.
    described = {name: asdict(info) for name, info in tensors.items()}
    return hashlib.sha256(_dump([content, described]).encode()).hexdigest()


def _dump(data: object) -> str:
    return json.dumps(data, allow_nan=False, separators=(",", ":"))


def _edits(data: object) -> Edits:
    # Files from before norms could count on and branches go have no such lists.
    data = {"norms": [], "branches": [], **_mapping(data, "edits")}
    data = _record(data, {"slices", "attributes", "columns", "norms", "branches"}, "edits")
    seen = set()
    for row in _list(data["slices"], "edits: slices"):
        row = _record(row, {"name", "axis", "size", "keep"}, "a slice")
        name = plain_name(row["name"], "a slice's name")
        axis, size = count(row["axis"], f"{name!r}: axis"), count(row["size"], f"{name!r}: size")
        keep = _list(row["keep"], f"{name!r}: keep")
        if len(keep) > size or any(type(index) is not int for index in keep):
            raise CheckpointError(f"{name!r}: keep must be at most {size} integers")
        if (name, axis) in seen:
            raise CheckpointError(f"{name!r}: axis {axis} is edited twice")
        seen.add((name, axis))
    for row in _list(data["attributes"], "edits: attributes"):
        row = _record(row, {"module", "name", "before", "after"}, "an attribute edit")
        path = plain_name(row["module"], "an attribute edit's module")
        name = plain_name(row["name"], f"{path!r}: an attribute's name")
        # An attribute edit ends in a setattr with names from the file, so they are words and dots
        # alone.
        if (path and not _PATH.fullmatch(path)) or not _NUMBER.fullmatch(name):
            raise CheckpointError(f"{path!r}, {name!r}: not a plain path of a module's attribute")
        before, after = (_numbers(row[key], f"{path}.{name}: {key}") for key in ("before", "after"))
        pairs = list(zip(before, after, strict=False))
        if len(before) != len(after) or any(
            not (new == old or 1 <= new <= old) for old, new in pairs
        ):
            raise CheckpointError(f"{path}.{name}: cannot go from {before} to {after}")
    for row in _list(data["columns"], "edits: columns"):
        row = _record(row, {"name", "shape", "keep"}, "a column edit")
        name = plain_name(row["name"], "a column edit's name")
        shape = [count(n, f"{name!r}: shape") for n in _list(row["shape"], f"{name!r}: shape")]
        keep = _list(row["keep"], f"{name!r}: keep")
        if len(shape) != 3 or any(type(index) is not int for index in keep):
            raise CheckpointError(f"{name!r}: columns are integers within three sizes")
    for row in _list(data["norms"], "edits: norms"):
        row = _record(row, {"module", "axis", "size", "eps"}, "a norm edit")
        path = plain_name(row["module"], "a norm edit's module")
        eps = row["eps"] and plain_name(row["eps"], f"{path!r}: an attribute's name")
        if (path and not _PATH.fullmatch(path)) or (eps and not _ATTRIBUTE.fullmatch(eps)):
            raise CheckpointError(f"{path!r}, {eps!r}: not a plain path of a norm's attribute")
        axis, size = count(row["axis"], f"{path!r}: axis"), count(row["size"], f"{path!r}: size")
        if not 0 < axis < 8 or not 0 < size <= _MOST_CHANNELS:
            raise CheckpointError(f"{path!r}: no norm counts axis {axis} of {size} channels")
    for row in _list(data["branches"], "edits: branches"):
        row = _record(row, {"module", "shape", "nones"}, "a branch edit")
        path = plain_name(row["module"], "a branch edit's module")
        shape = [count(n, f"{path!r}: shape") for n in _list(row["shape"], f"{path!r}: shape")]
        nones = row["nones"]
        if not _PATH.fullmatch(path) or type(nones) is not int or not -1 <= nones < 16:
            raise CheckpointError(f"{path!r}: not a plain path of a module and what it puts out")
        alone = 0 < len(shape) < 9 and sorted(shape)[:-1] == [1] * (len(shape) - 1)
        if not alone or not 0 < max(shape) <= _MOST_CHANNELS:
            raise CheckpointError(f"{path!r}: a constant has one axis of channels")
    return Edits.from_data(data)


def _numbers(data: object, where: str) -> list[int]:
    """A size, or several, of which those that stay may be any (-1 in a shape)."""
    if not isinstance(data, list):
        return [count(data, where)]
    if any(type(one) is not int for one in data):
        raise CheckpointError(f"{where} must be integers")
    return data


def _plan(data: object) -> Plan:
    try:
        return Plan.from_dict(_mapping(data, "the plan"))
    except EspalierError as error:
        raise CheckpointError(f"its plan is refused: {error}") from error
    except Exception as error:  # a stranger's plan; the reader of plans trusts its types
        raise CheckpointError(f"its plan cannot be read: {error!r:.200}") from error


def _proof(data: object, where: str) -> Proof:
    added = {"other_sizes": 0, "doubled": False}
    data = _record({**added, **_mapping(data, where)}, set(Proof.__dataclass_fields__), where)
    return Proof(
        difference=_number(data["difference"], f"{where}: difference"),
        scale=_number(data["scale"], f"{where}: scale"),
        tolerance=_number(data["tolerance"], f"{where}: tolerance"),
        random_batches=count(data["random_batches"], f"{where}: random_batches"),
        real_batches=count(data["real_batches"], f"{where}: real_batches"),
        mismatch=_string(data["mismatch"], f"{where}: mismatch"),
        other_sizes=count(data["other_sizes"], f"{where}: other_sizes"),
        doubled=data["doubled"] is True,
    )


def _size(data: object, where: str) -> Size:
    data = _record(data, set(Size.__dataclass_fields__), where)
    return Size(**{key: count(value, f"{where}: {key}") for key, value in data.items()})


def _tied(data: object, tensors: Mapping[str, TensorInfo]) -> dict[str, str]:
    found = _mapping(data, "tied")
    for name, target in found.items():
        plain_name(name, "a tied name")
        if name in tensors or not isinstance(target, str) or target not in tensors:
            raise CheckpointError(f"{name!r} is tied to no tensor of the file, or is one itself")
    return found


def _number(value: object, where: str) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1e300:  # type: ignore[operator]
        raise CheckpointError(f"{where} must be a number, 0 or more")
    return float(value)  # type: ignore[arg-type]


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise CheckpointError(f"{where} must be a string")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise CheckpointError(f"{where} must be a list")
    return value


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CheckpointError(f"{where} must be an object")
    return value


def _record(value: object, keys: set[str], where: str) -> dict[str, Any]:
    found = _mapping(value, where)
    # Neither fewer nor more: what is not known cannot be checked, and is not silently dropped.
    if set(found) != keys:
        odd = sorted(set(found) ^ keys)[0]
        raise CheckpointError(f"{where}: {shown(odd)} is missing or not known")
    return found
