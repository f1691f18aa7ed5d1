"""Pictures on disk with boxes in them: COCO's instances JSON, and YOLO's text files."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from espalier._ground.reading import opened, read_bytes, read_text
from espalier.data._folder import MAX_PIXELS, SUFFIXES
from espalier.errors import DataError, RequestError, shown

MAX_JSON = 1 << 30
MAX_LABELS = 1 << 22
"""Bytes of an instances JSON, and of one picture's label file or a list of names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """One picture, still on disk, and what is in it.

    Args:
        file: JPEG or PNG.
        boxes: float32 (N, 4), x1, y1, x2, y2 as fractions of the picture's width and height.
        labels: int64 (N,).
        crowd: bool (N,): a box around many, which counts neither for nor against a detector.
    """

    file: Path
    boxes: Tensor
    labels: Tensor
    crowd: Tensor

    def picture(self) -> Tensor:
        """Its pixels, uint8 (3, H, W).

        Raises:
            DataError: It cannot be read, or has more than ``MAX_PIXELS``.
        """
        try:
            with opened(self.file) as raw, Image.open(raw, formats=("PNG", "JPEG")) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise DataError(f"{self.file}: {picture.width}×{picture.height} is too large")
                pixels = np.asarray(picture.convert("RGB"))
        except DataError:
            raise
        except Exception as error:  # whatever Pillow says to a broken file
            raise DataError(f"{self.file}: not a readable image: {error!s:.200}") from error
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenes:
    """Pictures on disk with boxes in them; only what is asked for is read.

    Args:
        scenes: In a fixed order.
        classes: Label i means ``classes[i]``.

    Raises:
        DataError: There is none, or a label without a class.
    """

    scenes: tuple[Scene, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.scenes:
            raise DataError("no pictures; give at least one")
        for scene in self.scenes:
            if len(scene.labels) and int(scene.labels.max()) >= len(self.classes):
                raise DataError(
                    f"{scene.file}: label {int(scene.labels.max())}, and there are "
                    f"{len(self.classes)} classes"
                )

    def __len__(self) -> int:
        return len(self.scenes)

    def first(self, limit: int | None) -> "Scenes":
        """At most ``limit`` pictures, the first."""
        if limit is not None and limit < 1:
            raise RequestError(f"{limit} pictures; give at least 1")
        return replace(self, scenes=self.scenes[:limit])


def load_scenes(
    path: str | Path, part: str, images: str | None = None, classes: str | None = None
) -> Scenes:
    """Pictures and boxes in either format, from below one folder.

    Args:
        path: The folder.
        part: A file ``….json`` in COCO's format, or a folder of pictures whose labels lie in the folder that
            has ``labels`` in place of the last ``images`` in its path.
        images: For COCO the folder of the pictures; by default that of the file, ``images`` and ``NAME``
            beside it or above it, for ``instances_NAME.json``: the first that holds the first picture.
        classes: For YOLO a file with a name per line; by default ``classes.txt``, and without it numbers.

    Raises:
        DataError: Something is missing or damaged; the message names it, and what was expected.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; {_EXPECTED}")
    if not part.endswith(".json"):
        return load_yolo(root / part, _names(root, classes))
    folders = [root / images] if images else _likely(root / part)
    return load_coco(root / part, folders)


_EXPECTED = (
    "expected COCO's (annotations/instances_NAME.json and NAME/*.jpg) or YOLO's layout "
    "(images/NAME/*.jpg and labels/NAME/*.txt); get COCO at cocodataset.org"
)


