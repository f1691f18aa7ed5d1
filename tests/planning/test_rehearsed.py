"""What a structured plan promises is what compaction delivers, to the last multiply-accumulate."""

import copy

import pytest
import torch
from torch import nn

from espalier import budgets
from espalier.compaction import compact
from espalier.errors import BudgetError
from espalier.measure import layer_costs, model_bytes
from espalier.methods import Pruning
from espalier.planning import Per, Plan, Ranking, plan
from espalier.sets import Filters
from espalier.solvers import OneShot


def _stirred(model):
    """γ, β and biases at random, so that a channel that is taken out wrongly shows."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() < 2:
                p.add_(torch.rand(p.shape, generator=draw) * 0.5)
    return model.eval()


FLAT = {"features": 16 * 6 * 6}


class Flat(nn.Module):
    """A view by a number that stands outside the module, where no edit reaches it."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(16 * 6 * 6, 60), nn.Linear(60, 10)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.max_pool2d(torch.relu(self.conv1(x)), 2)))
        x = nn.functional.adaptive_avg_pool2d(x, 6).view(-1, FLAT["features"])
        return self.fc2(torch.relu(self.fc1(x)))


class Attending(nn.Module):
    """Attention whose products of two activations are most of its work: 24 tokens of width 4 per head."""

    def __init__(self, write):
        super().__init__()
        self.num_heads, self.write = 4, write
        self.qkv, self.proj, self.head = nn.Linear(8, 48), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = self.write(q, k, v).transpose(1, 2).reshape(b, n, -1)
        return self.head(torch.relu(self.proj(mixed)).mean(1))


def _matmul(q, k, v):
    return (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v


def _einsum(q, k, v):
    scores = torch.einsum("bhld,bhsd->bhls", q, k) / 2
    return torch.einsum("bhls,bhsd->bhld", scores.softmax(-1), v)


def _fused(q, k, v):
    return nn.functional.scaled_dot_product_attention(q, k, v, scale=0.5)


def _bmm(q, k, v):
    b, h, n, _ = q.shape
    q, k, v = (t.reshape(b * h, n, -1) for t in (q, k, v))
    return torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v).reshape(b, h, n, -1)


TOKENS, DIGITS = torch.randn(2, 24, 8), torch.randn(2, 1, 28, 28)


def _agree(model, x, **asked):
    """Plan, cut, compact; the plan, and the compact model that must have what it says."""
    made = plan(model, set=Filters(), example_input=x, **asked)
    cut = copy.deepcopy(model)
    Pruning(cut, made, OneShot()).hard_prune_()
    small = compact(cut, x)
    assert layer_costs(small.model, x).total == made.macs_left
    assert model_bytes(small.model).dense == made.delivered.bytes[1]
    return made, small.model


def test_channels_behind_a_size_that_cannot_be_edited_stay_and_the_rest_meets_the_budget():
    made, small = _agree(_stirred(Flat()), DIGITS, macs=0.5)
    assert 0.49 < made.macs_left / made.macs <= 0.5
    assert small.conv2.out_channels == 16
    assert "conv2.weight" not in made.entries
    assert any(note.startswith("16 channels stay: ") for note in made.notes)


def test_what_cannot_be_reached_is_refused_with_the_least_that_can_and_why():
    with pytest.raises(
        BudgetError, match=r"cannot be met: the smallest widths leave ([\d,]+) \(16 channels"
    ):
        plan(Flat().eval(), set=Filters(), example_input=DIGITS, macs=0.05)
    with pytest.raises(BudgetError) as found:
        plan(Flat().eval(), set=Filters(), example_input=DIGITS, macs=0.05)
    floor = int(str(found.value).split("leave ")[1].split(" ")[0].replace(",", ""))
    least = plan(Flat().eval(), set=Filters(), example_input=DIGITS, macs=floor)
    assert least.macs_left == floor


@pytest.mark.parametrize("write", [_matmul, _einsum, _fused, _bmm])
def test_products_of_activations_shrink_with_the_heads_that_make_them(write):
    torch.manual_seed(0)
    model = _stirred(Attending(write))
    made, _ = _agree(model, TOKENS, macs=0.6)
    assert made.between_activations == 2 * 4 * 24 * 24 * 4
    assert made.delivered.between_activations < made.between_activations
    assert 0.5 < made.macs_left / made.macs <= 0.6


def _davit():
    from timm.models.davit import DaVit

    return DaVit(depths=(1, 1), embed_dims=(16, 32), num_heads=(2, 4), window_size=4, num_classes=5)


def _inception_next():
    from timm.models.inception_next import InceptionDWConv2d, MetaNeXt

    mixers = (InceptionDWConv2d,) * 2
    return MetaNeXt(
        depths=(1, 1), dims=(24, 48), token_mixers=mixers, mlp_ratios=(2, 2), num_classes=5
    )


def _res2net():
    from timm.models.res2net import Bottle2neck
    from timm.models.resnet import ResNet

    return ResNet(Bottle2neck, (1, 1, 1, 1), channels=(8, 16, 16, 24), base_width=14, num_classes=5,
                  block_args={"scale": 4})  # fmt: skip


def _sknet():
    from timm.models.resnet import ResNet
    from timm.models.sknet import SelectiveKernelBasic

    return ResNet(SelectiveKernelBasic, (1, 1, 1, 1), channels=(16, 16, 24, 24), stem_width=8, num_classes=5,
                  block_args={"sk_kwargs": {"rd_ratio": 1 / 8, "rd_divisor": 16, "split_input": True}},
                  zero_init_last=False)  # fmt: skip


