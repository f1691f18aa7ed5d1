import pytest
import torch

from espalier import data
from espalier.errors import RequestError, UnknownNameError

ALL = sorted(data.AUGMENTATIONS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count=64, size=6, dtype=torch.uint8):
    # Nothing is 0, so that the padding can be told from the image.
    draw = torch.randint(1, 256, (count, 3, size, size), generator=generator(99))
    return draw.to(dtype)


def every_cut(image, padding):
    size = image.shape[-1]
    padded = torch.nn.functional.pad(image, (padding,) * 4)
    return [
        padded[:, top : top + size, left : left + size]
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    ]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_images_are_new_of_the_same_kind_and_the_old_untouched(name, dtype):
    images = noise(dtype=dtype)
    before = images.clone()
    after = data.augmentation(name)(images, generator())
    assert (after.shape, after.dtype) == (images.shape, dtype)
    assert torch.equal(images, before)
    assert after.untyped_storage().data_ptr() != images.untyped_storage().data_ptr()


@pytest.mark.parametrize("name", ALL)
def test_the_generator_alone_decides(name):
    augment, images = data.augmentation(name), noise()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = augment(images, generator(7))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(one, augment(images, generator(7)))
    assert not torch.equal(one, augment(images, generator(8)))


def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_others():
    images = noise(400)
    after = data.random_flip(images, generator())
    mirrored = (after == images.flip(3)).flatten(1).all(1)
    same = (after == images).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert 150 < int(mirrored.sum()) < 250  # five standard deviations


def test_a_crop_is_one_of_all_the_cuts_and_each_of_them_occurs():
    images = noise(1).expand(500, -1, -1, -1)
    cuts = every_cut(images[0], padding=1)
    after = data.random_crop(images, generator(), padding=1)
    counts = [int((after == cut).flatten(1).all(1).sum()) for cut in cuts]
    assert sum(counts) == 500
    assert min(counts) > 20  # 55 expected of each of nine


def test_crop_flip_moves_every_image_on_its_own():
    images = noise(300)
    after = data.crop_flip(images, generator(), padding=1)
    places = set()
    for image, changed in zip(images, after, strict=True):
        cuts = every_cut(image, padding=1)
        cuts += [cut.flip(2) for cut in cuts]
        places.add(next(i for i, cut in enumerate(cuts) if torch.equal(cut, changed)))
    assert places == set(range(18))


def test_no_padding_is_no_crop():
    assert torch.equal(data.random_crop(noise(), generator(), padding=0), noise())


def test_wrong_requests_are_refused():
    with pytest.raises(RequestError, match="padding=-1"):
        data.random_crop(noise(), generator(), padding=-1)
    with pytest.raises(UnknownNameError, match="did you mean 'crop_flip'"):
        data.augmentation("crop-flip")
