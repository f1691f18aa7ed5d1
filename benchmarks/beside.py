"""Torch-Pruning on the models of ``families.py``, with its options set, judged by the same question.

Its pruner takes half of the channels of every group by magnitude (``BasePruner``, ratio 0.5, no rounding, no
global ranking), the layers that make the output left out, the free parameters and the heads of attention named
and, as in its own examples, the attributes that hold the widths of heads set anew. Where there are heads it may
take half of the dimensions of every head or half of the heads; the better of the two counts.

Which channels it took is read off without its help: after it has chosen and before it cuts, every parameter is
given the numbers of its own places, so what is left says where it came from. The dense model with everything
else zeroed is then what the pruned one should equal, *if* a channel of zeros is worth nothing. Under a LayerNorm
it is not: mean and variance over fewer channels are another function, by design. So where they differ the
question is asked again of both with every such norm's statistics left out.

``right`` is what equals the masked model, ``norms`` what does once norms are put aside, ``other`` what runs and
does neither, ``failed`` what raises, does not run or is not done in time, ``none`` what is as large as before.
"""

import copy
import functools
import signal
import time

import torch
from family_models import apart, run
from torch import nn

RATIO = 0.5
TOLERANCE = 1e-4
SECONDS = 30
HEADS = ("num_heads", "num_attention_heads", "n_heads", "heads", "n_head")
PARTS = """
q k v query key value q_proj k_proj v_proj q_lin k_lin v_lin qkv kv c_attn query_key_value qkv_proj kv_proj
Wqkv in_proj query_proj key_proj value_proj
""".split()


def pruned(model, x):
    """What comes of either kind of heads, the better first."""
    found = [_pruned(model, x, whole=False)]
    if found[0]["attention"] and found[0]["outcome"] != "right":
        found.append(_pruned(model, x, whole=True))
    order = ("right", "norms", "other", "none", "failed")
    return min(found, key=lambda one: order.index(one["outcome"]))


