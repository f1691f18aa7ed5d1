"""Boxes in pictures, from COCO's JSON and from YOLO's text."""

import json

import pytest
import torch
from PIL import Image

from espalier.data import load_coco, load_scenes, load_yolo
from espalier.errors import DataError


@pytest.fixture
def both(tmp_path):
    """The same two pictures in either layout."""
    for folder in ("images/train", "labels/train", "annotations"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (40, 20), "red").save(tmp_path / "images/train/a.png")
    Image.new("L", (10, 10)).save(tmp_path / "images/train/b.jpg")
    (tmp_path / "labels/train/a.txt").write_text("1 0.25 0.5 0.5 0.5\n\n0 0.75 0.5 0.5 1\n")
    (tmp_path / "classes.txt").write_text("cat\nsmall dog\n")
    said = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 40, "height": 20},
            {"id": 9, "file_name": "b.jpg", "width": 10, "height": 10},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [0, 5, 20, 10]},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [20, 0, 20, 20], "iscrowd": 1},
        ],
        "categories": [{"id": 18, "name": "small dog"}, {"id": 3, "name": "cat"}],
    }
    write(tmp_path, said)
    return tmp_path, said


def write(folder, said):
    (folder / "annotations/instances_train.json").write_text(json.dumps(said))


def test_both_formats_say_the_same(both):
    folder, _ = both
    yolo = load_scenes(folder, "images/train")
    coco = load_scenes(folder, "annotations/instances_train.json")
    assert yolo.classes == coco.classes == ("cat", "small dog")
    for scenes in (yolo, coco):
        first, second = scenes.scenes
        assert first.boxes.tolist() == [[0, 0.25, 0.5, 0.75], [0.5, 0, 1, 1]]
        assert first.labels.tolist() == [1, 0]
        assert (len(second.boxes), second.boxes.shape) == (0, (0, 4))
        assert first.picture()[:, 0, 0].tolist() == [255, 0, 0]
        assert second.picture().shape == (3, 10, 10)
    assert coco.scenes[0].crowd.tolist() == [False, True]
    assert len(yolo.first(1)) == 1


def test_without_names_classes_are_numbers(both):
    folder, _ = both
    assert load_yolo(folder / "images/train").classes == ("0", "1")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("0 0.5 0.5 0.5", "line 1: expected class cx cy w h"),
        ("0 0.5 0.5 0.5 0.5 0.5", "line 1: expected"),
        ("\nx 0 0 0 0", "line 2: expected"),
        ("0 0.5 nan 0.5 0.5", "line 1: class ≥ 0 and fractions"),
        ("-1 0.5 0.5 0.5 0.5", "line 1: class ≥ 0 and fractions"),
        ("0 0.5 0.5 7 0.5", "line 1: class ≥ 0 and fractions"),
        ("2 0.5 0.5 0.5 0.5", "label 2, and there are 2 classes"),
    ],
)
def test_a_wrong_line_of_labels_is_named(both, lines, said):
    folder, _ = both
    (folder / "labels/train/b.txt").write_text(lines)
    with pytest.raises(DataError, match=said):
        load_scenes(folder, "images/train")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["images"][0].update(file_name="/etc/passwd"), "below the pictures' folder"),
        (lambda s: s["images"][0].update(file_name="../a.png"), "below the pictures' folder"),
        (lambda s: s["images"][0].update(file_name="c.png"), "is in none of"),
        (lambda s: s["images"][0].update(width=0), "width 0"),
        (lambda s: s["images"][0].update(width=1e400), "width is inf"),
        (lambda s: s["images"][0].update(height=10**400), "height is"),
        (lambda s: s["images"][0].update(id=None), "id is None"),
        (lambda s: s["annotations"][0].update(bbox=[1, 2, 3]), "no bbox of four"),
        (lambda s: s["annotations"][0].update(bbox=[1, 2, 3, "4"]), "no bbox of four"),
        (lambda s: s["annotations"][0].update(category_id=5), "no such category"),
        (lambda s: s.update(images=[]), "no pictures"),
        (lambda s: s.update(images=3), "no list of mappings under images"),
    ],
)
def test_a_json_that_is_not_coco_is_refused(both, change, said):
    folder, content = both
    change(content)
    write(folder, content)
    with pytest.raises(DataError, match=said):
        load_scenes(folder, "annotations/instances_train.json")


def test_what_is_missing_is_named_with_the_layout(both):
    folder, _ = both
    for part in ("images/val", "annotations/instances_val.json"):
        with pytest.raises(DataError, match=r"expected COCO's .* or YOLO's layout"):
            load_scenes(folder, part)
    with pytest.raises(DataError, match="no such folder"):
        load_scenes(folder / "nowhere", "images/train")
    (folder / "annotations/instances_train.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="not JSON"):
        load_scenes(folder, "annotations/instances_train.json")


def test_a_picture_that_is_damaged_is_named(both):
    folder, _ = both
    scenes = load_scenes(folder, "images/train")
    (folder / "images/train/a.png").write_bytes(b"%!PS-Adobe")
    with pytest.raises(DataError, match=r"a\.png: not a readable image"):
        scenes.scenes[0].picture()


def test_the_real_pictures_say_the_same_in_both_formats(real_data):
    real = real_data / "coco128"
    if not real.is_dir():
        pytest.skip(f"no {real}")
    yolo = load_scenes(real, "images/train2017")
    coco = load_coco(real / "instances_train2017_320.json", [real / "images/train2017"])
    assert yolo.classes == coco.classes
    assert len(yolo) == len(coco) == 128
    by_name = {scene.file.name: scene for scene in coco.scenes}
    for one in yolo.scenes:
        other = by_name[one.file.name]
        # Rounded to six decimals by one, to a hundredth of a pixel by the other.
        apart = (one.boxes[:, None] - other.boxes[None]).abs().amax(dim=2)
        apart[one.labels[:, None] != other.labels[None]] = torch.inf
        assert len(one.labels) == len(other.labels)
        assert not len(one.labels) or float(apart.amin(dim=1).max()) < 2e-3