def _mixed():
    from timm.layers import MixedConv2d

    layers = [
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        MixedConv2d(16, 24, [3, 5]),
        nn.ReLU(),
    ]
    layers += [nn.Conv2d(24, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32, 5))


def _vit():
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=4, num_classes=5
    )


def _resnet():
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)


def _densenet():
    from torchvision.models import DenseNet

    return DenseNet(8, (2, 2), 16, num_classes=5)


def _squeezenet():
    from torchvision.models import squeezenet1_1

    return squeezenet1_1(num_classes=5)


NETWORKS = [(_davit, 0.8), (_inception_next, 0.7), (_res2net, 0.8), (_sknet, 0.6), (_mixed, 0.5),
            (_vit, 0.7), (_resnet, 0.5), (_densenet, 0.5), (_squeezenet, 0.5)]  # fmt: skip


@pytest.mark.parametrize(("make", "macs"), NETWORKS, ids=[m.__name__ for m, _ in NETWORKS])
def test_networks_of_many_families_have_the_macs_that_were_planned(vision, make, macs):
    torch.manual_seed(0)
    made, _ = _agree(_stirred(make()), torch.randn(2, 3, 32, 32), macs=macs)
    assert 0.96 * macs < made.macs_left / made.macs <= macs


def test_a_small_encoder_with_random_weights_has_the_macs_that_were_planned():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=30, d_model=24, d_kv=6, d_ff=48, num_layers=2, num_heads=4
    )
    model = _stirred(transformers.T5EncoderModel(config))
    made, _ = _agree(model, {"input_ids": torch.randint(0, 30, (2, 10))}, macs=0.6)
    assert 0.59 < made.macs_left / made.macs <= 0.6


def _chain():
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 32, 3, padding=1),
    ]
    layers += [nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 64), nn.ReLU()]
    return _stirred(nn.Sequential(*layers, nn.Linear(64, 10)))


SMALL = torch.randn(2, 1, 12, 12)


@pytest.mark.parametrize("allocation", [budgets.uniform, budgets.global_magnitude])
@pytest.mark.parametrize(
    "asked", [{"macs": 0.5, "bytes": 0.5}, {"macs": 0.9, "bytes": 0.3}, {"macs": 0.3, "bytes": 0.9},
              {"density": 0.4, "macs": 0.5}, {"bytes": 0.4}, {"bytes": 20_000, "density": 0.7}]
)  # fmt: skip
def test_several_budgets_are_all_met_and_one_of_them_is_used_up(allocation, asked):
    model = _chain()
    made, small = _agree(model, SMALL, allocation=allocation, **asked)
    spent = {
        "macs": made.macs_left / made.macs,
        "bytes": model_bytes(small).dense / model_bytes(model).dense,
        "density": made.counts().conv_fc_weights.density,
    }
    limits = {
        what: most if most <= 1 else most / model_bytes(model).dense for what, most in asked.items()
    }
    assert all(spent[what] <= limits[what] for what in asked)
    assert any(spent[what] > 0.93 * limits[what] for what in asked)


def test_a_ranking_takes_the_weak_units_wherever_they_are_and_a_fraction_takes_some_of_each():
    model = _chain()
    with torch.no_grad():
        model[3].weight[4:] *= 0.01  # 28 of 32 filters of one layer are weak
        model[3].bias[4:] *= 0.01
        model[7].weight[60:] *= 0.01  # and 4 of 64 of another
        model[7].bias[60:] *= 0.01
    asked = {"set": Filters(), "example_input": SMALL, "bytes": 0.5}
    even = plan(model, **asked)
    ranked = plan(model, allocation=budgets.global_magnitude, **asked)
    assert ranked.entries["3.weight"].keep < even.entries["3.weight"].keep
    assert ranked.entries["7.weight"].keep > even.entries["7.weight"].keep


@pytest.mark.parametrize("per", list(Per))
def test_every_price_meets_the_budget_exactly(per):
    made, _ = _agree(_chain(), SMALL, macs=0.4, allocation=Ranking(per=per))
    assert made.macs_left <= 0.4 * made.macs


def test_a_metric_says_what_matters():
    model = _chain()
    heavy = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    heavy["7.weight"] = torch.ones_like(model[7].weight)
    made = plan(
        model, set=Filters(), example_input=SMALL, macs=0.3, allocation=Ranking(metric=heavy)
    )
    assert made.entries["7.weight"].keep == 64  # all that scores stays
    assert made.entries["0.weight"].keep < 8  # and of the others what saves most goes first


def test_what_was_measured_is_written_and_read_back(tmp_path):
    made = plan(_chain(), set=Filters(), example_input=SMALL, macs=0.5)
    made.save(tmp_path / "plan.yaml")
    again = Plan.load(tmp_path / "plan.yaml")
    assert again == made
    assert again.delivered == made.delivered is not None
    assert again.macs_left == made.macs_left


def test_several_budgets_or_bytes_without_coupled_channels_are_refused():
    with pytest.raises(BudgetError, match="several at once are for coupled filters"):
        plan(_chain(), macs=0.5, density=0.5, example_input=SMALL)
    with pytest.raises(BudgetError, match="bytes= is a budget of coupled channels"):
        plan(_chain(), bytes=0.5)
    with pytest.raises(BudgetError, match="got macs= and keep="):
        plan(_chain(), set=Filters(), example_input=SMALL, macs=0.5, keep={"3.weight": 4})