def load_coco(file: str | Path, folders: Sequence[str | os.PathLike[str]]) -> Scenes:
    """An instances JSON: ``images``, ``annotations`` with ``bbox`` (x, y, w, h in pixels), ``categories``.

    Labels count the categories in the order of their ids. Masks are not read.

    Args:
        file: At most ``MAX_JSON`` bytes.
        folders: Where the pictures may lie: the first that holds the first one.

    Raises:
        DataError: Missing or damaged.
    """
    said = _json(Path(file))
    categories = {
        _whole(file, c, "id"): str(c.get("name", "")) for c in _list(file, said, "categories")
    }
    order = {number: label for label, number in enumerate(sorted(categories))}
    rows: dict[int, list[tuple[list[float], int, bool]]] = {}
    for row in _list(file, said, "annotations"):
        box, category = row.get("bbox"), _whole(file, row, "category_id")
        fits = isinstance(box, list) and len(box) == 4 and all(_number(v) for v in box)
        if not fits or category not in order:
            raise DataError(
                f"{file}: annotation {shown(row.get('id'))}: no bbox of four, or no such category"
            )
        what = ([float(v) for v in box or ()], order[category], bool(row.get("iscrowd", 0)))
        rows.setdefault(_whole(file, row, "image_id"), []).append(what)
    pictures = _list(file, said, "images")
    scenes, folder = [], None
    for one in pictures:
        name = str(one.get("file_name", ""))
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(
                f"{file}: file_name {shown(name)}; give a path below the pictures' folder"
            )
        folder = folder or _holding(file, name, folders)
        width, height = _whole(file, one, "width"), _whole(file, one, "height")
        if min(width, height) < 1:
            raise DataError(f"{file}: {name}: width {width}, height {height}; give at least 1")
        found = rows.get(_whole(file, one, "id"), [])
        boxes = torch.tensor([box for box, _, _ in found], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scenes.append(_scene(
            folder / name, boxes / torch.tensor([width, height, width, height]),
            [label for _, label, _ in found], [crowd for _, _, crowd in found],
        ))  # fmt: skip
    return Scenes(scenes=tuple(scenes), classes=tuple(categories[n] for n in sorted(categories)))


def load_yolo(images: str | Path, classes: Sequence[str] | None = None) -> Scenes:
    """A folder of pictures, and a text file for each: lines ``class cx cy w h``, fractions of the picture.

    A picture without a file has nothing in it.

    Args:
        images: The folder; in its path the last ``images`` becomes ``labels``.
        classes: The names; None: numbers.

    Raises:
        DataError: Missing or damaged; the message names file and line.
    """
    folder = Path(images)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {_EXPECTED}")
    parts = list(folder.parts)
    if "images" not in parts:
        raise DataError(
            f"{folder}: no `images` in its path, so no place for its labels; {_EXPECTED}"
        )
    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES)
    scenes = []
    for file in files:
        boxes, labels = _lines(Path(*parts) / f"{file.stem}.txt")
        scenes.append(_scene(file, boxes, labels, [False] * len(labels)))
    highest = max((int(s.labels.max()) for s in scenes if len(s.labels)), default=-1)
    names = tuple(classes) if classes is not None else tuple(map(str, range(highest + 1)))
    return Scenes(scenes=tuple(scenes), classes=names)


def _scene(file: Path, boxes: Tensor, labels: list[int], crowd: list[bool]) -> Scene:
    return Scene(
        file=file, boxes=boxes.clamp(0, 1), labels=torch.tensor(labels, dtype=torch.int64),
        crowd=torch.tensor(crowd, dtype=torch.bool),
    )  # fmt: skip


def _lines(file: Path) -> tuple[Tensor, list[int]]:
    boxes, labels = [], []
    for number, line in enumerate(_text(file).splitlines() if file.is_file() else [], 1):
        words = line.split()
        if not words:
            continue
        try:
            label, (x, y, w, h) = int(words[0]), map(float, words[1:])
        except ValueError as error:
            raise DataError(f"{file}: line {number}: expected class cx cy w h") from error
        if label < 0 or not all(0 <= v <= 1 for v in (x, y, w, h)):
            raise DataError(f"{file}: line {number}: class ≥ 0 and fractions in [0, 1] are wanted")
        labels.append(label)
        boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), labels


def _names(root: Path, classes: str | None) -> list[str] | None:
    file = root / (classes or "classes.txt")
    if classes is None and not file.is_file():
        return None
    return [line.strip() for line in _text(file).splitlines() if line.strip()]


def _text(file: Path) -> str:
    try:
        return read_text(file, MAX_LABELS)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as text: {error}") from error


def _json(file: Path) -> Mapping[str, Any]:
    try:
        said = json.loads(read_bytes(file, MAX_JSON))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}; {_EXPECTED}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON: {error!s:.200}") from error
    if not isinstance(said, dict):
        raise DataError(f"{file}: holds a {type(said).__name__}; {_EXPECTED}")
    return said


def _list(file: str | Path, said: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = said.get(name)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise DataError(f"{file}: no list of mappings under {name}; {_EXPECTED}")
    return found


def _number(value: Any) -> bool:
    if isinstance(value, int):  # of any length; a float of one of 400 digits is an error
        return abs(value) < 1 << 53
    return isinstance(value, float) and math.isfinite(value)


def _whole(file: str | Path, row: Mapping[str, Any], name: str) -> int:
    value = row.get(name)
    if not _number(value) or int(value) != value:  # type: ignore[arg-type]
        raise DataError(f"{file}: {name} is {shown(value)}; an integer is wanted")
    return int(value)


def _likely(file: Path) -> list[Path]:
    part = file.stem.removeprefix("instances_")
    near = [file.parent, file.parent.parent]
    return [place / below for place in near for below in (".", "images", part, f"images/{part}")]


def _holding(file: str | Path, name: str, folders: Sequence[str | os.PathLike[str]]) -> Path:
    for folder in folders:
        if (Path(folder) / name).is_file():
            return Path(folder)
    looked = ", ".join(str(folder) for folder in folders)
    raise DataError(f"{file}: its picture {shown(name)} is in none of {looked}; give images=")
