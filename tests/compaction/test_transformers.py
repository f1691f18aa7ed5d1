"""Public transformers, small and with random weights: every unit may go, and goes exactly."""

import copy
import importlib
import importlib.util
import warnings

import pytest
import torch

from espalier.artifact import load, save_pretrained
from espalier.compaction import compact, compare
from espalier.errors import RequestError
from espalier.graph import channel_graph

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
WORDS = {"vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER = {**SIZES, **WORDS, "num_key_value_heads": 2, "use_cache": False}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "num_labels": 5}

FAMILIES = {
    "Bert": ("ForSequenceClassification", {**SIZES, **WORDS}, "words"),
    "DistilBert": (
        "ForSequenceClassification",
        {**WORDS, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
        "words",
    ),
    "ViT": (
        "ForImageClassification",
        {**SIZES, "image_size": 32, "patch_size": 8, "num_labels": 5},
        "fixed",
    ),
    "Swin": (
        "ForImageClassification",
        {
            **{"image_size": 32, "patch_size": 2, "embed_dim": 16, "num_labels": 5},
            **{"depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
        },
        "fixed",
    ),
    "ConvNext": ("ForImageClassification", STAGES, "image"),
    "ConvNextV2": ("ForImageClassification", STAGES, "image"),
    "GPT2": (
        "LMHeadModel",
        {**WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "use_cache": False},
        "words",
    ),
    "Llama": ("ForCausalLM", DECODER, "words"),
    "Qwen2": ("ForCausalLM", DECODER, "words"),
    "Qwen3": ("ForCausalLM", {**DECODER, "head_dim": 8}, "words"),
    "Phi3": ("ForCausalLM", DECODER, "words"),
    "Mamba": (
        "ForCausalLM",
        {**WORDS, "hidden_size": 32, "num_hidden_layers": 1, "state_size": 8, "use_cache": False},
        "words",
    ),
}


@pytest.fixture(scope="module")
def transformers(vision):  # it imports torchvision where that is installed
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = importlib.import_module("transformers")
    found.logging.set_verbosity_error()
    found.logging.disable_progress_bar()
    return found


def build(transformers, family):
    head, sizes, _ = FAMILIES[family]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = getattr(transformers, f"{family}Config")(**sizes)
        model = getattr(transformers, family + head)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # As they come, norms have γ = 1 and β = 0, and layer scales are 1e-6.
            if parameter.dim() == 1 or "grn" in name:
                parameter.uniform_(-0.3, 0.3).add_(0 if "bias" in name else 1)
    return model


def inputs(family):
    """An example, and one of another size where the model takes it."""
    kind = FAMILIES[family][2]
    if kind == "words":
        return torch.randint(3, 60, (2, 9)), torch.randint(3, 60, (3, 5))
    size = 32 if kind == "fixed" else 64
    return torch.randn(2, 3, size, size), torch.randn(3, 3, *[size if kind == "fixed" else 96] * 2)


def touched(graph, model):
    """The share of the parameters that some removable unit touches."""
    hit = total = 0
    for name, tensor in model.named_parameters():
        mask = torch.zeros(tensor.shape, dtype=torch.bool)
        for axis in range(tensor.dim()):
            shape = [-1 if d == axis else 1 for d in range(tensor.dim())]
            mask |= graph.may_go(name, axis).reshape(shape)
        hit, total = hit + int(mask.sum()), total + tensor.numel()
    return hit / total


def halved(graph):
    """Half of the units of every group, at random."""
    found = []
    for group in graph.removable:
        order = torch.randperm(len(group.units)).tolist()
        found += [group.units[i].id for i in order[: len(order) // 2]]
    return found


def test_experts_chosen_by_the_data_lose_width_together(transformers, monkeypatch):
    # A width that the kernel for single precision takes: rows of whole 16 bytes.
    monkeypatch.setitem(
        FAMILIES, "Mixtral", ("ForCausalLM", {**DECODER, "num_local_experts": 4}, "")
    )
    model, (example, _) = build(transformers, "Mixtral"), inputs("Llama")
    graph = channel_graph(model, example)
    assert touched(graph, model) >= 0.95
    gone = [u.id for g in graph.removable for u in g.units[: len(g.units) // 2]]
    graph.zero_(model, gone)
    small = compact(model, example, graph=graph)
    experts = small.model.model.layers[0].mlp.experts
    assert (experts.gate_up_proj.shape, experts.down_proj.shape) == ((4, 64, 16), (4, 16, 32))
    assert (small.removed, small.kept_back) == (len(gone), {})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_unit_of_the_public_transformers_may_go_and_goes_exactly(transformers, family):
    model, (example, other) = build(transformers, family), inputs(family)
    graph = channel_graph(model, example)
    assert touched(graph, model) >= 0.95
    gone = halved(graph)
    masked = copy.deepcopy(model)
    graph.zero_(masked, gone)
    small = compact(masked, example, graph=graph)
    assert small.removed == len(gone)
    assert small.after.parameters < 0.5 * small.before.parameters
    for batch in (example, other):
        proof = compare(masked, small.model, batch)
        assert proof.difference < 1e-5 * proof.scale


def shrunk(transformers, family, chosen):
    model, (example, _) = build(transformers, family), inputs(family)
    graph = channel_graph(model, example)
    for group in graph.removable:
        if chosen in str(group.producers):
            graph.zero_(model, [unit.id for unit in group.units[: len(group.units) // 2]])
    return compact(model, example, graph=graph), example


@pytest.mark.parametrize(
    ("family", "chosen", "said"),
    [
        ("Llama", "", {"hidden_size": 16, "num_attention_heads": 2, "rms_norm_eps": 2e-6}),
        ("Bert", "intermediate", {"intermediate_size": 32}),
        ("GPT2", "c_fc", {"n_inner": 64}),
    ],
)
def test_uniform_widths_are_a_checkpoint_of_transformers(
    transformers, tmp_path, family, chosen, said
):
    small, example = shrunk(transformers, family, chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = save_pretrained(tmp_path, small, example)
        again = type(small.model).from_pretrained(tmp_path)
    assert (written.reader, written.reason) == ("from_pretrained", "")
    assert said.items() <= dict(written.changed).items()
    assert compare(small.model, again, example, tolerance=1e-6).holds


@pytest.mark.parametrize(
    ("family", "chosen", "why"),
    [
        ("Bert", "", "counts channels that are gone"),
        ("Bert", "query", "no configuration has these widths"),
        ("Llama", "layers.0.mlp", "its model refuses the configuration"),
        ("Qwen3", "", "read back it differs"),  # one ε for norms of the stream and of the heads
    ],
)
def test_what_no_configuration_says_is_an_artefact(transformers, tmp_path, family, chosen, why):
    small, example = shrunk(transformers, family, chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = save_pretrained(tmp_path, small, example)
    assert written.reader == "espalier.load"
    assert why in written.reason
    again = load(tmp_path / "model.espalier", lambda: build(transformers, family)).eval()
    assert compare(small.model, again, example, tolerance=0).holds


def test_only_models_of_transformers_are_such_checkpoints(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    with pytest.raises(RequestError, match=r"use espalier\.save"):
        save_pretrained(tmp_path, compact(net, torch.randn(1, 2)), torch.randn(1, 2))
