"""Structured plans: tied channels share a choice, and what the plan says is what compaction leaves."""

import pytest
import torch
from torch import nn

from espalier import models
from espalier.compaction import compact
from espalier.errors import BudgetError, UnknownNameError
from espalier.measure import counts, layer_costs
from espalier.methods import Pruning
from espalier.planning import Plan, plan
from espalier.sets import Channels, Filters, FiltersAndColumns, Unstructured
from espalier.solvers import SLR, OneShot

DIGIT, PICTURE = torch.zeros(2, 1, 28, 28), torch.zeros(2, 3, 32, 32)


def _lenet():
    torch.manual_seed(0)
    return models.build("lenet5").eval()


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    model = models.build("resnet20").eval()
    for name, p in model.named_parameters():
        if "bn" in name:
            nn.init.uniform_(p, 0.2, 1.0)
    return model


@pytest.mark.parametrize("which", [Filters(), Channels()])
@pytest.mark.parametrize("figure", [{"macs": 0.3}, {"density": 0.1}, {"macs": 500_000}])
def test_the_plan_counts_what_the_compact_model_has(which, figure):
    model = _lenet()
    made = plan(model, set=which, example_input=DIGIT, **figure)
    limit = {"macs": 500_000, "density": 43_050}["density" if "density" in figure else "macs"]
    if figure == {"macs": 0.3}:
        limit = int(0.3 * 2_293_000)
    handle = Pruning(model, made, OneShot())
    x = torch.randn(3, 1, 28, 28)
    with handle.hard_pruned():
        shown = model(x)
    handle.hard_prune_()
    assert torch.equal(shown, model(x))  # what is implied changes nothing
    small = compact(model, DIGIT)
    assert small.proof.holds
    assert layer_costs(small.model, DIGIT).total == made.macs_left
    assert counts(small.model).conv_fc_weights.total == made.counts().conv_fc_weights.nonzero
    spent = made.macs_left if "macs" in figure else made.counts().conv_fc_weights.nonzero
    assert spent <= limit
    for group, (keep, size) in enumerate(
        zip(made.coupled.keep, made.coupled.sizes, strict=True)
    ):  # not one more unit of any group fits
        if keep < size:
            more = made.coupled.with_keep(
                [k + (g == group) for g, k in enumerate(made.coupled.keep)]
            )
            wider = Plan(entries=made.entries, parts=(more,), skipped=made.skipped)
            left = {row.name: more.left(row.name, row.shape) for row in made.skipped}
            weights = layer_costs(model, DIGIT)
            cost = sum(
                (c.macs if "macs" in figure else c.numel)
                * (left[n] if n in left else wider.left(made.entries[n]))
                // c.numel
                for n, c in weights.items()
            )
            assert cost > limit


def test_a_residual_stage_shares_one_choice_and_the_compact_model_has_the_planned_macs(resnet):
    made = plan(resnet, set=Filters(), macs=0.5, example_input=PICTURE)
    masks = made.support(dict(resnet.named_parameters()))
    stage = [f"layer1.{i}.conv2.weight" for i in range(3)] + ["conv1.weight"]
    rows = [masks[name].flatten(1).any(1).tolist() for name in stage]
    assert rows[0].count(True) < 16
    assert rows[0] == rows[1] == rows[2] == rows[3]
    assert masks["bn1.weight"].tolist() == masks["bn1.bias"].tolist() == rows[0]
    model = models.build("resnet20").eval()
    model.load_state_dict(resnet.state_dict())
    Pruning(model, made, OneShot()).hard_prune_()
    small = compact(model, PICTURE)
    assert small.proof.holds
    assert layer_costs(small.model, PICTURE).total == made.macs_left <= 40_551_040 // 2
    assert small.after.parameters == made.counts().all_params.nonzero


def test_widths_are_multiples_and_no_smaller_than_asked(resnet):
    made = plan(resnet, set=Filters(), macs=0.4, example_input=PICTURE, multiple=4, minimum=8)
    for name, entry in made.entries.items():
        assert entry.keep % 4 == 0, name
        assert entry.keep >= 8, name
    assert made.macs_left <= 0.4 * 40_551_040


def test_explicit_widths_and_columns_by_name():
    model = _lenet()
    keep = {"conv1.weight": (3, 10), "conv2.weight": (5, 16), "fc1.weight": 0.5}
    made = plan(
        model, set={"conv*": FiltersAndColumns(), "fc1.weight": Filters()}, keep=keep,
        example_input=DIGIT,
    )  # fmt: skip
    assert made.counts().conv_only.nonzero == 3 * 10 + 5 * 16 == 110  # P-RM's 231.8×
    assert round(made.counts().conv_only.compression, 2) == 231.82
    handle = Pruning(model, made, OneShot())
    handle.hard_prune_()
    assert counts(model).conv_only.nonzero == 110
    small = compact(model, DIGIT).model
    assert (small.conv1.out_channels, small.conv2.out_channels, small.fc1.out_features) == (
        3,
        5,
        250,
    )


def test_a_fraction_of_filters_and_columns_meets_its_density():
    made = plan(_lenet(), set=FiltersAndColumns(), density=0.1, example_input=DIGIT)
    assert 0.099 < made.counts().conv_fc_weights.density <= 0.1


def test_plans_with_coupled_channels_are_read_back_as_written(tmp_path, resnet):
    for made in (
        plan(resnet, set=Filters(), macs=0.5, example_input=PICTURE),
        plan(_lenet(), set=FiltersAndColumns(), density=0.1, example_input=DIGIT),
    ):
        made.save(tmp_path / "plan.yaml")
        assert Plan.load(tmp_path / "plan.yaml") == made


