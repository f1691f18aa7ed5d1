import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from espalier import models
from espalier.errors import ShapeError, UnknownNameError
from espalier.measure import layer_costs


def _macs(model, example):
    return {name: cost.macs for name, cost in layer_costs(model, example).items()}


def test_lenet5_by_hand():
    costs = layer_costs(models.build("lenet5"), torch.zeros(3, 1, 28, 28))
    assert {name: cost.macs for name, cost in costs.items()} == {
        "conv1.weight": 288_000,  # 24 · 24 · 500
        "conv2.weight": 1_600_000,  # 8 · 8 · 25,000
        "fc1.weight": 400_000,
        "fc2.weight": 5_000,
    }
    assert [cost.macs_per_weight for cost in costs.values()] == [576, 64, 1, 1]
    assert costs.total == 2_293_000
    assert costs.warnings == ()


def test_resnet20_by_hand():
    stem, fc = 32**2 * 3 * 16 * 9, 640
    same = 6 * 32**2 * 16 * 16 * 9 + 5 * 16**2 * 32 * 32 * 9 + 5 * 8**2 * 64 * 64 * 9
    narrow = 16**2 * 16 * 32 * 9 + 8**2 * 32 * 64 * 9
    costs = layer_costs(models.build("resnet20"), torch.zeros(2, 3, 32, 32))
    assert costs.total == stem + same + narrow + fc == 40_551_040
    # with 1×1 shortcuts (option B), which have 262,144, the often quoted 40.8 M


@pytest.mark.parametrize(
    ("layer", "example", "macs"),
    [
        (nn.Conv1d(2, 3, 5), (2, 9), 5 * 30),
        (nn.Conv2d(4, 8, 3, groups=2, padding=1), (4, 5, 5), 25 * 8 * 2 * 9),
        (nn.Conv2d(3, 3, 3, groups=3, stride=2), (3, 7, 7), 9 * 27),
        (nn.Conv2d(1, 1, 3, dilation=2), (1, 7, 7), 9 * 9),
        (nn.Conv3d(1, 2, 2), (1, 3, 3, 3), 8 * 16),
        (nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 4, 4), 16 * 24),
        (nn.ConvTranspose1d(4, 2, 3, groups=2), (4, 5), 5 * 4 * 1 * 3),
        (nn.Linear(7, 5), (7,), 35),
        (nn.Linear(7, 5), (4, 7), 4 * 35),
    ],
)
def test_one_layer_by_hand_for_any_batch_size(layer, example, macs):
    for batch in (1, 6):
        assert _macs(layer, torch.zeros(batch, *example)) == {"weight": macs}
        assert _macs(layer.to("meta"), torch.zeros(batch, *example)) == {"weight": macs}