def _pruned(model, x, *, whole):
    begin = time.process_time()
    signal.signal(signal.SIGPROF, _late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    small = copy.deepcopy(model)
    heads = _heads(small)
    found = {"attention": bool(heads), "heads": "whole" if whole else "dimensions"}
    try:
        _prune_(small, x, heads, whole)
        before, after = (sum(p.numel() for p in m.parameters()) for m in (model, small))
        masked = _masked(model, small)
        run(small, x)
        found |= {"parameters": [before, after], "difference": apart(masked, small, x)}
        found["outcome"] = (
            "none" if after == before else _judged(found["difference"], masked, small, x)
        )
    except Exception as error:
        found |= {"outcome": "failed", "error": f"{type(error).__name__}: {str(error)[:200]}"}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {**found, "seconds": round(time.process_time() - begin, 1)}


def _late(*_):
    raise TimeoutError(f"not done in {SECONDS} s")


def _judged(difference, masked, small, x):
    if difference < TOLERANCE:
        return "right"
    for model in (masked, small):
        for module in model.modules():
            name = type(module).__name__
            if (
                "Norm" in name
                and "Batch" not in name
                and getattr(module, "weight", None) is not None
            ):
                module.forward = functools.partial(_affine, module)
    return "norms" if apart(masked, small, x) < TOLERANCE else "other"


def _affine(norm, x, *_):
    """A norm without its statistics."""
    last = x.shape[-1] == norm.weight.numel()
    gamma, beta = (
        None if p is None else p if last else p.view(1, -1, *[1] * (x.dim() - 2))
        for p in (norm.weight, getattr(norm, "bias", None))
    )
    return x * gamma if beta is None else x * gamma + beta


def _prune_(model, x, heads, whole):
    import torch_pruning as tp

    outputs = run(model, x)
    last = outputs[0].shape[1 if outputs[0].dim() == 4 else -1]
    ends = [m for m in model.modules() if last in _widths(m)]
    counts = {layer: count for module in heads for layer, count in heads[module].items()}
    with torch.enable_grad():
        pruner = tp.pruner.BasePruner(
            model,
            x,
            importance=tp.importance.MagnitudeImportance(),
            pruning_ratio=RATIO,
            global_pruning=False,
            round_to=None,
            ignored_layers=ends,
            unwrapped_parameters=_free(tp, model),
            num_heads=dict(counts),
            prune_num_heads=whole,
            prune_head_dims=not whole,
            head_pruning_ratio=RATIO if whole else 0.0,
            forward_fn=lambda m, given: m(**given) if isinstance(given, dict) else m(given),
            output_transform=lambda out: [
                t
                for t in torch.utils._pytree.tree_leaves(
                    out.to_tuple() if hasattr(out, "to_tuple") else out
                )
                if isinstance(t, torch.Tensor) and t.requires_grad
            ],
        )
    chosen = pruner.step(interactive=True)
    first = next(chosen, None)
    if first is None:
        return
    # Every group's scores are known by now: values may give way to the numbers of their places.
    for p in model.parameters():
        p.data = torch.arange(p.numel(), dtype=torch.float64).view(p.shape)
    first.prune()
    for group in chosen:
        group.prune()
    for module, layers in heads.items():
        _widths_of_heads_(module, layers, pruner.num_heads)


def _widths(module):
    return (getattr(module, "out_features", None), getattr(module, "out_channels", None))


def _free(tp, model):
    """Parameters of no layer: their last axis of more than one place is that of the channels."""
    known = {
        id(p)
        for m in model.modules()
        if isinstance(m, nn.Linear | nn.Embedding | nn.modules.conv._ConvNd)
        or "Norm" in type(m).__name__
        for p in m.parameters(recurse=False)
    }
    return [
        (p, max(d for d in range(p.dim()) if p.shape[d] > 1))
        for p in model.parameters()
        if id(p) not in known and p.numel() > 1
    ]


def _heads(model):
    """Attention modules, and of the layers that make their queries, keys and values the number of heads."""
    found = {}
    for module in model.modules():
        places = (module, getattr(module, "config", None))
        held = [getattr(place, name, None) for place in places for name in HEADS]
        counts = [n for n in held if isinstance(n, int) and n > 0]
        shared = getattr(getattr(module, "config", None), "num_key_value_heads", None)
        layers = {
            layer: shared if shared and name[0] in "kv" else counts[0]
            for name, layer in module.named_children()
            if counts and name in PARTS and isinstance(layer, nn.Linear | nn.Conv2d)
        }
        if layers:
            found[module] = layers
    return found


def _widths_of_heads_(module, layers, counts):
    """Attributes that hold how wide a head or all of them are, as its examples for attention set them."""
    layer, before = next(iter(layers.items()))
    parts = 3 if "qkv" in dict(module.named_children()) else 1
    rows = layer.weight.shape[0] // parts
    heads = counts.get(layer, before)
    for name, value in list(vars(module).items()):
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        if name in HEADS:
            setattr(module, name, heads)
        elif name in ("head_dim", "attention_head_size", "head_size", "key_dim", "kv_channels"):
            setattr(module, name, rows // max(heads, 1))
        elif name in ("all_head_size", "attn_dim", "inner_dim"):
            setattr(module, name, rows)


def _masked(model, small):
    """The dense model with zeros where the small one has nothing left; the small one given its values back."""
    masked = copy.deepcopy(model)
    dense = dict(masked.named_parameters(remove_duplicate=False))
    kept = {}
    done = set()
    for name, p in small.named_parameters(remove_duplicate=False):
        if id(p) in done or not p.is_floating_point():
            continue
        done.add(id(p))
        places = p.detach().flatten().long()
        values = dense[name].detach().flatten()
        keep = kept.setdefault(id(dense[name]), torch.zeros(values.shape, dtype=torch.bool))
        keep[places] = True
        p.data = values[places].view(p.shape).clone()
        p.requires_grad_(True)
    for p in masked.parameters():
        if id(p) in kept:
            p.data = torch.where(kept[id(p)].view(p.shape), p.data, 0)
    return masked
