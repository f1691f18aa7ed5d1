"""Many plans of one model, for searches that measure what comes out."""

from collections.abc import Sequence

from torch import nn

from espalier._ground.example import Example
from espalier._ground.wrapping import unwrapped
from espalier.measure import layer_costs
from espalier.planning._build import layers_of, patterns
from espalier.planning._channels import ChannelPlans
from espalier.planning._couple import check_coupled
from espalier.planning._select import check_source, select
from espalier.sets import Channels, Filters


def channel_plans(
    model: nn.Module,
    example_input: Example,
    *,
    set: Filters | Channels,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
) -> ChannelPlans:
    """What :func:`espalier.plan` begins with, made once; arguments and errors are those of it."""
    model = unwrapped(model)
    wanted = None if include is None else patterns(include, "include")
    refused = patterns(exclude or (), "exclude")
    chosen = select(model, set, wanted, refused, "include", check_coupled)
    check_source(model, wanted, refused)
    costs = layer_costs(model, example_input)
    layers = layers_of(model, chosen, costs)
    return ChannelPlans(model, chosen, layers, costs, example_input)
