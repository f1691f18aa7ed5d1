import sys

import pytest
import torch

from espalier import data
from espalier.errors import DataError, RequestError, UnknownNameError


def image_set(labels, /, **changes):
    count = len(labels)
    pixels = torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1)
    figures = dict(
        images=pixels.expand(count, 3, 2, 2).clone(),
        labels=torch.tensor(labels),
        classes=("a", "b", "c"),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    return data.ImageSet(**{**figures, **changes})


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """A reader of the user's own in the current directory."""
    (tmp_path / "own_reader.py").write_text(
        "import torch\n"
        "from espalier.data import ImageSet, Split\n"
        "def read(path=None, *, count=2):\n"
        "    one = ImageSet(images=torch.zeros(count, 1, 4, 4), labels=torch.zeros(count).long(),\n"
        "                   classes=(str(path),))\n"
        "    return Split(train=one, test=one)\n"
        "def wrong():\n"
        "    return 7\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    sys.modules.pop("own_reader", None)


def test_the_users_own_function_gets_the_path_and_the_options(own_code):
    split = data.load("own_reader:read", "there", count=5)
    assert len(split.train) == 5
    assert split.train.classes == ("there",)
    assert data.load("own_reader:read").train.classes == ("None",)


def test_the_users_own_function_must_return_a_split(own_code):
    with pytest.raises(RequestError, match=r"own_reader:wrong returned a int; .*Split"):
        data.load("own_reader:wrong")
    with pytest.raises(RequestError, match=r"own_reader:read: .*'size'; it takes"):
        data.load("own_reader:read", size=3)


def test_unknown_names_and_options_are_refused_with_a_hint(tmp_path):
    with pytest.raises(UnknownNameError, match=r"no data set 'minst'; did you mean 'mnist'\?"):
        data.load("minst")
    with pytest.raises(RequestError, match=r"'mnist' needs a path. To get it: yann"):
        data.load("mnist")
    with pytest.raises(RequestError, match=r"folder: .*'sise'; it takes .*size"):
        data.load("folder", tmp_path, sise=3)


def test_every_name_says_what_it_is_and_where_to_get_it():
    assert set(data.NAMES) == {"digits", "mnist", "cifar10", "folder"}
    for info in data.NAMES.values():
        assert info.description
        assert "path" in info.source


def test_the_normalisation_can_be_chosen_by_name_or_figures():
    named = data.load("digits", normalise="mnist")
    assert (named.test.mean, named.train.std) == ((0.1307,), (0.3081,))
    figures = data.load("digits", mean=[0.5], std=[0.25])
    assert (figures.train.mean, figures.test.std) == ((0.5,), (0.25,))
    assert data.NORMALISATIONS["imagenet"] == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"normalise": "imagnet"}, "did you mean 'imagenet'"),
        ({"mean": [0.5]}, "give both or neither"),
        ({"normalise": "mnist", "mean": [0.5], "std": [1]}, "leave it or them out"),
        ({"normalise": "imagenet"}, "mean has 3 figures for images of 1 channels; give 1"),
        ({"mean": [0.5], "std": [0]}, "must be > 0"),
    ],
)
def test_a_normalisation_that_cannot_be_is_refused(options, says):
    with pytest.raises(RequestError, match=says):
        data.load("digits", **options)


def test_bytes_are_normalised_channel_by_channel():
    one = image_set([0], mean=(0.0, 0.5, 0.0), std=(1.0, 1.0, 0.5))
    images = torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)
    x = one.normalise(images)
    assert x.dtype == torch.float32
    assert x[0, :, 1, 1].tolist() == pytest.approx([0.2, -0.3, 0.4])
    assert (images == 51).all()


def test_floating_point_images_are_not_divided():
    one = image_set([0], images=torch.full((1, 3, 2, 2), 2.0, dtype=torch.float64))
    assert (one.normalise(one.images) == 2).all()
    assert one.normalise(one.images).dtype == torch.float64


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        (3, [0, 3, 4]),  # the first of each class
        (4, [0, 1, 3, 4]),  # then the second of the lowest class
        (6, [0, 1, 2, 3, 4, 6]),  # class b has run out
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (None, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_a_subset_is_balanced_and_takes_the_first_of_each_class(limit, kept):
    whole = image_set([0, 0, 0, 1, 2, 0, 2, 2])
    part = whole.first(limit)
    assert part.images[:, 0, 0, 0].tolist() == kept
    assert part.labels.tolist() == [[0, 0, 0, 1, 2, 0, 2, 2][i] for i in kept]


@pytest.mark.parametrize(("limit", "kept"), [(1, [2]), (2, [1, 2]), (4, [0, 1, 2, 3])])
def test_a_subset_that_cannot_be_even_prefers_lower_classes_to_earlier_images(limit, kept):
    assert image_set([2, 1, 0, 0, 1]).first(limit).images[:, 0, 0, 0].tolist() == kept


def test_a_subset_of_nothing_is_refused():
    with pytest.raises(RequestError, match="subset of 0 images"):
        image_set([0]).first(0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": torch.zeros(2, 4)}, r"shape \(2, 4\); give \(N, C, H, W\)"),
        ({"images": torch.zeros(2, 3, 1, 1).int()}, "int32; give uint8 or floating"),
        ({"labels": torch.zeros(3).long()}, r"shape \(3,\) for 2 images"),
        ({"labels": torch.zeros(2)}, "float32"),
        ({"labels": torch.tensor([0, 3])}, "image 1 has label 3, but there are 3 classes"),
        ({"labels": torch.tensor([-1, 0])}, "image 0 has label -1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, says):
    with pytest.raises(DataError, match=says):
        image_set([0, 1], **changes)
