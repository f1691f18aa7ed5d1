"""Mean average precision as COCO counts it."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from torch import Tensor

from espalier.errors import RequestError


class AveragePrecision:
    """mAP at an overlap of .50, and averaged over .50, .55 … .95: 101 recall points, at most 100 boxes a picture.

    Args:
        classes: Number of classes.

    Raises:
        RequestError: ``faster-coco-eval`` is not installed.

    Source: the COCO benchmark's own evaluator, in the port of ``faster-coco-eval``.
    """

    def __init__(self, classes: int) -> None:
        if find_spec("faster_coco_eval") is None:
            raise RequestError("mAP needs faster-coco-eval; run: pip install 'espalier[detection]'")
        self.classes = classes
        self.truths: list[dict[str, object]] = []
        self.found: list[dict[str, object]] = []
        self.pictures = 0

    def update(
        self, preds: Sequence[Mapping[str, Tensor]], target: Sequence[Mapping[str, Tensor]]
    ) -> None:
        """Some pictures: ``boxes``, ``scores``, ``labels`` found; ``boxes``, ``labels``, ``crowd`` that are there."""
        for seen, true in zip(preds, target, strict=True):
            self.pictures += 1
            for box, label, crowd in zip(*_lists(true, "boxes", "labels", "crowd"), strict=True):
                width, height = box[2] - box[0], box[3] - box[1]
                self.truths.append(
                    {
                        "id": len(self.truths) + 1, "image_id": self.pictures, "category_id": label + 1,
                        "bbox": [box[0], box[1], width, height], "area": width * height,
                        "iscrowd": int(crowd),
                    }
                )  # fmt: skip
            for box, label, score in zip(*_lists(seen, "boxes", "labels", "scores"), strict=True):
                self.found.append(
                    {
                        "image_id": self.pictures, "category_id": label + 1, "score": score,
                        "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    }
                )  # fmt: skip

    def compute(self) -> dict[str, float]:
        """``map50`` and ``map``, in [0, 1]; 0 where nothing was found."""
        if not self.found or not any(not one["iscrowd"] for one in self.truths):
            return {"map50": 0.0, "map": 0.0}
        from faster_coco_eval import COCO, COCOeval_faster

        with contextlib.redirect_stdout(io.StringIO()):  # it tells of its progress
            truth = COCO(
                {
                    "images": [{"id": n + 1} for n in range(self.pictures)],
                    "annotations": self.truths,
                    "categories": [{"id": n + 1, "name": str(n)} for n in range(self.classes)],
                }
            )
            judge = COCOeval_faster(truth, truth.loadRes(self.found), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        return {"map50": float(judge.stats[1]), "map": float(judge.stats[0])}


def _lists(said: Mapping[str, Tensor], *names: str) -> list[list[object]]:
    return [said[name].detach().cpu().tolist() for name in names]
