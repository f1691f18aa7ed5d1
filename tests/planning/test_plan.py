import io

import pytest
import torch
from rich.console import Console
from torch import nn

from espalier import budgets, models
from espalier.errors import (
    BudgetError,
    NonFiniteError,
    RequestError,
    ShapeError,
    UnknownNameError,
)
from espalier.planning import Entry, Plan, plan
from espalier.sets import (
    Blocks,
    Channels,
    Columns,
    Filters,
    FiltersAndColumns,
    KernelPatterns,
    Kernels,
    NOfM,
    Shared,
    Unstructured,
)


def _weights(model):
    return dict(model.named_parameters())


def _reasons(p):
    return {row.name: row.reason for row in p.skipped}


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.fc = nn.Linear(4, 6)

    def forward(self, x):
        x = self.up(self.depthwise(self.norm(self.conv(x))).relu())
        return self.fc(x.mean((2, 3)))


def test_support_keeps_exactly_the_planned_count_and_opens_with_slack():
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    p = plan(model, keep={"0.weight": 4, "1.weight": 2})
    w = _weights(model)
    counts = [{n: int(m.sum()) for n, m in p.opened(s).support(w).items()} for s in (0.0, 0.5, 1.0)]
    assert counts == [
        {"0.weight": 4, "1.weight": 2},
        {"0.weight": 18, "1.weight": 5},
        {"0.weight": 32, "1.weight": 8},
    ]
    assert not p.contains(w)
    assert p.contains(p.project(w))
    assert all(not z.requires_grad for z in p.project(w).values())


def test_slack_opens_pairs_elementwise():
    entry = Entry(name="w", shape=(10, 20), set=FiltersAndColumns(), keep=(2, 4))
    assert [entry.opened(s) for s in (0.0, 0.5, 1.0)] == [(2, 4), (6, 12), (10, 20)]


def test_metrics_choose_by_name_and_may_be_missing():
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[2.0, 1.0]]))
    p = plan(model, keep={"weight": 1})
    h = {"weight": torch.tensor([[1.0, 9.0]]), "other": torch.ones(1)}
    assert p.support(_weights(model))["weight"].tolist() == [[True, False]]
    assert p.support(_weights(model), h)["weight"].tolist() == [[False, True]]


def test_errors_carry_the_name_of_the_parameter():
    p = plan(nn.Sequential(nn.Linear(8, 4)), density=0.5)
    with pytest.raises(NonFiniteError, match=r"^0\.weight: "):
        p.support({"0.weight": torch.full((4, 8), torch.nan)})
    with pytest.raises(ShapeError, match=r"^0\.weight: shape \(2, 8\)"):
        p.support({"0.weight": torch.zeros(2, 8)})
    with pytest.raises(UnknownNameError, match=r"no weights given for '0\.weight'"):
        p.contains({"0.wieght": torch.zeros(4, 8)})
    for slack in (-0.1, 1.1, float("nan")):
        with pytest.raises(BudgetError, match="slack="):
            p.opened(slack)


def test_only_conv_and_linear_weights_are_selected_and_the_rest_has_a_reason():
    p = plan(_Net(), density=0.5)
    assert p.names == ("conv.weight", "depthwise.weight", "up.weight", "fc.weight")
    assert _reasons(p) == {
        "conv.bias": "bias",
        "norm.weight": "normalisation",
        "norm.bias": "normalisation",
        "depthwise.bias": "bias",
        "up.bias": "bias",
        "fc.bias": "bias",
    }


