"""Language modelling over bytes: what is read, what is predicted, and the figure."""

import math

import pytest
import torch
from torch import nn

from espalier import data, tasks
from espalier.errors import DataError, RequestError


@pytest.fixture
def texts(tmp_path):
    for index in range(20):
        (tmp_path / f"{index:02}.txt").write_bytes(bytes([65 + index]) * 50)
    return tmp_path


def test_no_file_is_in_both_parts_and_every_tenth_is_for_test(texts):
    train, test = data.load_bytes(texts, pattern="*.txt")
    assert set(test.tolist()) == {0, 65 + 9, 65 + 19}
    assert set(train.tolist()) == {0, *range(65, 85)} - {65 + 9, 65 + 19}
    assert (len(train), len(test)) == (18 * 51, 2 * 51)


def test_the_limit_cuts_the_last_file(texts):
    train, test = data.load_bytes(texts, pattern="*.txt", limit=51 * 9 + 10)
    assert (len(train), len(test)) == (51 * 9, 11)


def test_links_and_what_is_installed_beside_the_library_are_not_read(texts):
    (texts / "site-packages").mkdir()
    (texts / "site-packages" / "00.txt").write_bytes(b"\xff" * 99)
    (texts / "zz.txt").symlink_to("/dev/zero")
    train, test = data.load_bytes(texts, pattern="*.txt")
    assert len(train) + len(test) == 20 * 51


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"path": "nowhere"}, DataError, "nowhere: no such folder"),
        ({"pattern": "0*.txt", "limit": 400}, DataError, "none is left for test"),
        ({"limit": 0}, RequestError, "limit=0; give at least 1"),
        ({"context": 0}, RequestError, "context=0; give at least 1"),
        ({"context": 200}, RequestError, "give a smaller context, or more text"),
    ],
)
def test_what_cannot_be_read_is_said(texts, arguments, error, says):
    with pytest.raises(error, match=says):
        tasks.language(4, 0, **{"path": texts, "pattern": "*.txt", **arguments})


class Bigram(nn.Module):
    """Logits of the next byte from the last: the counts of pairs in a text, and one of each."""

    def __init__(self, text):
        super().__init__()
        counts = torch.ones(256, 256)
        counts.index_put_(
            (text[:-1].long(), text[1:].long()), torch.ones(len(text) - 1), accumulate=True
        )
        self.table = nn.Parameter(counts.log())

    def forward(self, tokens):
        return self.table[tokens]


def test_the_perplexity_is_that_of_every_byte_of_the_test_text_once():
    task = tasks.language(16, seed=0, pattern="c*.py", limit=2_000_000, context=32)
    train, test = data.load_bytes(pattern="c*.py", limit=2_000_000)
    model = Bigram(train)
    test = test[: 1 << 17]
    windows = (len(test) - 1) // 32 * 32
    logs = model.table.detach().log_softmax(1)[test[:windows].long(), test[1 : windows + 1].long()]
    found = task.evaluate(model)
    assert found["perplexity"] == pytest.approx(math.exp(-float(logs.double().mean())), rel=1e-4)
    assert found["loss"] == pytest.approx(-float(logs.mean()), rel=1e-4)
    assert 5 < found["perplexity"] < 30  # English and Python have about 2^3.5 by pairs of letters


def test_each_batch_asks_for_the_byte_after_each_and_resumes_anywhere():
    task = tasks.language(4, seed=1, pattern="c*.py", limit=2_000_000, context=16)
    batches = list(task.batches(epoch=2))
    assert all(torch.equal(b.inputs[:, 1:], b.target[:, :-1]) for b in batches)
    again = list(task.batches(epoch=2, start=5))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(again, batches[5:], strict=True))
    assert not torch.equal(batches[0].inputs, next(task.batches(epoch=3)).inputs)
    assert task.resumes_exactly


def test_a_model_of_transformers_is_taken_as_it_is(vision):  # transformers imports torchvision
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=256, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    task = tasks.language(4, seed=1, pattern="c*.py", limit=2_000_000, context=16)
    model = transformers.GPT2LMHeadModel(config)
    task.loss(model, next(task.batches(0))).backward()
    assert 200 < task.evaluate(model)["perplexity"] < 300  # 256 before it has learned
