"""Channels that live and die together.

Abstract interpretation of the graph that ``torch.export`` makes of a model: labels on every index
of every axis (:mod:`~espalier.graph.labels`, :mod:`~espalier.graph.value`), one rule for every
operation (:mod:`~espalier.graph.rules`), one walk (:mod:`~espalier.graph.interpreter`).
"""

from espalier.graph.groups import ChannelGraph as ChannelGraph
from espalier.graph.groups import Group as Group
from espalier.graph.groups import Slice as Slice
from espalier.graph.groups import Unit as Unit
from espalier.graph.trace import channel_graph as channel_graph