def test_density_sparsity_and_compression_are_over_the_selected_tensors():
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 90))
    same = [
        plan(model, exclude=["1.*"], **figure).entries["0.weight"].keep
        for figure in ({"density": 0.2}, {"sparsity": 0.8}, {"compression": 5})
    ]
    assert same == [20, 20, 20]
    p = plan(model, exclude=["1.*"], density=0.2)
    assert p.density == 0.2
    assert p.counts().conv_fc_weights.nonzero == 920


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({}, "got none; give exactly one of density="),
        ({"density": 0.5, "sparsity": 0.5}, "got density= and sparsity="),
        ({"density": 0.0}, r"density=0.0; give a fraction in \(0, 1\]"),
        ({"density": 10}, "density=10"),
        ({"sparsity": 1.0}, r"sparsity=1.0; give a fraction in \[0, 1\)"),
        ({"compression": 0.5}, "compression=0.5; give a ratio of counts, 1 or more"),
        ({"compression": float("inf")}, "compression=inf"),
        ({"macs": 0}, "macs=0; give a fraction"),
        ({"macs": 0.5}, "macs= needs example_input="),
        ({"keep": {"weight": 3}, "include": ["weight"]}, "without include="),
        ({"density": 0.5, "include": "weight"}, r"give a list: include=\['weight'\]"),
        ({"density": 0.5, "exclude": "weight"}, r"give a list: exclude=\['weight'\]"),
        ({"density": 0.5, "exclude": ["*"]}, r"nothing is left to prune \(weight: excluded by"),
    ],
)
def test_bad_requests_are_refused_in_words(figures, message):
    with pytest.raises(BudgetError, match=message):
        plan(nn.Linear(4, 4), **figures)


def test_include_and_exclude_take_names_and_globs():
    p = plan(_Net(), density=0.5, include=["conv*", "*fc*", "norm.weight"], exclude=["fc*"])
    assert p.names == ("conv.weight", "norm.weight")
    reasons = _reasons(p)
    assert reasons["fc.weight"] == "excluded by 'fc*'"
    assert reasons["up.weight"] == "not included"
    assert reasons["conv.bias"] == "bias"  # a glob selects among the weights


@pytest.mark.parametrize("argument", ["include", "exclude"])
def test_patterns_that_match_nothing_suggest_the_nearest(argument):
    message = rf"{argument}: no parameter is called 'fc.wieght'; did you mean 'fc.weight'"
    with pytest.raises(UnknownNameError, match=message):
        plan(_Net(), density=0.5, **{argument: ["fc.wieght"]})
    with pytest.raises(UnknownNameError, match=r"keep: no parameter matches the pattern 'cnv\*'"):
        plan(_Net(), keep={"cnv*": 0.5})
    with pytest.raises(UnknownNameError, match=r"set: no parameter matches the pattern 'cnv\*'"):
        plan(_Net(), density=0.5, set={"cnv*": Filters()})


def test_a_glob_of_no_weights_is_refused():
    with pytest.raises(RequestError, match=r"include: 'norm\*' matches no weight of a convolution"):
        plan(_Net(), density=0.5, include=["norm*"])


def test_sets_by_name_or_glob():
    sets = {"conv*": Filters(), "fc.weight": NOfM(2, 4)}
    p = plan(_Net(), density=0.5, set=sets)
    assert {n: e.set for n, e in p.entries.items()} == {
        "conv.weight": Filters(),
        "fc.weight": NOfM(2, 4),
    }
    assert _reasons(p)["up.weight"] == "no set given"


def test_what_does_not_fit_is_skipped_with_the_reason_unless_named_in_full():
    p = plan(_Net(), density=0.5, set=Channels())
    assert p.names == ("conv.weight", "fc.weight")
    assert "8 groups" in _reasons(p)["depthwise.weight"]
    assert _reasons(p)["up.weight"].startswith("does not fit: a transposed layer")
    with pytest.raises(ShapeError, match=r"^up\.weight: a transposed layer"):
        plan(_Net(), density=0.5, set=Filters(), include=["up.weight"])
    with pytest.raises(
        BudgetError, match=r"nothing is left to prune \(weight: does not fit: groups"
    ):
        plan(nn.Linear(5, 5), density=0.5, set=NOfM(2, 4))
    assert "up.weight" in plan(_Net(), density=0.5, set=Kernels(), exclude=["fc*"]).names


