"""The models of ``families.py``: none of them is named by a test."""

TIMM = """
lcnet_050 mobilenetv2_050 mobilenetv3_small_050 efficientnet_lite0 mixnet_s tinynet_e ghostnet_050 ghostnetv2_100
semnasnet_075 fbnetc_100 spnasnet_100 mnasnet_small hardcorenas_a rexnet_100 resnet10t resnet14t seresnet18
skresnet18 ecaresnet26t res2net50_14w_8s regnetx_002 regnety_002 regnetz_005 dla46_c dla34 selecsls42 vovnet39a
ese_vovnet19b_dw cspresnet50 cspdarknet53 darknet17 dpn48b inception_next_atto convnext_atto convnextv2_atto
edgenext_xx_small mobileone_s0 repvgg_a0 repghostnet_050 starnet_s1 fasternet_t0 rdnet_tiny resnest14d gernet_s
efficientformer_l1 efficientformerv2_s0 efficientvit_b0 efficientvit_m0 fastvit_t8 levit_128s levit_conv_128s
mobilevit_xxs mobilevitv2_050 edgevit_xs tiny_vit_5m_224 repvit_m0_9 mobilenetv4_conv_small_050
mobilenetv4_hybrid_medium shvit_s1 swiftformer_xs deit_tiny_patch16_224 deit_tiny_distilled_patch16_224
vit_small_patch32_224 vit_relpos_small_patch16_224 vit_srelpos_small_patch16_224 vit_wee_patch16_reg1_gap_256
eva02_tiny_patch14_224 cait_xxs24_224 crossvit_tiny_240 xcit_nano_12_p16_224 pit_ti_224 pit_ti_distilled_224
convit_tiny coat_lite_tiny coatnet_pico_rw_224 maxvit_pico_rw_256 swinv2_cr_tiny_ns_224 swin_s3_tiny_224
twins_svt_small twins_pcpvt_small pvt_v2_b0 poolformer_s12 poolformerv2_s12 convformer_s18 caformer_s18 davit_tiny
focalnet_tiny_srf gcvit_xxtiny nest_tiny visformer_tiny sequencer2d_s mixer_s32_224 gmixer_12_224 resmlp_12_224
gmlp_ti16_224 convmixer_768_32 hiera_tiny_224 mvitv2_tiny hgnetv2_b0 nextvit_small nf_regnet_b0 nf_resnet26
eca_nfnet_l0 resnetv2_50 resnetrs50 lambda_resnet26t halonet26t botnet26t_256 bat_resnext26ts gcresnet50t
haloregnetz_b resnet26t seresnext26d_32x4d xception41p tresnet_m vgg11_bn efficientnet_es
tf_efficientnet_lite0 tf_mixnet_s tf_mobilenetv3_small_075 mobilenet_edgetpu_100 fbnetv3_b hrnet_w18_small
densenetblur121d csatv2 vitamin_small_224 beit_base_patch16_224 volo_d1_224 tnt_s_patch16_224 efficientnet_cc_b0_4e
""".split()
TORCHVISION = """
squeezenet1_0 shufflenet_v2_x0_5 mnasnet0_5 googlenet efficientnet_b0 regnet_y_400mf resnext50_32x4d inception_v3
mobilenet_v3_large vgg11 densenet169 efficientnet_v2_s convnext_tiny swin_v2_t maxvit_t wide_resnet50_2
regnet_x_400mf resnet34 vgg13_bn
""".split()

_SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
_BERT = {**_SMALL, "vocab_size": 99}
_PLACES = {"max_position_embeddings": 64}
_LLAMA = {**_BERT, **_PLACES, "num_key_value_heads": 2, "pad_token_id": 0}
_HEADED = {**_LLAMA, "head_dim": 12}
_GPT = {"vocab_size": 99, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64}
_BOTH = {
    **{"vocab_size": 99, "d_model": 48, "encoder_layers": 2, "decoder_layers": 2, **_PLACES},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4},
    **{"encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "pad_token_id": 1},
}
_T5 = {"vocab_size": 99, "d_model": 48, "d_kv": 12, "d_ff": 96, "num_layers": 2, "num_heads": 4}
_IMAGE = {"image_size": 32, "num_channels": 3}
_VIT = {**_SMALL, **_IMAGE, "patch_size": 8}
_STAGES = {"num_channels": 3, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
_PYRAMID = {**_STAGES, "num_attention_heads": [1, 2, 4, 4]}
_SOUND = {
    **{**_SMALL, "vocab_size": 32, "conv_dim": [16, 24, 24], "conv_kernel": [10, 3, 3]},
    **{"conv_stride": [5, 2, 2], "num_conv_pos_embeddings": 16},
    **{"num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 3},
}

_KINDS = {
    "ForMaskedLM": {
        "Albert": {**_BERT, "embedding_size": 24},
        "Roberta": {**_BERT, **_PLACES},
        "Electra": {**_BERT, "embedding_size": 24},
        "DebertaV2": {**_BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        "MPNet": _BERT,
        "SqueezeBert": {**_BERT, "embedding_size": 48},
        "MobileBert": {
            **{**_BERT, "embedding_size": 24, "intra_bottleneck_size": 24, "true_hidden_size": 24}
        },
        "Funnel": {
            **{"vocab_size": 99, "d_model": 48, "n_head": 4, "d_head": 12, "d_inner": 96},
            "block_sizes": [1, 1],
        },
        "ModernBert": {**_BERT, "pad_token_id": 0},
        "LayoutLM": _BERT,
        "Nystromformer": {**_BERT, "num_landmarks": 4, "segment_means_seq_len": 12},
        "FNet": _BERT,
        "ConvBert": {**_BERT, "embedding_size": 48},
        "BigBird": {**_BERT, "attention_type": "original_full"},
        "RemBert": {**_BERT, "input_embedding_size": 24, "output_embedding_size": 24},
        "RoFormer": {**_BERT, "embedding_size": 48},
        "Ernie": _BERT,
        "MegatronBert": _BERT,
        "IBert": _BERT,
        "Data2VecText": {**_BERT, **_PLACES},
        "XLMRobertaXL": {**_BERT, **_PLACES},
        "RobertaPreLayerNorm": {**_BERT, **_PLACES},
        "Yoso": {**_BERT, "use_expectation": True},
        "Esm": {**_BERT, **_PLACES, "pad_token_id": 1, "mask_token_id": 2},
        "EuroBert": _LLAMA,
    },
    "ForSequenceClassification": {"Deberta": _BERT, "Canine": _BERT},
    "LMHeadModel": {
        "XLNet": {
            **{"vocab_size": 99, "d_model": 48, "n_layer": 2, "n_head": 4, "d_inner": 96},
            "use_mems_eval": False,
        },
        "CTRL": {**_GPT, "dff": 96},
        "OpenAIGPT": _GPT,
    },
    "ForCausalLM": {
        "GPTNeo": {
            **{"vocab_size": 99, "hidden_size": 48, "num_layers": 2, "num_heads": 4},
            "attention_types": [[["global", "local"], 1]],
        },
        "GPTNeoX": {**_BERT, **_PLACES},
        "GPTJ": {**_GPT, "rotary_dim": 4},
        "GPTBigCode": _GPT,
        "OPT": {
            **{"vocab_size": 99, "hidden_size": 48, "num_hidden_layers": 2, **_PLACES},
            **{"num_attention_heads": 4, "ffn_dim": 96, "word_embed_proj_dim": 48},
        },
        "Bloom": {"vocab_size": 99, "hidden_size": 48, "n_layer": 2, "n_head": 4},
        "CodeGen": {**_GPT, "n_embd": 64, "rotary_dim": 4},
        "Falcon": {**_BERT, **_PLACES},
        "BioGpt": {**_BERT, **_PLACES},
        "XGLM": {
            **{"vocab_size": 99, "d_model": 48, "ffn_dim": 96, "num_layers": 2},
            **{"attention_heads": 4, **_PLACES},
        },
        "Persimmon": {**_BERT, **_PLACES},
        "Mistral": _LLAMA,
        "Ministral": _HEADED,
        "Gemma": _HEADED,
        "Gemma2": _HEADED,
        "Phi": {**_BERT, **_PLACES},
        "Phi3": _LLAMA,
        "Olmo": _LLAMA,
        "Olmo2": _LLAMA,
        "StableLm": {
            **_LLAMA,
            "rope_parameters": {
                **{"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
            },
        },
        "Starcoder2": _LLAMA,
        "Granite": _LLAMA,
        "Cohere": _LLAMA,
        "Cohere2": _LLAMA,
        "Glm": _HEADED,
        "Glm4": _HEADED,
        "Nemotron": _LLAMA,
        "Helium": _HEADED,
        "SmolLM3": _LLAMA,
        "Ernie4_5": _HEADED,
        "Exaone4": _LLAMA,
        "SeedOss": _HEADED,
        "Apertus": _LLAMA,
        "Arcee": _LLAMA,
        "HunYuanDenseV1": _HEADED,
        "Mixtral": {**_LLAMA, "num_local_experts": 4},
        "Olmoe": {**_LLAMA, "num_experts": 4, "num_experts_per_tok": 2},
        "Qwen2Moe": {
            **{**_LLAMA, "num_experts": 4, "moe_intermediate_size": 48},
            "shared_expert_intermediate_size": 48,
        },
        "Mamba": {"vocab_size": 99, "hidden_size": 48, "num_hidden_layers": 2, "state_size": 8},
        "Rwkv": {
            **{"vocab_size": 99, "hidden_size": 48, "num_hidden_layers": 2},
            **{"attention_hidden_size": 48, "context_length": 16},
        },
    },
    "ForConditionalGeneration": {
        "MT5": _T5,
        "LongT5": {**_T5, "local_radius": 3},
        "UMT5": _T5,
        "Bart": _BOTH,
        "MBart": _BOTH,
        "Pegasus": _BOTH,
        "Blenderbot": _BOTH,
        "M2M100": _BOTH,
        "PLBart": _BOTH,
        "Whisper": {**_BOTH, "num_mel_bins": 16, "max_source_positions": 20},
    },
    "ForCTC": {
        "Wav2Vec2": _SOUND,
        "Hubert": _SOUND,
        "UniSpeech": _SOUND,
        "WavLM": _SOUND,
        "Data2VecAudio": {**_SOUND, "conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 2},
    },
    "ForImageClassification": {
        "DeiT": _VIT,
        "Beit": _VIT,
        "Data2VecVision": _VIT,
        "Dinov2": {k: v for k, v in _VIT.items() if k != "intermediate_size"},
        "Dinov2WithRegisters": {k: v for k, v in _VIT.items() if k != "intermediate_size"},
        "IJepa": _VIT,
        "ViTMSN": _VIT,
        "PoolFormer": {**_STAGES, "image_size": 64},
        "ResNet": {**_STAGES, "embedding_size": 16, "layer_type": "basic"},
        "RegNet": {**_STAGES, "embedding_size": 16, "groups_width": 8},
        "Bit": {**_STAGES, "embedding_size": 16, "num_groups": 4},
        "Segformer": {**_PYRAMID, "image_size": 64},
        "Pvt": {**_PYRAMID, "image_size": 64},
        "PvtV2": {**_PYRAMID, "image_size": 64},
        "MobileViT": {
            **{"num_channels": 3, "image_size": 64, "hidden_sizes": [48, 64, 80]},
            "neck_hidden_sizes": [16, 16, 24, 32, 48, 64, 80],
        },
        "MobileNetV1": {"num_channels": 3, "image_size": 64, "depth_multiplier": 0.25},
        "FocalNet": {
            **{**_IMAGE, "patch_size": 4, "embed_dim": 16, "depths": [1, 1]},
            **{"hidden_sizes": [16, 32], "focal_levels": [1, 1], "focal_windows": [3, 3]},
        },
        "SwiftFormer": {
            **{"num_channels": 3, "image_size": 64, "depths": [1, 1, 1, 1]},
            "embed_dims": [16, 24, 32, 48],
        },
    },
}


def _configurations():
    found = {}
    for head, families in _KINDS.items():
        for name, more in families.items():
            found[name.lower()] = (name + head, f"{name}Config", more)
    return found


CONFIGURATIONS = _configurations()

# The configurations as published: what pruning them costs, and how much of them it reaches.
_WORDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_LARGE = {
    **{**_WORDS, "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 2048},
    **{"num_hidden_layers": 12, "num_attention_heads": 12, "num_key_value_heads": 4},
}
REAL = {
    "BERT-base": ("BertForSequenceClassification", "BertConfig", {}),
    "DistilBERT-base": ("DistilBertForSequenceClassification", "DistilBertConfig", {}),
    "ViT-B/16": ("ViTForImageClassification", "ViTConfig", {"image_size": 224}),
    "Swin-T": ("SwinForImageClassification", "SwinConfig", {"image_size": 224}),
    "ConvNeXt-T": ("ConvNextForImageClassification", "ConvNextConfig", {"image_size": 224}),
    "ConvNeXtV2-T": ("ConvNextV2ForImageClassification", "ConvNextV2Config", {"image_size": 224}),
    "GPT-2": ("GPT2LMHeadModel", "GPT2Config", {}),
    "Llama": ("LlamaForCausalLM", "LlamaConfig", _LARGE),
    "Qwen2": ("Qwen2ForCausalLM", "Qwen2Config", _LARGE),
    "Qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**_LARGE, "head_dim": 64}),
}

# In turn, so that a run cut short has seen something of every library.
_LANGUAGE = [f"transformers:{n}" for n in CONFIGURATIONS]
_VISION = [f"timm:{n}" for n in TIMM]
_OLDER = [f"torchvision:{n}" for n in TORCHVISION]
NAMES = [
    name
    for i in range(max(len(_VISION), len(_LANGUAGE)))
    for name in (*_VISION[i : i + 1], *_LANGUAGE[i : i + 1], *_OLDER[i : i + 1])
]