def test_training_onto_coupled_channels_ends_inside_and_resumes_to_the_bit():
    def trained(pieces):
        model = _lenet()
        made = plan(model, set=Filters(), macs=0.3, example_input=DIGIT)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        handle = Pruning(model, made, SLR(), optimizer, steps=20, cadence=2, settle=0.6)
        draw = torch.Generator().manual_seed(1)
        for step in range(20):
            if step in pieces:
                saved = handle.state_dict()
                handle = Pruning(model, made, SLR(), optimizer, steps=20, cadence=2, settle=0.6)
                handle.load_state_dict(saved)
            loss = model(torch.randn(8, 1, 28, 28, generator=draw)).square().mean()
            loss.backward()
            handle.add_gradients_()
            optimizer.step()
            optimizer.zero_grad()
            handle.step(loss)
        assert made.contains(dict(model.named_parameters()))
        assert counts(model).conv_fc_weights.nonzero == made.counts().conv_fc_weights.nonzero
        return model.state_dict()

    whole, broken = trained(()), trained((5, 15))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_outputs_and_what_is_tied_to_a_dense_layer_stay_and_say_why(resnet):
    made = plan(
        resnet, set=Filters(), macs=0.8, exclude=["layer1.0.conv2.weight"], example_input=PICTURE
    )
    reasons = {row.name: row.reason for row in made.skipped}
    assert reasons["layer1.0.conv2.weight"] == "excluded by 'layer1.0.conv2.weight'"
    assert "tied to layer1.0.conv2.weight" in reasons["layer1.1.conv2.weight"]
    assert "the model's output" in reasons["linear.weight"]
    assert "layer1.0.conv1.weight" in made.entries


class _UNet(nn.Module):
    """Down, up by a transposed convolution, and across."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.across = nn.Conv2d(3, 4, 3, padding=1)
        self.out = nn.Conv2d(10, 2, 1)

    def forward(self, x):
        return self.out(torch.cat([self.up(self.down(x).relu()), self.across(x)], 1))


@pytest.mark.parametrize("which", [Filters(), Channels()])
def test_a_transposed_convolution_loses_filters_along_its_own_axis(which):
    torch.manual_seed(0)
    model, x = _UNet().eval(), torch.zeros(1, 3, 8, 8)
    made = plan(model, set=which, density=0.4, example_input=x)
    Pruning(model, made, OneShot()).hard_prune_()
    small = compact(model, x, zero_constants=True)
    assert small.proof.holds
    assert small.model.up.out_channels < 6
    assert small.model.up.in_channels < 8
    assert layer_costs(small.model, x).total == made.macs_left
    if which == Filters():
        entry = made.entries["up.weight"]
        assert (entry.set, entry.keep) == (Channels(), small.model.up.out_channels)


class _Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.c(torch.fft.fft(self.b(torch.relu(self.a(x)))).real)


def test_operations_that_are_not_understood_are_named():
    made = plan(_Odd(), set=Filters(), density=0.7, example_input=torch.zeros(2, 4))
    assert any("aten.fft" in note for note in made.notes)
    assert list(made.entries) == ["a.weight", "a.bias"]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"macs": 1000}, BudgetError, "macs 1,000 cannot be met: the smallest widths leave"),
        ({"density": 1e-6}, BudgetError, "weights 0 cannot be met"),
        ({"macs": 0.5, "set": Unstructured(), "multiple": 8}, BudgetError, "widths of coupled"),
        ({"macs": 0.5, "multiple": 0}, BudgetError, "both must be at least 1"),
        ({"keep": {"conv1.weight": 21}}, BudgetError, "keep=21 of 20; give 1 to 20"),
        ({"keep": {"conv1.weight": "all"}}, BudgetError, "give a count, a fraction, or"),
        ({"keep": {"conv1.weight": 1.5}}, BudgetError, "give a fraction in"),
        ({"keep": {"conv1.weight": (2, 26)}}, BudgetError, "26 columns but it has 25"),
        ({"keep": {"fc2.weight": 5, "fc1.weight": 9}}, BudgetError, "the model's output; leave it out of keep="),
        ({"keep": {"conv9.weight": 5}}, UnknownNameError, "did you mean"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_words(arguments, error, words):
    with pytest.raises(error, match=words):
        plan(_lenet(), example_input=DIGIT, **{"set": Filters(), **arguments})


def test_tied_layers_cannot_be_given_two_widths(resnet):
    keep = {"conv1.weight": 0.5, "layer1.*conv2.weight": 0.6, "layer[23].*conv2.weight": 0.5}
    with pytest.raises(BudgetError, match="share their channels but are to keep"):
        plan(resnet, set=Filters(), keep=keep, example_input=PICTURE)


class Tokens(nn.Module):
    """A stream with a class token and a table of positions, as in ViT."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.places = nn.Parameter(torch.randn(1, 5, 8))

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), self.embed(x)], 1) + self.places
        return self.head((x + self.down(self.up(x).relu()))[:, 0])


def test_a_stream_with_tokens_and_places_loses_width(tmp_path):
    torch.manual_seed(0)
    net, x = Tokens().eval(), torch.randn(2, 4, 6)
    made = plan(net, set=Filters(), macs=0.5, example_input=x)
    assert made.coupled.members["token"].axis == made.coupled.members["places"].axis == 2
    keep = dict(zip(made.coupled.sizes, made.coupled.keep, strict=True))[8]
    assert keep < 8
    assert (made.entries["token"].nonzeros, made.entries["places"].nonzeros) == (keep, 5 * keep)
    made.save(tmp_path / "plan.yaml")
    assert Plan.load(tmp_path / "plan.yaml").coupled == made.coupled
    Pruning(net, made, OneShot()).hard_prune_()
    small = compact(net, x)
    assert small.model.token.shape == (1, 1, keep)
    assert layer_costs(small.model, x).total == made.macs_left
