"""Data sets whose samples know their number, and a model for them."""

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, get_worker_info


class Numbered(Dataset):
    """Sample i is ((i, 3 draws), i % 2): the draws come from the three global generators."""

    def __init__(self, count=23, form="tuple"):
        self.count, self.form, self.loaded = count, form, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.loaded.append(index)
        draws = [torch.rand(()).item(), random.random(), float(np.random.rand())]
        x, label = torch.tensor([float(index), *draws]), index % 2
        if self.form == "dict":
            return {"x": x, "scale": torch.tensor(2.0), "labels": label}
        return (x, torch.tensor(1.0), label) if self.form == "three" else (x, label)


class Stream(IterableDataset):
    """The same as a stream, in as many samples as its worker has to give; perhaps with a length."""

    def __iter__(self):
        info = get_worker_info()
        first, by = (0, 1) if info is None else (info.id, info.num_workers)
        return ((torch.full((4,), float(i)), i % 2) for i in range(first, 12, by))


class LongStream(Stream):
    def __len__(self):
        return 12


class Named(nn.Module):
    """Takes its input by keyword; dropout and BatchNorm make modes matter."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x, scale):
        return self.body(x) * scale.view(-1, 1)


class Wrong:
    """The fraction that is wrong, with a tensor of no dimension for an answer."""

    higher_is_better = False

    def __init__(self):
        self.reset()

    def update(self, preds, target):
        self.wrong += int((preds.argmax(1) != target).sum())
        self.seen += len(target)

    def compute(self):
        return torch.tensor(self.wrong / self.seen)

    def reset(self):
        self.wrong = self.seen = 0
