"""Espalier: prune neural networks by constrained optimisation."""

__version__ = "0.1.0"
