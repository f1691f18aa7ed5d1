"""The artefact: one file that holds a pruned model, compact or masked, and what is known of it.

A safetensors file (suffix ``.espalier``) whose metadata carry one JSON document
(:mod:`~espalier.artifact._document`). Any reader of safetensors finds the weights under their own
names; :func:`load` puts them into the architecture of the original constructor, cut to size.
:func:`save_pretrained` writes what ``transformers`` itself can read, where that can be.
Nothing is pickled, and a damaged or hostile file is refused (:mod:`~espalier.artifact._container`).
"""

from espalier.artifact._document import Artifact
from espalier.artifact._loading import expand, inspect, load, state_dict
from espalier.artifact._pretrained import Pretrained, save_pretrained
from espalier.artifact._saving import save

__all__ = [
    "Artifact",
    "Pretrained",
    "expand",
    "inspect",
    "load",
    "save",
    "save_pretrained",
    "state_dict",
]
