"""A task whose answers can be looked at has them drawn, dense and pruned, and the report shows them."""

import io

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

from espalier import plan
from espalier.errors import RunFolderError
from espalier.methods import Constrained
from espalier.report import write_report
from espalier.runs import Planned, RunOptions, run_stages, standard_stages
from espalier.solvers import OneShot
from espalier.tasks import FromLoaders, seeded_loader
from espalier.training import Training


class Drawing(FromLoaders):
    """Two squares as bright as there are weights that are not zero."""

    def pictures(self, model):
        left = int(torch.count_nonzero(model.weight))
        file = io.BytesIO()
        Image.new("L", (4, 4), left).save(file, "PNG")
        return [file.getvalue()] * 2


def brightness(path):
    return Image.open(path).getpixel((0, 0))


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    pairs = TensorDataset(torch.randn(16, 10), torch.randint(0, 3, (16,)))
    task = Drawing(
        seeded_loader(pairs, 8, seed=0), seeded_loader(pairs, 8, 0, drop_last=False),
        loss=nn.functional.cross_entropy,
    )  # fmt: skip
    model = nn.Linear(10, 3)
    stages = standard_stages(
        Planned(plan(model, density=0.2)), Constrained(solver=OneShot(), settle=None),
        prune=Training(epochs=1),
    )  # fmt: skip
    config = RunOptions(config={"recipe": {"title": "squares"}})
    return run_stages(model, task, stages, tmp_path / "run", options=config).path


def test_the_dense_and_the_pruned_model_are_drawn(folder):
    assert [brightness(folder / f"dense-{n}.png") for n in (1, 2)] == [30, 30]
    assert [brightness(folder / f"pruned-{n}.png") for n in (1, 2)] == [6, 6]
    assert not (folder / "dense-3.png").exists()


def test_the_report_shows_them_side_by_side(folder, tmp_path):
    page = write_report([folder], tmp_path / "report.html").read_text()
    assert "What it sees" in page
    assert page.count('class="seen"') == 4
    assert page.index('alt="sample 1, dense"') < page.index('alt="sample 1, pruned"')


def test_what_is_no_picture_is_refused(folder, tmp_path):
    (folder / "pruned-2.png").write_bytes(b"<script>")
    with pytest.raises(RunFolderError, match=r"pruned-2\.png: not a PNG"):
        write_report([folder], tmp_path / "report.html")
