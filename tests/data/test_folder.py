import pytest
import torch
from PIL import Image

from espalier import data
from espalier.errors import DataError, RequestError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(file, size, colour, mode="RGB"):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(file)


@pytest.fixture
def folder(tmp_path):
    picture(tmp_path / "train/cat/b.png", (8, 8), GREEN)
    picture(tmp_path / "train/cat/a.png", (8, 8), RED)
    picture(tmp_path / "train/ape/x.PNG", (8, 8), BLUE)
    picture(tmp_path / "val/cat/z.jpeg", (16, 9), RED)
    (tmp_path / "train/cat/notes.txt").write_text("not an image")
    return tmp_path


def test_classes_and_files_are_sorted_by_name(folder):
    split = data.load("folder", folder, size=8)
    assert split.train.classes == split.test.classes == ("ape", "cat")
    assert split.train.labels.tolist() == [0, 1, 1]
    assert split.train.images[:, :, 0, 0].tolist() == [list(BLUE), list(RED), list(GREEN)]
    assert split.test.labels.tolist() == [1]


def test_test_and_val_are_both_known(folder):
    (folder / "val").rename(folder / "test")
    assert len(data.load("folder", folder, size=8).test) == 1


def test_the_shorter_side_is_resized_and_the_centre_cut_out(folder):
    # 24 wide and 12 high: green thirds at the ends, red in the middle.
    image = Image.new("RGB", (24, 12), GREEN)
    image.paste(RED, (5, 0, 19, 12))
    image.save(folder / "val/cat/wide.png")
    image.transpose(Image.Transpose.ROTATE_90).save(folder / "val/cat/xtall.png")
    test = data.load("folder", folder, size=6).test
    assert test.images.shape == (3, 3, 6, 6)
    assert torch.equal(test.images[0], test.images[1])
    assert (test.images[0, 0] > 250).all()
    assert (test.images[0, 1] < 5).all()


def test_an_image_of_the_right_size_is_not_resampled(folder):
    noise = torch.randint(256, (8, 8, 3), dtype=torch.uint8, generator=torch.Generator())
    Image.fromarray(noise.numpy()).save(folder / "val/cat/noise.png")
    read = data.load("folder", folder, size=8).test.images[0]
    assert torch.equal(read, noise.permute(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_every_colour_mode_becomes_rgb(folder, mode):
    picture(folder / "val/cat/mode.png", (8, 8), (255, 255, 255), mode)
    assert (data.load("folder", folder, size=8).test.images[0] == 255).all()


@pytest.mark.parametrize("damage", ["cut jpeg", "cut png", "text", "empty"])
def test_an_unreadable_image_is_named(folder, damage):
    bad = folder / "train" / "cat" / ("c.jpg" if "jpeg" in damage else "c.png")
    noise = torch.randint(256, (64, 64, 3), dtype=torch.uint8, generator=torch.Generator())
    Image.fromarray(noise.numpy()).save(bad)
    content = {"text": b"hello", "empty": b""}.get(damage, bad.read_bytes()[:1500])
    bad.write_bytes(content)
    with pytest.raises(DataError, match=rf"{bad}: not a readable image"):
        data.load("folder", folder, size=8)


def test_a_class_that_is_only_tested_is_refused(folder):
    picture(folder / "val/dog/a.png", (8, 8), RED)
    with pytest.raises(DataError, match=r"val/dog: class 'dog' is not in .*train"):
        data.load("folder", folder, size=8)


def test_an_empty_class_is_refused(folder):
    (folder / "train/bee").mkdir()
    with pytest.raises(DataError, match=r"train/bee: no images in it; expected \.jpg"):
        data.load("folder", folder, size=8)


def test_missing_folders_say_what_is_expected(folder):
    with pytest.raises(DataError, match=r"no such folder; expected train/<class>/"):
        data.load("folder", folder / "absent")
    with pytest.raises(DataError, match=r"no train/ in it; expected train/<class>/"):
        data.load("folder", folder / "train")
    (folder / "val/cat/z.jpeg").unlink()
    (folder / "val/cat").rmdir()
    with pytest.raises(DataError, match=r"val: no folders in it"):
        data.load("folder", folder)
    (folder / "val").rmdir()
    with pytest.raises(DataError, match=r"no test/ or val/ in it"):
        data.load("folder", folder)
    with pytest.raises(RequestError, match="size=0"):
        data.load("folder", folder, size=0)
