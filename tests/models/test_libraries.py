"""Models of torchvision, timm and transformers by name, and what a task says of the classes."""

import warnings

import pytest
import torch

from espalier import models
from espalier.errors import RequestError, UnknownNameError


@pytest.mark.parametrize(
    ("name", "parameters"),  # as the libraries' own documentation states them, for 1000 classes
    [
        ("torchvision:alexnet", 61_100_840),
        ("torchvision:vgg16_bn", 138_365_992),
        ("torchvision:resnet50", 25_557_032),
        ("torchvision:mobilenet_v2", 3_504_872),
        ("torchvision:swin_t", 28_288_354),
        ("torchvision:deeplabv3_resnet50", 42_004_074),  # 21 classes, with the auxiliary head
        ("timm:mixer_b16_224", 59_880_472),
        ("timm:swin_base_patch4_window7_224", 87_768_224),
    ],
)
def test_a_library_s_model_is_built_by_name(vision, name, parameters):
    with torch.device("meta"):
        model = models.build(name, **({"aux_loss": True} if "deeplab" in name else {}))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_classes_is_the_word_for_the_outputs_in_every_library(vision):
    x = torch.zeros(1, 3, 32, 32)
    assert models.build("torchvision:resnet18", classes=7).eval()(x).shape == (1, 7)
    assert models.build("timm:resnet18", classes=7).eval()(x).shape == (1, 7)
    detector = models.build("torchvision:ssdlite320_mobilenet_v3_large", classes=7)
    assert detector.head.classification_head.num_columns == 8  # and the background
    assert models.accepted("timm:resnet18", {"classes": 7, "words": 2}) == {"classes": 7}
    assert models.accepted("my.own:net", {"classes": 7}) == {}


def test_a_class_of_transformers_takes_its_configuration_or_a_checkpoint(vision, tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    sizes = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sizes |= {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = "transformers:BertForSequenceClassification"
        model = models.build(name, classes=3, intermediate_size=48, **sizes)
        assert model.classifier.out_features == 3
        model.save_pretrained(tmp_path)
        again = models.build(
            "transformers:AutoModelForSequenceClassification", pretrained=str(tmp_path)
        )
    assert torch.equal(again.classifier.weight, model.classifier.weight)


def test_a_pickled_checkpoint_of_transformers_is_not_opened(vision, tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.BertConfig().save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(RequestError, match="safetensors"):
        models.build("transformers:BertModel", pretrained=str(tmp_path))


@pytest.mark.parametrize(
    "name", ["torchvision:resnet19", "timm:resnet19", "transformers:BertModle"]
)
def test_a_mistyped_name_is_answered_with_the_nearest_few(vision, name):
    with pytest.raises(UnknownNameError, match=r"did you mean '(resnet18|BertModel)'") as caught:
        models.build(name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("torchvision:resnet18", {"weights": "DEFAULT"}, "give the file as model.weights"),
        ("timm:resnet18", {"pretrained": True}, "give the file as model.weights"),
        ("torchvision:resnet18", {"depth": 3}, "depth"),
        ("timm:resnet18", {"depth": 3}, "depth"),
        ("transformers:AutoModel", {}, "from a checkpoint"),
    ],
)
def test_what_a_library_does_not_take_is_refused_in_a_sentence(vision, name, arguments, said):
    if name.startswith("transformers"):
        pytest.importorskip("transformers")
    with pytest.raises(RequestError, match=said):
        models.build(name, **arguments)


def test_a_library_that_is_not_there_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("espalier.models._libraries.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'espalier\[vision\]'"):
        models.build("timm:resnet18")
