"""Plans that mix: channels that are tied in one part of a network, tensors pruned alone in another."""

import io

import pytest
import torch
from rich.console import Console
from torch import nn

import espalier as esp
from espalier import budgets
from espalier.compaction import compact
from espalier.errors import BudgetError, RequestError, UnknownNameError
from espalier.measure import counts, layer_costs
from espalier.planning import Plan, plan
from espalier.sets import (
    Alone,
    Channels,
    Coupled,
    Filters,
    FiltersAndColumns,
    Kernels,
    Levels,
    NOfM,
    OnLevels,
    Shared,
    Unstructured,
)

X = torch.zeros(2, 3, 8, 8)


class _Net(nn.Module):
    """Two stages, one of them residual, and a head that reads each channel at 4 × 4 places."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.branch = nn.Conv2d(8, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.head = nn.Linear(12 * 16, 10)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = (x + self.branch(x)).relu()
        return self.head(self.down(x).relu().flatten(1))


def _net():
    torch.manual_seed(0)
    model = _Net().eval()
    nn.init.uniform_(model.norm.weight, 0.5, 1.5)
    nn.init.uniform_(model.norm.bias, 0.0, 0.5)
    return model


CONVS = {"stem.weight": Filters(), "branch.weight": Filters(), "down.weight": Filters()}


def _sets(head):
    return {**CONVS, "head.weight": head}


HEADS = {
    "unstructured": (Unstructured(), {"density": 0.5}),
    "2:4": (NOfM(2, 4), {"density": 0.5}),
    "1:4, fewer groups": (NOfM(1, 4), {"density": 0.1}),
    "on levels": (Unstructured(), {"density": 0.3, "bits": 3}),
    "a fraction of the macs": (Unstructured(), {"macs": 0.4}),
    "explicit": (
        Unstructured(),
        {"keep": {"stem.weight": 0.5, "branch.weight": 4, "down.weight": 6, "head.weight": 700}},
    ),
}


def _weights(model):
    return dict(model.named_parameters())


def _trained(model, made, steps=24):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    handle = esp.Pruning(model, made, esp.SLR(), optimizer, steps=steps, cadence=2, settle=None)
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(8, 3, 8, 8, generator=draw)
        loss = (model(x) - x.mean((1, 2, 3))[:, None]).square().mean()
        loss.backward()
        handle.add_gradients_()
        optimizer.step()
        optimizer.zero_grad()
        handle.step(loss)
    return handle


@pytest.mark.parametrize("name", HEADS)
def test_what_is_planned_is_what_training_cutting_and_compacting_leave(name, tmp_path):
    which, figures = HEADS[name]
    model = _net()
    made = plan(model, set=_sets(which), example_input=X, **figures)
    assert [type(part) for part in made.parts] == [Coupled]
    assert made.entries["head.weight"].set == which
    handle = _trained(model, made)
    assert not made.contains(_weights(model))
    x = torch.randn(3, 3, 8, 8)
    with handle.hard_pruned():
        shown = model.eval()(x)
        assert made.contains(_weights(model))
    handle.hard_prune_()
    assert made.contains(_weights(model))
    assert torch.equal(shown, model(x))
    left = counts(model)
    for row in made.entries.values():
        assert int(model.get_parameter(row.name).count_nonzero()) == made.left(row), row.name
    assert left.conv_fc_weights.nonzero == made.counts().conv_fc_weights.nonzero
    small = compact(model, X)
    assert small.proof.holds
    assert counts(small.model).conv_fc_weights.nonzero == made.counts().conv_fc_weights.nonzero
    assert small.after.nonzero == made.counts().all_params.nonzero
    widths = {n: made.entries[f"{n}.weight"].keep for n in ("stem", "branch", "down")}
    assert {n: small.model.get_submodule(n).out_channels for n in widths} == widths
    assert widths["stem"] == widths["branch"] < 8
    assert small.model.head.in_features == 16 * widths["down"]
    made.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == made
    assert Plan.load(tmp_path / "plan.yaml").counts() == made.counts()


def test_the_macs_of_a_mixture_count_what_is_left_of_the_head_and_meet_the_limit():
    model = _net()
    made = plan(model, set=_sets(Unstructured()), example_input=X, macs=0.4)
    dense = layer_costs(model, X).total
    assert made.macs == dense
    assert made.macs_left <= 0.4 * dense
    assert made.entries["head.weight"].keep == round(1920 * int(0.4 * dense) / dense)
    esp.Pruning(model, made, esp.OneShot()).hard_prune_()
    small = compact(model, X).model
    head = int(small.head.weight.count_nonzero()) - small.head.weight.numel()
    assert layer_costs(small, X).total + head == made.macs_left


def test_the_structured_part_has_the_widths_of_a_plan_of_its_own():
    alone = plan(_net(), set=CONVS, density=0.4, example_input=X)
    mixed = plan(_net(), set=_sets(Unstructured()), density=0.4, example_input=X)
    assert mixed.coupled.keep == alone.coupled.keep
    assert mixed.entries["head.weight"].keep == round(0.4 * 1920)


def test_a_head_that_may_keep_more_than_is_alive_keeps_what_is_alive():
    model = _net()
    keep = {"down.weight": 3, "head.weight": 0.9}
    made = plan(model, set=_sets(Unstructured()), keep=keep, example_input=X)
    assert made.entries["head.weight"].keep == 1728
    assert made.left(made.entries["head.weight"]) == 3 * 16 * 10
    masks = made.support(_weights(model))
    assert int(masks["head.weight"].sum()) == 480
    z = made.project(_weights(model))
    assert made.contains(z)
    dead = ~masks["down.weight"].flatten(1).any(1)
    z["head.weight"][0, 16 * int(dead.nonzero()[0])] = 1.0  # within its keep, and read by nothing
    assert not made.contains(z)


def test_the_head_chooses_among_what_stays_alive():
    """The largest weights of the head read channels that go: not one of its places is lost to them."""
    model = _net()
    with torch.no_grad():
        model.down.weight[:6] *= 10
        model.head.weight.view(10, 12, 16)[:, 6:] *= 100
    keep = {"down.weight": 6, "head.weight": 100}
    made = plan(model, set=_sets(Unstructured()), keep=keep, example_input=X)
    mask = made.support(_weights(model))["head.weight"].view(10, 12, 16)
    assert int(mask[:, :6].sum()) == 100
    assert int(mask[:, 6:].sum()) == 0


def test_where_slices_cut_through_units_the_plan_counts_the_most_there_can_be():
    class Pooled(_Net):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(12, 10)

        def forward(self, x):
            x = self.norm(self.stem(x)).relu()
            return self.head(self.down((x + self.branch(x)).relu()).relu().mean((2, 3)))

    torch.manual_seed(0)
    model = Pooled().eval()
    made = plan(
        model, set=_sets(NOfM(2, 4)), example_input=X, keep={"down.weight": 5, "head.weight": 30}
    )
    assert made.left(made.entries["head.weight"]) == 50
    z = made.project(_weights(model))
    assert 20 <= int(z["head.weight"].count_nonzero()) <= 50
    assert made.contains(z)


def test_a_kernel_is_alive_or_gone_as_a_whole():
    model = _net()
    sets = {"stem.weight": Filters(), "branch.weight": Filters(), "down.weight": Kernels()}
    keep = {"stem.weight": 4, "branch.weight": 4, "down.weight": 90}
    made = plan(model, set=sets, keep=keep, example_input=X)
    assert made.left(made.entries["down.weight"]) == 4 * 12 * 9
    z = made.project(_weights(model))
    assert int(z["down.weight"].count_nonzero()) == 4 * 12 * 9


def test_the_tensors_beside_may_share_a_budget(tmp_path):
    class Two(_Net):
        def __init__(self):
            super().__init__()
            self.head = nn.Sequential(nn.Linear(192, 20), nn.ReLU(), nn.Linear(20, 10))

    torch.manual_seed(0)
    model = Two().eval()
    made = plan(
        model, set={**CONVS, "head*": Unstructured()}, density=0.25,
        allocation=budgets.shared, example_input=X,
    )  # fmt: skip
    assert [type(part) for part in made.parts] == [Coupled, Shared]
    assert made.shared.limit == (3840 + 200) // 4
    z = made.project(_weights(model))
    heads = {n: int(z[n].count_nonzero()) for n in ("head.0.weight", "head.2.weight")}
    assert sum(heads.values()) == 1010
    assert heads == {n: made.entries[n].keep for n in heads}
    assert made.contains(z)
    assert all(bool(m.all()) for m in made.opened(1.0).support(_weights(model)).values())
    made.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml") == made
    with pytest.raises(BudgetError, match="follow the weights"):
        plan(
            model, set={**CONVS, "head*": Unstructured()}, macs=0.5,
            allocation=budgets.shared, example_input=X,
        )  # fmt: skip


def test_a_mixture_opens_all_its_parts_and_pruning_resumes_to_the_bit():
    model = _net()
    made = plan(model, set=_sets(Unstructured()), density=0.3, bits=2, example_input=X)
    assert made.opened(0.0) is made
    assert all(bool(m.all()) for m in made.opened(1.0).support(_weights(model)).values())
    half = made.opened(0.5)
    kept = int(half.project(_weights(model))["head.weight"].count_nonzero())
    assert kept < 1920
    assert not Levels(2).contains(half.project(_weights(model))["head.weight"])  # still open
    assert Levels(2).contains(made.project(_weights(model))["head.weight"])
    one, other = _net(), _net()
    handle = _trained(one, made)
    fresh = _trained(other, made, steps=2)
    other.load_state_dict(one.state_dict())
    fresh.load_state_dict(handle.state_dict())
    fresh.hard_prune_()
    handle.hard_prune_()
    assert all(torch.equal(p, other.get_parameter(n)) for n, p in one.named_parameters())


def _text(made):
    out = io.StringIO()
    Console(file=out, width=400).print(made.table())
    return " ".join(out.getvalue().split())


def test_the_table_of_a_mixture_has_every_part():
    text = _text(
        plan(_net(), set=_sets(NOfM(2, 4)), density=0.5, bits={"head*": 1}, example_input=X)
    )
    assert "channels stay, in 2 groups that share a choice" in text
    assert "n_of_m(n=2, m=4), 1 bit │" in text
    assert "NVIDIA sparse tensor cores" in text
    assert "faster on every runtime once compacted" in text
    assert "│ stem.bias" not in text.split("MACs left")[1].split("biases")[0]


def test_bits_are_for_planned_weights_by_count_name_or_glob_and_count_nowhere():
    model = _net()
    bare = plan(model, set=_sets(Unstructured()), density=0.5, example_input=X)
    every = plan(model, set=_sets(Unstructured()), density=0.5, bits=4, example_input=X)
    assert every.levels == {name: Levels(4) for name in (*CONVS, "head.weight")}
    assert every.counts() == bare.counts()
    assert (every.macs, every.macs_left, every.density) == (bare.macs, bare.macs_left, bare.density)
    some = plan(model, density=0.5, bits={"*": 3, "head.weight": 2}, include=["head*", "stem*"])
    assert some.levels == {"stem.weight": Levels(3), "head.weight": Levels(2)}
    z = some.project(_weights(model))
    assert len(z["head.weight"].abs().unique()) <= 1 + 2
    assert some.contains(z)
    assert not some.contains(
        plan(model, density=0.5, include=["head*", "stem*"]).project(_weights(model))
    )
    assert isinstance(some.constraint, OnLevels)
    assert isinstance(some.constraint.inner.parts[0], Alone)
    assert Plan.from_dict(some.to_dict()) == some
    with pytest.raises(UnknownNameError, match=r"bits: no parameter is called 'down\.weight'"):
        plan(model, density=0.5, bits={"down.weight": 3}, include=["head*"])
    with pytest.raises(RequestError, match=r"head\.weight: bits=0"):
        plan(model, density=0.5, bits=0, include=["head*"])
    with pytest.raises(RequestError, match="bits= names no planned weight"):
        plan(model, density=0.5, bits=2, include=["norm.weight"])


def test_what_goes_with_a_channel_has_no_set_of_its_own():
    sets = {**CONVS, "norm.weight": Unstructured()}
    with pytest.raises(BudgetError, match=r"norm\.weight goes with the channels of its layer"):
        plan(_net(), set=sets, density=0.5, include=[*sets], example_input=X)


def test_channels_tied_to_a_tensor_that_is_pruned_alone_stay_and_it_keeps_its_keep():
    sets = {**CONVS, "branch.weight": Unstructured()}
    made = plan(_net(), set=sets, density=0.5, example_input=X)
    reasons = {row.name: row.reason for row in made.skipped}
    assert "tied to branch.weight" in reasons["stem.weight"]
    assert made.entries["branch.weight"].keep == 288
    assert made.left(made.entries["branch.weight"]) == 288


def test_filters_and_columns_mix_too():
    model = _net()
    sets = {**dict.fromkeys(CONVS, FiltersAndColumns()), "head.weight": Unstructured()}
    made = plan(model, set=sets, density=0.3, example_input=X)
    esp.Pruning(model, made, esp.OneShot()).hard_prune_()
    assert made.contains(_weights(model))
    assert counts(model).conv_fc_weights.nonzero == made.counts().conv_fc_weights.nonzero


def test_a_reader_pruned_by_channels_takes_filters_from_a_tensor_that_is_pruned_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten()).eval()
    sets = {"0.weight": Kernels(), "2.weight": Channels()}
    made = plan(model, set=sets, keep={"0.weight": 14, "2.weight": 5}, example_input=X)
    assert made.left(made.entries["0.weight"]) == 14 * 9
    esp.Pruning(model, made, esp.OneShot()).hard_prune_()
    assert made.contains(_weights(model))
    assert int(model[0].weight.count_nonzero()) == 14 * 9
    small = compact(model, X)
    assert small.proof.holds
    assert small.model[0].out_channels == 5
    assert small.after.nonzero == made.counts().all_params.nonzero
