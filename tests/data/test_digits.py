import sys

import pytest
import torch

from espalier import data
from espalier.errors import RequestError

pytest.importorskip("sklearn", reason="the demo extra is not installed")


def test_the_split_is_stratified_disjoint_and_complete():
    from sklearn.datasets import load_digits

    split = data.load("digits")
    assert len(split.train) + len(split.test) == 1797
    whole = torch.bincount(torch.from_numpy(load_digits().target))
    for label in range(10):
        assert int((split.test.labels == label).sum()) == round(0.2 * int(whole[label]))

    def rows(images):
        return [tuple(image) for image in images.flatten(1).tolist()]

    assert not set(rows(split.train.images)) & set(rows(split.test.images))


def test_images_are_the_originals_enlarged_threefold_with_a_border():
    from sklearn.datasets import load_digits

    test = data.load("digits", seed=3).test
    assert test.images.shape[1:] == (1, 28, 28)
    assert test.images.dtype == torch.uint8
    inner = test.images[:, 0, 2:26, 2:26].int()
    small = inner[:, ::3, ::3]
    assert torch.equal(inner, small.repeat_interleave(3, 1).repeat_interleave(3, 2))
    assert int(test.images.int().sum()) == int(inner.sum())
    levels = (torch.from_numpy(load_digits().images) * 255 / 16 + 0.5).int()
    known = {tuple(each) for each in levels.flatten(1).tolist()}
    assert {tuple(each) for each in small.flatten(1).tolist()} <= known


def test_the_seed_alone_decides_the_split():
    torch.manual_seed(1)
    one = data.load("digits", seed=5)
    torch.manual_seed(2)
    again, other = data.load("digits", seed=5), data.load("digits", seed=6)
    assert torch.equal(one.test.images, again.test.images)
    assert not torch.equal(one.test.images[:50], other.test.images[:50])


def test_normalised_images_have_mean_zero_and_deviation_one():
    split = data.load("digits")
    images = torch.cat([split.train.images, split.test.images])
    x = split.train.normalise(images)
    assert float(x.mean()) == pytest.approx(0, abs=1e-3)
    assert float(x.std()) == pytest.approx(1, abs=1e-3)


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(RequestError, match=r"pip install espalier\[demo\]"):
        data.load("digits")


def test_a_path_or_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(RequestError, match="takes no path"):
        data.load("digits", tmp_path)
    with pytest.raises(RequestError, match="seed=-1"):
        data.load("digits", seed=-1)
