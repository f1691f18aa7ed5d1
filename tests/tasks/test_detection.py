"""Detection: YOLOv3's loss and boxes, mAP, batches; each against something that is written otherwise."""

import io
import math

import pytest
import torch
from PIL import Image
from torch import nn

from espalier import data, models, tasks
from espalier._ground.boxes import overlaps, suppressed, suppressed_by_class
from espalier.errors import RequestError
from espalier.models import Head
from espalier.tasks._yolo_loss import heads_of, yolo_boxes, yolo_loss

ANCHORS = ((10, 14), (23, 27), (37, 58), (81, 82))
SIZE = (64, 64)


def heads(classes=2):
    return [Head(ANCHORS[2:], ANCHORS, classes), Head(ANCHORS[:2], ANCHORS, classes)]


def maps(seed=0, classes=2, pictures=2):
    draw = torch.Generator().manual_seed(seed)
    shapes = [(pictures, 2 * (5 + classes), side, side) for side in (2, 4)]
    return [
        torch.randn(*s, generator=draw, dtype=torch.float64, requires_grad=True) for s in shapes
    ]


def target(boxes, labels, crowd=None):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "crowd": torch.tensor(crowd or [False] * len(labels), dtype=torch.bool),
    }


def some_boxes(count, seed):
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * 40
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1) + 1], dim=1)