class _Reuse(nn.Module):
    """A layer called three times, a functional use, a parameter that is only added."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.own = nn.Parameter(torch.zeros(2, 4))
        self.position = nn.Parameter(torch.zeros(1, 4))

    def forward(self, x):
        x = self.fc(self.fc(x + self.position))
        return F.linear(x, self.fc.weight) @ self.own.T


def test_every_use_adds_up_functional_ones_too():
    assert _macs(_Reuse(), torch.zeros(3, 4)) == {"fc.weight": 48, "own": 8, "position": 0}


def test_tied_weights_add_up_and_embeddings_cost_nothing():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(10, 4)
            self.head = nn.Linear(4, 10, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x):
            return self.head(self.embedding(x))

    assert _macs(nn.Embedding(10, 4), torch.zeros(2, 3, dtype=torch.long)) == {"weight": 0}
    assert _macs(Tied(), torch.zeros(2, 3, dtype=torch.long)) == {"embedding.weight": 3 * 40}


def test_attention_projections_are_seen_and_the_rest_is_named():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.inner(x, x, x, need_weights=False)[0]

    costs = layer_costs(Attention(), torch.zeros(5, 3, 8))
    assert costs["inner.in_proj_weight"].macs == 3 * 24 * 8
    assert costs["inner.out_proj.weight"].macs == 3 * 8 * 8
    assert costs.between_activations == 2 * 2 * 3 * 3 * 4
    assert "144 MACs are products of two activations" in costs.warnings[0]
    assert costs.total == 576 + 192 + 144


def test_the_fused_encoder_layer_is_opened():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)
    costs = layer_costs(layer, torch.zeros(5, 3, 8))
    assert costs["linear1.weight"].macs == 3 * 8 * 16
    assert costs["self_attn.in_proj_weight"].macs == 3 * 24 * 8
    assert costs.unseen == ()
    assert torch.backends.mha.get_fastpath_enabled()


def test_what_is_not_seen_is_named():
    normed = parametrizations.weight_norm(nn.Linear(4, 4))
    idle = nn.Conv2d(1, 1, 1)
    model = nn.Sequential(normed)
    model.idle = idle
    model.forward = lambda x: normed(x)
    costs = layer_costs(model, torch.zeros(1, 4))
    assert costs.unseen == ("idle.weight",)
    assert costs.between_activations == 16
    assert "no product of idle.weight was seen" in costs.warnings[0]


def test_a_weight_recomputed_in_forward_is_not_silently_free():
    class Standardised(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight - self.weight.mean())

    costs = layer_costs(Standardised(4, 4), torch.zeros(1, 4))
    assert costs.unseen == ("weight",)


def test_recurrent_kernels_are_named():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 2)

        def forward(self, x):
            return self.lstm(x)[0]

    costs = layer_costs(Recurrent(), torch.zeros(1, 3))
    assert costs.unseen in (("lstm.weight_ih_l0", "lstm.weight_hh_l0"), ())
    if costs.unseen == ():
        assert costs["lstm.weight_ih_l0"].macs > 0


def test_inputs_may_be_a_tuple_or_a_dictionary():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 3)

        def forward(self, x, scale=1.0, *, y=0):
            return self.fc(x) * scale + y

    x = torch.zeros(4, 2)
    assert (
        _macs(Two(), (x, 2.0)) == _macs(Two(), {"x": x, "y": torch.ones(4, 3)}) == {"fc.weight": 6}
    )


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)).train()
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    layer_costs(model, torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [m.training for m in model] == [True, True, False]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_macs_left_follow_the_weights_left():
    costs = layer_costs(models.build("lenet5"), torch.zeros(1, 1, 28, 28))
    assert costs.after({}) == costs.total
    assert costs.after({"conv1.weight": 100, "fc2.weight": 0}) == 2_293_000 - 400 * 576 - 5_000
    with pytest.raises(UnknownNameError, match="no cost of 'conv1'"):
        costs.after({"conv1": 1})


def test_a_wrong_example_is_explained_and_the_model_restored():
    model = nn.Linear(4, 2).train()
    with pytest.raises(
        ShapeError, match=r"refuses example_input, cut to one sample of shape \[\(1, 3\)\]"
    ):
        layer_costs(model, torch.zeros(2, 3))
    assert model.training


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet50", "ResNet50_Weights"),
        ("mobilenet_v2", "MobileNet_V2_Weights"),
        ("vit_b_16", "ViT_B_16_Weights"),
        ("swin_t", "Swin_T_Weights"),
    ],
)
def test_torchvision_states_the_same_giga_macs(vision, name, weights):
    """Its ``_ops`` are multiply-accumulates of one sample, attention's products included."""
    stated = getattr(vision.torchvision.models, weights).IMAGENET1K_V1.meta["_ops"]
    with torch.device("meta"):
        model = getattr(vision.torchvision.models, name)()
    costs = layer_costs(model, torch.zeros(2, 3, 224, 224))
    assert costs.total / 1e9 == pytest.approx(stated, abs=0.0015)
    assert costs.unseen == ()