def test_shared_parameters_are_pruned_once_by_any_of_their_names():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    p = plan(model, keep={"1.weight": 3})
    assert {n: e.keep for n, e in p.entries.items()} == {"0.weight": 3}
    assert _reasons(p)["1.weight"] == "shared with '0.weight'"
    assert p.counts().all_params.total == 16 + 8


def test_an_alias_can_be_excluded():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    p = plan(model, density=0.5, exclude=["1.weight"])
    assert p.names == ("2.weight",)
    assert _reasons(p)["0.weight"] == "excluded by '1.weight'"


def test_nonfinite_weights_are_named():
    model = _Net()
    model.fc.weight.data[0, 0] = torch.nan
    with pytest.raises(NonFiniteError, match=r"^fc\.weight: holds NaN"):
        plan(model, density=0.5)
    assert "fc.weight" not in plan(model, density=0.5, exclude=["fc*"]).names


def test_lazy_parameters_are_refused():
    with pytest.raises(RequestError, match=r"^weight: a lazy parameter"):
        plan(nn.LazyLinear(3), density=0.5)


def test_impossible_keeps_name_the_parameter():
    with pytest.raises(BudgetError, match=r"^conv\.weight: keep=9 but it has 8 filters"):
        plan(_Net(), keep={"conv.weight": 9}, set=Filters())
    with pytest.raises(BudgetError, match=r"^w: keep=9 but there are 8 weights"):
        Entry(name="w", shape=(2, 4), set=Unstructured(), keep=9)
    with pytest.raises(BudgetError, match="at least one parameter"):
        Plan(entries={})


def test_macs_are_those_of_the_whole_model():
    x = torch.zeros(3, 1, 28, 28)
    model = models.build("lenet5")
    p = plan(model, macs=0.5, exclude=["conv1*"], example_input=x)
    assert p.macs == 2_293_000
    assert p.macs_left == 1_146_500
    assert p.counts().layers["conv1.weight"].nonzero == 500
    for number in (1_000_000, 1e6):
        assert plan(model, macs=number, example_input=x).macs_left == 1_000_000
    assert plan(model, macs=1.0, example_input=x).macs_left == 2_293_000
    with pytest.raises(BudgetError, match=r"macs=229,300 .* 288,000 are in what is not pruned"):
        plan(model, macs=0.1, exclude=["conv1*"], example_input=x)
    assert plan(model, density=0.5).macs is None
    assert plan(model, density=0.5).macs_left is None


def test_a_shared_budget_is_one_limit_that_follows_the_weights():
    torch.manual_seed(0)
    model = models.build("lenet300")
    p = plan(model, density=0.1, allocation=budgets.shared)
    assert p.shared == Shared(Unstructured(), dict.fromkeys(p.names, 1), 26_620)
    w = _weights(model)
    before = {n: int(m.sum()) for n, m in p.support(w).items()}
    assert before == {n: e.keep for n, e in p.entries.items()}
    with torch.no_grad():
        w["fc1.weight"].mul_(10)
    after = {n: int(m.sum()) for n, m in p.support(w).items()}
    assert sum(before.values()) == sum(after.values()) == 26_620
    assert after["fc1.weight"] > before["fc1.weight"]
    opened = p.opened(0.5).support(w)
    assert sum(int(m.sum()) for m in opened.values()) == 26_620 + (266_200 - 26_620) // 2
    assert all(bool(m.all()) for m in p.opened(1.0).support(w).values())
    assert p.contains(p.project(w))
    assert not p.contains(w)


def test_a_shared_budget_can_be_of_macs():
    torch.manual_seed(0)
    model, x = models.build("lenet5"), torch.zeros(1, 1, 28, 28)
    p = plan(model, macs=0.25, allocation=budgets.shared, example_input=x)
    assert p.shared is not None
    assert p.shared.costs == {
        "conv1.weight": 576,
        "conv2.weight": 64,
        "fc1.weight": 1,
        "fc2.weight": 1,
    }
    assert p.macs_left == 2_293_000 // 4
    with pytest.raises(BudgetError, match="w: in the shared budget but not in the entries"):
        Plan(
            entries={"v": Entry(name="v", shape=(2,), set=Unstructured(), keep=1)},
            parts=(Shared(Unstructured(), {"v": 1, "w": 1}, 2),),
        )


