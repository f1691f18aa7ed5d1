"""Image files read by workers: the same batches for any number of them, and nothing held."""

import random
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from espalier import data, tasks
from espalier.data._folder import MEAN, STD
from espalier.errors import DataError, RequestError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven classes of six training and two test images, of various sizes and shapes."""
    root = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for name in "abcdefg":
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                high, wide = draw.integers(9, 40, 2)
                pixels = draw.integers(0, 256, (high, wide, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


def batches(task, epoch, start=0):
    return [(batch.inputs, batch.target) for batch in task.batches(epoch, start)]


def equal(one, two):
    return len(one) == len(two) and all(
        torch.equal(a, b) and torch.equal(s, t) for (a, s), (b, t) in zip(one, two, strict=True)
    )


def test_batches_are_the_same_for_any_number_of_workers_and_from_any_step(folder):
    alone = tasks.image_folder(folder, 8, seed=3, size=12)
    several = tasks.image_folder(folder, 8, seed=3, size=12, workers=2)
    whole = batches(alone, epoch=1)
    assert equal(whole, batches(several, epoch=1))
    assert equal(whole[2:], batches(several, epoch=1, start=2))
    assert not equal(whole, batches(alone, epoch=2))
    assert alone.resumes_exactly
    model = Mean(7)
    assert alone.evaluate(model) == several.evaluate(model)


class Mean(nn.Module):
    """Logits from the mean colour."""

    def __init__(self, classes):
        super().__init__()
        self.linear = nn.Linear(3, classes)
        nn.init.constant_(self.linear.bias, 0.1)

    def forward(self, x):
        return self.linear(x.mean(dim=(2, 3)))


def test_top_5_holds_more_than_top_1_and_all_of_five_classes():
    logits = torch.randn(200, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 7
    found = {}
    for top in (1, 5, 7):
        figure = tasks.Accuracy(top=top)
        figure.update(logits, labels)
        found[top] = figure.compute()
    ranks = (logits > logits.gather(1, labels[:, None])).sum(dim=1)
    assert found == {top: int((ranks < top).sum()) / 200 for top in (1, 5, 7)}
    broken = tasks.Accuracy(top=5)
    broken.update(torch.full((3, 7), float("nan")), torch.tensor([0, 1, 2]))
    assert broken.compute() == 0


def test_a_task_of_few_classes_has_no_top_5(folder, tmp_path):
    for part in ("train", "test"):
        for name in "ab":
            (tmp_path / part).mkdir(exist_ok=True)
            (tmp_path / part / name).symlink_to(folder / "train" / name)
    assert set(tasks.image_folder(tmp_path, 2, seed=0, size=8).metrics) == {"accuracy"}
    assert set(tasks.image_folder(folder, 2, seed=0, size=8).metrics) == {"accuracy", "top5"}


def test_training_images_are_torchvisions_crops_and_test_images_its_centres(vision):
    from torchvision.transforms import v2

    # The same share of areas and ratios, by their quartiles over many draws.
    ours = data.RandomCrop(size=32)
    torch.manual_seed(0)
    mine = np.array([ours._box(130, 90) for _ in range(4000)])
    theirs = []
    for _ in range(4000):
        top, left, high, wide = (
            v2.RandomResizedCrop(32).make_params([torch.empty(3, 90, 130)]).values()
        )
        theirs.append((left, top, left + wide, top + high))
    np.testing.assert_allclose(
        np.quantile(mine, (0.25, 0.5, 0.75), axis=0),
        np.quantile(np.array(theirs), (0.25, 0.5, 0.75), axis=0),
        atol=3,
    )
    # Resizing first and cutting then rounds to whole pixels: equal up to half a pixel of a smooth image.
    centre = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.ToImage()])
    colours = np.random.default_rng(1).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    smooth = Image.fromarray(colours).resize((330, 290), Image.Resampling.BICUBIC)
    reference = centre(smooth).float() / 255
    mean, std = (torch.tensor(figure).view(3, 1, 1) for figure in (MEAN, STD))
    found = data.CentreCrop(size=224)(smooth) * std + mean
    assert float((found - reference).abs().mean()) < 0.01


def test_an_extremely_long_image_gives_a_crop_of_its_middle():
    torch.manual_seed(0)
    left, top, right, bottom = data.RandomCrop(size=8)._box(4000, 3)
    assert (top, bottom) == (0, 3)
    assert right - left == 4
    assert data.CentreCrop(size=8)(Image.new("RGB", (4000, 3))).shape == (3, 8, 8)


def test_a_transform_of_ones_own_by_name_draws_from_what_is_seeded(folder):
    name = f"{__name__}:noisy"
    one = tasks.image_folder(folder, 4, seed=0, transform=name)
    two = tasks.image_folder(folder, 4, seed=0, transform=noisy, workers=1)
    assert equal(batches(one, 0), batches(two, 0))


def noisy(image):
    grey = np.asarray(image.convert("L").resize((4, 4)), dtype=np.float32)
    return torch.from_numpy(grey) + torch.rand(4, 4) + random.random() + np.random.rand()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_in_one_line_when_its_batch_comes(tmp_path, folder, workers):
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (9, 9)).save(tmp_path / part / "a" / f"{index}.png")
    (tmp_path / "train" / "a" / "1.png").write_bytes(b"no image")
    task = tasks.image_folder(tmp_path, 2, seed=0, size=8, workers=workers)
    with pytest.raises(DataError, match=r"1\.png: not a readable image") as error:
        list(task.batches(0))
    with pytest.raises(DataError, match=r"1\.png: not a readable image"):
        list(task.train)  # and in a loop of one's own
    assert "\n" not in str(error.value)


def test_memory_is_bounded_by_the_batch(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / part / "a" / "0.png")
        for index in range(1, 400):
            (tmp_path / part / "a" / f"{index}.png").hardlink_to(tmp_path / part / "a" / "0.png")
    tracemalloc.start()
    task = tasks.image_folder(tmp_path, 4, seed=0, size=64)
    for _ in task.batches(0):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * 3 * 64 * 64  # all images as bytes; floats would be four times that


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"workers": -1}, "workers=-1; give 0 or more"),
        ({"size": 0}, "size=0; give 1 to"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"batch_size": 43}, "batches of 43 from 42 samples"),
    ],
)
def test_bad_arguments_say_what_is_allowed(folder, wrong, says):
    with pytest.raises(RequestError, match=says):
        tasks.image_folder(folder, **{"batch_size": 4, "seed": 0, **wrong})