def share(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(wide, 0) * max(high, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_overlaps_are_those_of_every_pair_alone():
    one, other = some_boxes(7, 0), some_boxes(5, 1)
    expected = [[share(a, b) for b in other.tolist()] for a in one.tolist()]
    assert torch.allclose(overlaps(one, other), torch.tensor(expected))


def test_suppression_is_the_greedy_one():
    boxes, scores = some_boxes(40, 2), torch.rand(40, generator=torch.Generator().manual_seed(3))
    stays = []
    for n in sorted(range(40), key=lambda n: -float(scores[n])):
        if all(share(boxes[n].tolist(), boxes[m].tolist()) <= 0.3 for m in stays):
            stays.append(n)
    assert suppressed(boxes, scores, 0.3).tolist() == stays
    labels = torch.arange(40) % 3
    of_each = []
    for c in range(3):
        where = (labels == c).nonzero().flatten()
        of_each += where[suppressed(boxes[where], scores[where], 0.3)].tolist()
    assert sorted(suppressed_by_class(boxes, scores, labels, 0.3).tolist()) == sorted(of_each)
    assert not len(suppressed_by_class(boxes[:0], scores[:0], labels[:0], 0.3))


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def gradients(outputs, targets, classes, ignore):
    """Darknet's deltas, cell by cell: what its training adds up, with the sign of a gradient."""
    found = [torch.zeros_like(each) for each in outputs]
    for n, truth in enumerate(targets):
        boxes, labels = truth["boxes"].tolist(), truth["labels"].tolist()
        for output, found_one, head in zip(outputs, found, heads(classes), strict=True):
            side = output.shape[2]
            stride = SIZE[0] / side
            for a, (pw, ph) in enumerate(head.anchors):
                for row in range(side):
                    for column in range(side):
                        t = output[
                            n, a * (5 + classes) : (a + 1) * (5 + classes), row, column
                        ].tolist()
                        x, y = (sigmoid(t[0]) + column) * stride, (sigmoid(t[1]) + row) * stride
                        w, h = pw * math.exp(t[2]), ph * math.exp(t[3])
                        box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                        if all(share(box, b) <= ignore for b in boxes):
                            found_one[n, a * (5 + classes) + 4, row, column] = sigmoid(t[4])
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
            w, h, x, y = x2 - x1, y2 - y1, (x1 + x2) / 2, (y1 + y2) / 2
            shapes = [share((0, 0, w, h), (0, 0, *anchor)) for anchor in ANCHORS]
            best = shapes.index(max(shapes))
            level, a = (0, best - 2) if best >= 2 else (1, best)
            output, found_one = outputs[level], found[level]
            stride = SIZE[0] / output.shape[2]
            column, row = int(x // stride), int(y // stride)
            at = slice(a * (5 + classes), (a + 1) * (5 + classes))
            t, delta = output[n, at, row, column].tolist(), found_one[n, at, row, column]
            scale = 2 - w * h / SIZE[0] / SIZE[1]
            delta[0] += scale * (sigmoid(t[0]) - (x / stride - column))
            delta[1] += scale * (sigmoid(t[1]) - (y / stride - row))
            delta[2] += scale * (t[2] - math.log(w / ANCHORS[best][0]))
            delta[3] += scale * (t[3] - math.log(h / ANCHORS[best][1]))
            delta[4] = sigmoid(t[4]) - 1
            for c in range(classes):
                delta[5 + c] += sigmoid(t[5 + c]) - (c == label)
    return [each / len(targets) for each in found]


@pytest.mark.parametrize("ignore", [0.7, 0.1])
def test_the_gradient_of_the_loss_is_darknets(ignore):
    outputs = maps()
    truths = [
        target([[3, 5, 14, 18], [20, 10, 60, 62], [30, 40, 55, 60]], [0, 1, 1]),
        target([[40, 2, 62, 30]], [0]),
    ]
    yolo_loss(outputs, heads(), truths, SIZE, ignore).backward()
    for output, expected in zip(outputs, gradients(outputs, truths, 2, ignore), strict=True):
        assert torch.allclose(output.grad, expected, atol=1e-9)


def test_a_picture_with_nothing_in_it_asks_for_no_object_anywhere():
    outputs = maps(pictures=1)
    yolo_loss(outputs, heads(), [target([], [])], SIZE).backward()
    for output in outputs:
        objects = output.grad.unflatten(1, (2, 7))[:, :, 4]
        assert torch.allclose(objects, output.detach().unflatten(1, (2, 7))[:, :, 4].sigmoid())
        assert output.grad.count_nonzero() == objects.numel()


def test_a_crowd_is_neither_wanted_nor_forbidden():
    box = [[2, 3, 60, 62]]
    outputs = maps(pictures=1)
    yolo_loss(outputs, heads(), [target(box, [0], [True])], SIZE, ignore=0.3).backward()
    boxes_there = outputs[0].grad.unflatten(1, (2, 7))
    assert not boxes_there[:, :, [0, 1, 2, 3, 5, 6]].any()
    assert (boxes_there[:, :, 4] == 0).any()  # those that overlap the crowd are left alone


def test_boxes_come_out_as_they_were_put_in():
    outputs = [torch.full((1, 14, side, side), -20.0) for side in (2, 4)]
    # Anchor 0 of the coarse map, 37×58, in row 1, column 0: its centre is at (σ(0) + 0)·32, (σ(0) + 1)·32.
    outputs[0][0, 0:7, 1, 0] = torch.tensor([0.0, 0.0, 0.0, math.log(0.5), 9.0, -20.0, 9.0])
    (found,) = yolo_boxes(outputs, heads(), SIZE)
    assert found["labels"].tolist() == [1]
    assert torch.allclose(
        found["boxes"], torch.tensor([[0.0, 33.5, 34.5, 62.5]])
    )  # cut at the left edge
    assert float(found["scores"]) == pytest.approx(sigmoid(9) ** 2)


def test_a_broken_model_sees_nothing():
    outputs = [torch.full((1, 14, side, side), torch.nan) for side in (2, 4)]
    (found,) = yolo_boxes(outputs, heads(), SIZE)
    assert not len(found["boxes"])


def seen(boxes, labels, scores):
    return {**target(boxes, labels), "scores": torch.tensor(scores, dtype=torch.float64)}


def test_average_precision_is_the_area_under_101_points():
    pytest.importorskip("faster_coco_eval")
    figure = tasks.AveragePrecision(2)
    truth = target([[0, 0, 10, 10], [20, 20, 40, 40]], [0, 0])
    # Right, wrong, right: precision 1 up to a recall of one half, 2/3 beyond it.
    boxes = [[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 40, 40]]
    figure.update([seen(boxes, [0, 0, 0], [0.9, 0.8, 0.7])], [truth])
    expected = (51 + 50 * 2 / 3) / 101
    assert figure.compute() == pytest.approx({"map50": expected, "map": expected}, abs=1e-6)


def test_the_stricter_figure_asks_for_more_overlap():
    pytest.importorskip("faster_coco_eval")
    figure = tasks.AveragePrecision(1)
    # 10×10 against 10×6: an overlap of .6, right at .50, .55 and .60 of the ten thresholds.
    figure.update([seen([[0, 0, 10, 6.01]], [0], [0.9])], [target([[0, 0, 10, 10]], [0])])
    assert figure.compute() == pytest.approx({"map50": 1.0, "map": 0.3}, abs=1e-6)


def test_a_crowd_counts_neither_for_nor_against():
    pytest.importorskip("faster_coco_eval")
    figure = tasks.AveragePrecision(1)
    truth = target([[0, 0, 10, 10], [20, 0, 60, 40]], [0, 0], [False, True])
    figure.update([seen([[0, 0, 10, 10], [22, 2, 58, 38]], [0, 0], [0.8, 0.9])], [truth])
    assert figure.compute() == pytest.approx({"map50": 1.0, "map": 1.0})
    nothing = tasks.AveragePrecision(1)
    nothing.update([seen([], [], [])], [truth])
    assert nothing.compute() == {"map50": 0.0, "map": 0.0}


@pytest.fixture
def scenes(tmp_path):
    """Coloured rectangles on grey, of two classes, in pictures of several shapes."""
    pytest.importorskip("faster_coco_eval")
    (tmp_path / "images/all").mkdir(parents=True)
    (tmp_path / "labels/all").mkdir(parents=True)
    for n in range(6):
        picture = Image.new("RGB", (60 + 10 * n, 90), "grey")
        wide, colour = picture.width, ("red", "blue")[n % 2]
        picture.paste(colour, (10, 20, 40, 60))
        picture.save(tmp_path / f"images/all/{n}.png")
        line = f"{n % 2} {25 / wide} {40 / 90} {30 / wide} {40 / 90}"
        (tmp_path / f"labels/all/{n}.txt").write_text(line)
    return tmp_path


def make(scenes, **options):
    known = {"batch_size": 2, "seed": 0, "size": 64, "train": "images/all", "test": "images/all"}
    return tasks.detection(scenes, **{**known, **options})


def test_a_picture_is_made_to_fit_and_its_boxes_with_it(scenes):
    task = make(scenes, flip=False)
    assert task.example_input.shape == (1, 3, 64, 64)
    for batch in task.batches(0):
        for image, truth in zip(batch.inputs, batch.target, strict=True):
            (x1, y1, x2, y2), label = (
                truth["boxes"][0].round().int().tolist(),
                int(truth["labels"][0]),
            )
            inside = image[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
            assert inside.shape[1] > 15
            assert bool((inside[0 if label == 0 else 2] > 0.9).all())
            assert bool((inside[2 if label == 0 else 0] < 0.1).all())
            beyond = image[0 if label == 0 else 2, y1 + 2 : y2 - 2, x2 + 2 : x2 + 6]
            assert bool((beyond < 0.6).all())


def test_half_of_the_pictures_are_mirrored_with_their_boxes(scenes):
    plain, flipped = make(scenes, flip=False, batch_size=6), make(scenes, batch_size=6)
    kinds = set()
    for epoch in range(3):
        one, other = next(plain.batches(epoch)), next(flipped.batches(epoch))
        for a, b, ta, tb in zip(one.inputs, other.inputs, one.target, other.target, strict=True):
            mirrored = not torch.equal(a, b)
            kinds.add(mirrored)
            if mirrored:
                assert torch.equal(a.flip(2), b)
                there = ta["boxes"][0].tolist()
                back = [64 - there[2], there[1], 64 - there[0], there[3]]
                assert tb["boxes"][0].tolist() == pytest.approx(back)
    assert kinds == {True, False}


def test_batches_are_the_same_with_workers_and_from_the_middle(scenes):
    alone, helped = make(scenes), make(scenes, workers=2)
    assert alone.resumes_exactly
    first = [batch.inputs for batch in alone.batches(1)]
    assert all(torch.equal(a, b.inputs) for a, b in zip(first, helped.batches(1), strict=True))
    assert torch.equal(next(alone.batches(1, start=2)).inputs, first[2])


def test_yolo_learns_to_find_the_rectangles(scenes):
    torch.manual_seed(0)
    task = make(scenes, flip=False, batch_size=6)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 4, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 4, 1), nn.ReLU(),
        nn.Conv2d(32, 7, 1), Head([(30, 30)], [(30, 30)], 2),
    )  # fmt: skip

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, x):
            return (self.net(x),)

    net = One()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    before = task.evaluate(net)["map50"]
    for epoch in range(150):
        for batch in task.batches(epoch):
            optimizer.zero_grad()
            task.loss(net, batch).backward()
            optimizer.step()
    after = task.evaluate(net)
    assert before < 0.3
    assert after["map50"] > 0.9
    assert task.guard(6)(net) == after["map50"]
    assert net.training
    drawn = [Image.open(io.BytesIO(picture)) for picture in task.pictures(net)]
    assert [picture.size for picture in drawn] == [(128, 128)] * 6


def test_torchvisions_detectors_bring_their_own_loss_and_boxes(scenes, vision):
    torch.manual_seed(0)
    task = make(scenes, size=96)
    model = models.build("torchvision:ssdlite320_mobilenet_v3_large", **task.model_arguments)
    loss = task.loss(model, next(task.batches(0)))
    loss.backward()
    assert loss.dim() == 0
    assert float(loss.detach()) > 0
    assert not heads_of(model)
    assert set(task.evaluate(model)) == {"map50", "map"}
    with pytest.raises(RequestError, match="gives no losses"):
        task.loss(Plain(), next(task.batches(0)))


class Plain(nn.Module):
    def forward(self, images, targets):
        return torch.zeros(1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 8}, "give 32 to 4,096"),
        ({"limit_test": 0}, "give at least 1"),
        ({"batch_size": 7}, "smaller batch_size"),
    ],
)
def test_what_cannot_be_is_refused(scenes, options, said):
    with pytest.raises(RequestError, match=said):
        make(scenes, **options)


def test_parts_of_two_data_sets_are_refused(scenes):
    one = data.load_yolo(scenes / "images/all", ["a", "b"])
    other = data.load_yolo(scenes / "images/all", ["a", "c"])
    with pytest.raises(RequestError, match="two parts of one data set"):
        tasks.Detection(one, other, batch_size=1, seed=0)
