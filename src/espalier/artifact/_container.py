"""The file around the document: a safetensors file whose metadata hold the document, and a checksum.

The metadata hold one key, because the order of several is not the same in every process and an
artefact's bytes are to be.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from espalier._ground.documents import parse_json
from espalier._ground.reading import opened
from espalier._ground.safetensors import MAX_HEADER, Header
from espalier._ground.safetensors import read_header as header_of
from espalier._ground.safetensors import read_tensors as tensors_of
from espalier.errors import CheckpointError, EspalierError

KEY = "espalier"
"""The key of the document in the metadata."""

_CHUNK = 1 << 20


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Whatever is wrong with the file inside becomes one ``CheckpointError`` that names it."""
    try:
        yield
    except EspalierError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def bounded_json(text: str, what: str) -> Any:
    """Parse JSON that may come from a stranger.

    Raises:
        CheckpointError: Too long, too deep, too many parts, not JSON, or a key given twice.
    """
    try:
        return parse_json(text, MAX_HEADER)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} is not JSON: {error!s:.200}") from error


def read_header(path: Path) -> Header:
    """The header of an artefact, with every statement of it checked against the file's size.

    Raises:
        CheckpointError: Not an artefact, cut short, or a header that cannot be true.
        OSError: The file cannot be read.
    """
    header = header_of(path)
    if KEY not in header.metadata:
        raise CheckpointError("it may be a safetensors file, but it is not an artefact")
    return header


def read_tensors(path: Path, header: Header, sha256: str) -> dict[str, Tensor]:
    """Every tensor, on the CPU, in memory of its own.

    Raises:
        CheckpointError: The data are not those the document was written for.
        OSError: The file cannot be read.
    """
    # Before any of it is interpreted: the parser gets no bytes that the document does not vouch
    # for.
    digest = hashlib.sha256()
    with opened(path) as file:
        file.seek(header.start)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise CheckpointError("its weights do not match their checksum: damaged or altered")
    return tensors_of(path)
