"""The models of ``families.py``: built by their library with random weights, and made lively."""

import copy
import functools
import sys

import torch
from family_names import CONFIGURATIONS, REAL
from torch import nn

SEED = 0
SIZES = (64, 128, 224, 256, 299)


@functools.cache
def vision():
    """The library, and what it rests on.

    Built for CUDA it does not import beside a CPU-only torch unless its operators are named.
    """
    library = torch.library.Library("torchvision", "DEF")
    try:
        import torchvision
    except RuntimeError:
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision, library


def made(name):
    """A model and its example, the smallest image that it takes."""
    library, _, which = name.partition(":")
    torchvision, _ = vision()
    if library in ("transformers", "real"):
        return _transformer(which, (CONFIGURATIONS if library == "transformers" else REAL)[which])

    def create(size):
        if library == "torchvision":
            more = {"init_weights": False} if which in ("googlenet", "inception_v3") else {}
            more |= {"image_size": size} if which.startswith("vit_") else {}
            return torchvision.models.get_model(which, weights=None, **more)
        import timm

        try:
            return timm.create_model(which, num_classes=100, img_size=size)
        except TypeError:
            return timm.create_model(which, num_classes=100)

    failed = None
    for size in SIZES:
        try:
            torch.manual_seed(SEED)
            model, x = create(size).eval(), torch.randn(2, 3, size, size)
            with torch.no_grad():
                model(x)
                # Statistics over one place are none: the smallest image must leave several.
                copy.deepcopy(model).train()(x)
            return model, x
        except Exception as error:
            failed = error
    raise failed


def _transformer(which, described):
    import transformers

    transformers.logging.set_verbosity_error()
    kind, config, more = described
    torch.manual_seed(SEED)
    model = getattr(transformers, kind)(getattr(transformers, config)(**more)).eval()
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    x = INPUTS[model.main_input_name](more, model.config)
    if model.config.is_encoder_decoder:
        x["decoder_input_ids"] = torch.randint(3, 99, (2, 7))
    run(model, x)
    return model, x


def _words(more, config):
    return {"input_ids": torch.randint(3, min(99, config.vocab_size), (2, 12))}


def _image(more, config):
    size = more.get("image_size", 64)
    return {"pixel_values": torch.randn(2, 3, *([size, size] if isinstance(size, int) else size))}


INPUTS = {
    "input_ids": _words,
    "pixel_values": _image,
    "input_values": lambda more, config: {"input_values": torch.randn(2, 1600)},
    "input_features": lambda more, config: {
        "input_features": torch.randn(2, config.num_mel_bins, 2 * config.max_source_positions)
    },
}


@torch.no_grad()
def enliven_(model, x):
    """Values where an initialisation has 0 or 1, and BatchNorm's statistics estimated from data."""
    norms = {
        id(m.weight)
        for m in model.modules()
        if "Norm" in type(m).__name__ and isinstance(getattr(m, "weight", None), nn.Parameter)
    }
    for name, p in model.named_parameters():
        if not p.is_floating_point():
            continue
        still = bool((p == p.flatten()[0]).all()) and p.numel() > 1
        if id(p) in norms:
            nn.init.uniform_(p, 0.5, 1.5)
        elif p.dim() == 1 and name.endswith("bias"):
            nn.init.normal_(p, 0, 0.1)
        elif still and not p.any() and p.dim() > 1:
            nn.init.normal_(p, 0, 0.05)
        elif still:
            nn.init.uniform_(p, 0.3, 0.8)
    batch = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not batch:
        return
    for m in batch:
        m.reset_running_stats()
        m.momentum, m.was = None, m.momentum
        m.train()
    for _ in range(4):
        run(model, drawn(x))
    for m in batch:
        m.eval()
        m.momentum = m.was
        del m.was


def drawn(x):
    if isinstance(x, dict):
        return {k: drawn(v) for k, v in x.items()}
    if x.is_floating_point():
        return torch.randn(x.shape)
    return torch.randint(int(x.min()), int(x.max()) + 1, x.shape)


def run(model, x):
    found = model(**x) if isinstance(x, dict) else model(x)
    found = found.to_tuple() if hasattr(found, "to_tuple") else found
    return [t for t in torch.utils._pytree.tree_leaves(found) if isinstance(t, torch.Tensor)]


def resized(model, x):
    """The same input in another size: more samples, other lengths, larger images where any are taken."""
    other = {k: torch.cat([v, v[:1]]) for k, v in x.items()}
    if "input_ids" in x:
        return {k: v[:, : v.shape[1] - 3] for k, v in other.items()}
    larger = {k: nn.functional.pad(v, (0, 32, 0, 32)) for k, v in other.items()}
    try:
        run(model, larger)
    except Exception:
        return other
    return larger


@torch.no_grad()
def apart(masked, small, x, seeds=2):
    """The largest difference beside its output's size, in float64 where the model allows it."""
    wide = [copy.deepcopy(m).double() for m in (masked, small)]
    worst = 0.0
    for seed in range(seeds):
        torch.manual_seed(1000 + seed)
        batch = drawn(x)
        double = torch.utils._pytree.tree_map(
            lambda t: t.double() if t.is_floating_point() else t, batch
        )
        try:
            pair = [run(m, double) for m in wide]
        except Exception:
            pair = []
        # Constants written for float32 may make nothing but NaN of a wider type.
        if not pair or not all(t.isfinite().any() for t in pair[0]):
            pair = [run(m, batch) for m in (masked, small)]
        for a, b in zip(*pair, strict=True):
            if a.is_floating_point():
                same = (a == b) | (a.isnan() & b.isnan())
                gap = torch.where(same, 0.0, a - b).nan_to_num(float("inf")).abs().max().item()
                worst = max(worst, gap / (a[a.isfinite()].abs().max().item() + 1e-30))
    return worst