@pytest.mark.parametrize("rule", [budgets.uniform, budgets.erk, budgets.global_magnitude])
def test_every_rule_meets_macs(rule):
    model, x = models.build("lenet5"), torch.zeros(1, 1, 28, 28)
    p = plan(model, macs=0.3, allocation=rule, example_input=x)
    assert p.macs_left == int(0.3 * 2_293_000)


def test_check_says_what_differs_in_the_model():
    p = plan(nn.Sequential(nn.Linear(4, 3)), density=0.5)
    p.check(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)))
    with pytest.raises(ShapeError, match=r"^0\.weight: shape \(3, 5\) in the model but \(3, 4\)"):
        p.check(nn.Sequential(nn.Linear(5, 3)))
    with pytest.raises(UnknownNameError, match=r"prunes '0\.weight', which .* did you mean '10\.w"):
        p.check(nn.ModuleDict({"10": nn.Linear(4, 3)}))


_EVERY_SET = {
    Unstructured(): "no speed-up in eager PyTorch, torch.compile or ONNX Runtime",
    Filters(): "faster on every runtime once compacted",
    Channels(): "faster on every runtime once compacted",
    Columns(): "faster where all columns of a channel go",
    FiltersAndColumns(): "faster on every runtime once compacted, by the filters",
    Kernels(): "no stock runtime skips single kernels",
    KernelPatterns(): "no stock runtime uses patterns",
    NOfM(2, 4): "NVIDIA sparse tensor cores",
    NOfM(1, 4): "no stock runtime uses this N:M",
    Blocks(2, 2): "block-sparse matrix kernels",
}


@pytest.mark.parametrize("which", _EVERY_SET, ids=repr)
def test_every_set_makes_a_plan_whose_table_says_who_can_use_it(which):
    torch.manual_seed(0)
    model = _Net()
    p = plan(model, density=0.5, set=which, include=["conv*"])
    w = _weights(model)
    assert p.contains(p.project(w))
    assert abs(p.density - 0.5) < 0.15 or which == NOfM(1, 4)
    text = _text(p)
    assert _EVERY_SET[which] in text
    assert "conv.weight" in text
    assert "normalisation" in text


def _text(p):
    out = io.StringIO()
    Console(file=out, width=400).print(p.table())
    return " ".join(out.getvalue().split())


def test_the_table_totals_every_convention_and_macs():
    model, x = models.build("lenet5"), torch.zeros(1, 1, 28, 28)
    keep = {"conv1.weight": 100, "conv2.weight": 2000, "fc1.weight": 3600, "fc2.weight": 350}
    text = _text(plan(model, keep=keep, example_input=x))
    assert "conv_fc_weights │ │ 71.16× │ 6,050 / 430,500 │ 0.0141" in text
    assert "conv_only │ │ 12.14× │ 2,100 / 25,500" in text
    assert "conv1.weight │ 20×1×5×5 │ unstructured │ 100 / 500 │ 0.2000 │ 288,000 │ 57,600" in text
    assert "MACs, one sample │ │ 12.10× │ │ 0.0827 │ 2,293,000 │ 189,550" in text
    assert "4 tensors │ bias │ 580 weights" in text
    bare = _text(plan(model, density=0.1, allocation=budgets.shared))
    assert "one budget of 43,050" in bare
    assert "MACs are not known; give example_input=" in bare


def test_notes_carry_what_was_not_seen():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.inner(x, x, x, need_weights=False)[0]

    p = plan(Attention(), density=0.5, example_input=torch.zeros(2, 3, 8))
    assert p.names == ("inner.in_proj_weight", "inner.out_proj.weight")
    assert p.between_activations == 144
    assert p.macs == 576 + 192 + 144
    assert p.macs_left == (576 + 192) // 2 + 144
    assert "144 MACs are products of two activations" in _text(p)
