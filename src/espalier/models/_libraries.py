"""Models of torchvision, timm and transformers by name: ``torchvision:resnet18``."""

import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from types import MappingProxyType, ModuleType
from typing import Any

import torch
from torch import nn

from espalier._ground.boxes import suppressed
from espalier._ground.importing import call
from espalier.errors import RequestError, UnknownNameError, nearest

_FILES = ("weights", "weights_backbone", "pretrained", "checkpoint_path", "pretrained_cfg")
_HELD: list[Any] = []  # declarations of operators, which live as long as their object


def torchvision() -> ModuleType:
    """The library, imported.

    Where it was built for another torch than the one that is there (of PyPI for CUDA, beside a torch for the CPU),
    its compiled operators are missing and it does not import. Its models need one of them alone, the suppression of
    boxes, which is then ours; all others fail where they are called.

    Raises:
        RequestError: It is not installed, or fails for another reason.
    """
    return _imported("torchvision", "vision")


def _imported(name: str, extra: str) -> ModuleType:
    if find_spec(name) is None:
        raise RequestError(f"{name} is not installed; run: pip install 'espalier[{extra}]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name != "torchvision" and find_spec("torchvision") is not None:
            _imported("torchvision", "vision")  # which both others import
        try:
            return importlib.import_module(name)
        except RuntimeError as error:
            if "torchvision::" not in str(error) or _HELD:
                raise RequestError(f"importing {name} failed: {error}") from error
        for module in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[module]
        operators: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for one in ("nms", "qnms"):
            operators.define(f"{one}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        operators.impl("nms", suppressed, "CompositeExplicitAutograd")
        _HELD.append(operators)
        library = importlib.import_module(name)
        library.extension._has_ops = lambda: True  # it asks before it calls ours
        return library


def _of_torchvision(name: str, arguments: Mapping[str, Any]) -> Any:
    library = torchvision().models
    known = library.list_models()
    if name not in known:
        raise UnknownNameError(f"torchvision has no model {name!r}; {_near(name, known)}")
    builder = library.get_model_builder(name)
    given = {"weights": None, **_classes(arguments, "num_classes")}
    if "weights_backbone" in inspect.signature(builder).parameters:
        given["weights_backbone"] = None  # which else is downloaded
    if ".detection." in builder.__module__ and "classes" in arguments:
        given["num_classes"] += 1  # its class 0 is the background
    return call(builder, f"torchvision:{name}", **given)


def _of_timm(name: str, arguments: Mapping[str, Any]) -> Any:
    library = _imported("timm", "vision")
    known = library.list_models()
    if name.partition(".")[0] not in known:
        raise UnknownNameError(f"timm has no model {name!r}; {_near(name, known)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return library.create_model(name, **_classes(arguments, "num_classes"))


def _of_transformers(name: str, arguments: Mapping[str, Any]) -> Any:
    library = _imported("transformers", "hf")
    found = getattr(library, name, None)
    if found is None or not hasattr(found, "from_pretrained"):
        known = [each for each in dir(library) if each[:1].isupper()]
        raise UnknownNameError(f"transformers has no model class {name!r}; {_near(name, known)}")
    given = dict(arguments)
    place = given.pop("pretrained", None)
    if place is not None:
        # Never a pickle: a folder or a repository without safetensors is refused by the library itself.
        return found.from_pretrained(place, use_safetensors=True, **_classes(given, "num_labels"))
    if getattr(found, "config_class", None) is None:
        raise RequestError(
            f"transformers:{name} takes its class from a checkpoint; give arguments: "
            "{pretrained: a folder or a repository}, or name a class such as GPT2LMHeadModel"
        )
    return found(found.config_class(**_classes(given, "num_labels")))


def _near(name: str, known: list[str]) -> str:
    """The few among thousands that may be meant."""
    return nearest(name, get_close_matches(name, known, 4, 0.4) or [*known[:4], "…"])


def _classes(arguments: Mapping[str, Any], word: str) -> dict[str, Any]:
    """The arguments, with the library's own word for ``classes``."""
    given = dict(arguments)
    if "classes" in given:
        given[word] = given.pop("classes")
    return given


LIBRARIES: Mapping[str, Callable[[str, Mapping[str, Any]], Any]] = MappingProxyType(
    {"torchvision": _of_torchvision, "timm": _of_timm, "transformers": _of_transformers}
)
"""By prefix what builds one of its models."""


def is_library(name: str) -> bool:
    """Is it ``torchvision:…``, ``timm:…`` or ``transformers:…``?"""
    return name.partition(":")[0] in LIBRARIES and ":" in name


def library_model(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A model of a library, newly initialised; of transformers, perhaps with its weights.

    Args:
        name: ``torchvision:`` and a name of ``torchvision.models.list_models()``; ``timm:`` and one of
            ``timm.list_models()``; ``transformers:`` and a model class.
        arguments: Of its builder, or of the class's configuration; ``classes`` for the number of outputs
            (of torchvision's detectors: without the background).

    Raises:
        RequestError: The library is not installed, or the arguments do not fit, or name a file of weights.
        UnknownNameError: It has no such model.
    """
    library, _, which = name.partition(":")
    files = [each for each in _FILES if arguments.get(each) and library != "transformers"]
    if files:
        raise RequestError(
            f"{name}: {files[0]}: weights of torchvision and timm come from a pickle or a download, which "
            "espalier does not open; convert them once (safetensors.torch.save_model) and give the file as "
            "model.weights"
        )
    try:
        model: nn.Module = LIBRARIES[library](which, arguments)
    except (TypeError, ValueError, OSError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{name}: {str(error).strip()[:300]}") from error
    return model
