"""What each parameter of a model belongs to: a convolution, a linear layer, a norm and so on."""

from dataclasses import dataclass, field
from enum import StrEnum

from torch import nn

from espalier.errors import RequestError


class LayerKind(StrEnum):
    """The kind of layer a parameter belongs to."""

    CONV = "conv"
    CONV_TRANSPOSE = "conv_transpose"
    LINEAR = "linear"
    LINEAR_TRANSPOSE = "linear_transpose"
    RECURRENT = "recurrent"
    EMBEDDING = "embedding"
    NORM = "norm"
    BIAS = "bias"
    OTHER = "other"

    @property
    def is_conv(self) -> bool:
        """Whether it is the weight of a convolution, transposed ones included."""
        return self in (LayerKind.CONV, LayerKind.CONV_TRANSPOSE)

    @property
    def is_linear(self) -> bool:
        """Whether it is the weight of a fully connected layer (attention's too)."""
        return self in (LayerKind.LINEAR, LayerKind.LINEAR_TRANSPOSE)

    @property
    def outputs_first(self) -> bool:
        """Whether axis 0 counts outputs; transposed layers store (in, out, …)."""
        return self not in (LayerKind.CONV_TRANSPOSE, LayerKind.LINEAR_TRANSPOSE)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Where a parameter lives.

    Attributes:
        kind: of the first module that owns it.
        groups: of a grouped convolution, else 1.
        aliases: its other names, when several modules share it.
    """

    kind: LayerKind
    groups: int = 1
    aliases: tuple[str, ...] = field(default=())


def owners(model: nn.Module) -> dict[str, Owner]:
    """The owner of every parameter, by its first name, in ``named_parameters`` order.

    Raises:
        RequestError: a lazy parameter, whose shape is not known yet.

    Example:
        >>> owners(nn.Sequential(nn.Conv2d(2, 4, 3, groups=2, bias=False)))["0.weight"].groups
        2
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise RequestError(f"{name}: a lazy parameter has no shape; run the model once")
        names.setdefault(parameter, []).append(name)
    found = {}
    for parameter, (name, *aliases) in names.items():
        prefix, _, leaf = name.rpartition(".")
        module = modules[prefix]
        found[name] = Owner(
            kind=_kind(module, leaf, parameter),
            groups=module.groups if isinstance(module, _CONVS) else 1,
            aliases=tuple(aliases),
        )
    return found


def layer_kinds(model: nn.Module) -> dict[str, LayerKind]:
    """The kind of layer of every parameter, by name.

    >>> {name: str(kind) for name, kind in layer_kinds(nn.Linear(2, 3)).items()}
    {'weight': 'linear', 'bias': 'bias'}
    """
    return {name: owner.kind for name, owner in owners(model).items()}


_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
)


def _kind(module: nn.Module, leaf: str, parameter: nn.Parameter) -> LayerKind:
    if isinstance(module, _NORMS) or ("Norm" in type(module).__name__ and parameter.dim() <= 1):
        return LayerKind.NORM
    if "bias" in leaf and parameter.dim() <= 1:
        return LayerKind.BIAS
    if isinstance(module, _TRANSPOSED) and leaf == "weight":
        return LayerKind.CONV_TRANSPOSE
    if isinstance(module, _CONVS) and leaf == "weight":
        return LayerKind.CONV
    if isinstance(module, nn.Linear) and leaf == "weight":
        return LayerKind.LINEAR
    if isinstance(module, nn.MultiheadAttention) and leaf.endswith("proj_weight"):
        return LayerKind.LINEAR
    # GPT-2 in transformers: a linear layer that stores (in, out); no import for one name.
    if type(module).__name__ == "Conv1D" and leaf == "weight":
        return LayerKind.LINEAR_TRANSPOSE
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return LayerKind.EMBEDDING
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return LayerKind.RECURRENT
    return LayerKind.OTHER
