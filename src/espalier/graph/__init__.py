"""Channels that live and die together.

Abstract interpretation of the graph that ``torch.export`` makes of a model: labels on every index
of every axis (:mod:`~espalier.graph._labels`, :mod:`~espalier.graph._value`), one rule for every
operation (:mod:`~espalier.graph.rules`), one walk (:mod:`~espalier.graph._interpreter`).
"""

from espalier.graph._groups import ChannelGraph as ChannelGraph
from espalier.graph._groups import Group as Group
from espalier.graph._groups import Slice as Slice
from espalier.graph._groups import Unit as Unit
from espalier.graph._trace import channel_graph as channel_graph
