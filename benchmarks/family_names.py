"""The models of ``families.py``: none of them is named by a test."""

TIMM = """
mobilenetv2_050 mobilenetv3_small_050 efficientnet_lite0 mixnet_s tinynet_e ghostnet_050 ghostnetv2_100
semnasnet_075 fbnetc_100 spnasnet_100 mnasnet_small lcnet_050 hardcorenas_a rexnet_100 resnet10t resnet14t
seresnet18 skresnet18 ecaresnet26t resnest14d res2net50_14w_8s gernet_s regnetx_002 regnety_002 regnetz_005
dla46_c dla34 selecsls42 vovnet39a ese_vovnet19b_dw hrnet_w18_small cspresnet50 cspdarknet53 darknet17
densenetblur121d dpn48b inception_next_atto convnext_atto convnext_femto convnextv2_atto convnextv2_femto
edgenext_xx_small mobilenext mobileone_s0 repvgg_a0 repghostnet_050 starnet_s1 fasternet_t0 rdnet_tiny
efficientformer_l1 efficientformerv2_s0 efficientvit_b0 efficientvit_m0 fastvit_t8 levit_128s levit_conv_128s
mobilevit_xxs mobilevitv2_050 edgevit_xs tiny_vit_5m_224 repvit_m0_9 mobilenetv4_conv_small_050
mobilenetv4_conv_small mobilenetv4_hybrid_medium shvit_s1 swiftformer_xs
deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224 vit_small_patch32_224
vit_medium_patch16_gap_240 vit_relpos_small_patch16_224 vit_srelpos_small_patch16_224 vit_wee_patch16_reg1_gap_256
beit_base_patch16_224 eva02_tiny_patch14_224 cait_xxs24_224 crossvit_tiny_240 xcit_nano_12_p16_224 pit_ti_224
pit_ti_distilled_224 convit_tiny coat_lite_tiny coat_tiny coatnet_pico_rw_224 coatnet_nano_rw_224 maxvit_pico_rw_256
maxxvit_rmlp_nano_rw_256 swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_ns_224
swin_s3_tiny_224 twins_svt_small twins_pcpvt_small pvt_v2_b0 poolformer_s12 poolformerv2_s12 convformer_s18
caformer_s18 davit_tiny focalnet_tiny_srf gcvit_xxtiny nest_tiny visformer_tiny tnt_s_patch16_224
volo_d1_224 sequencer2d_s mixer_s32_224 gmixer_12_224 resmlp_12_224 gmlp_ti16_224 convmixer_768_32 hiera_tiny_224
mvitv2_tiny hgnet_tiny hgnetv2_b0 nextvit_small nf_regnet_b0 nf_resnet26 dm_nfnet_f0 eca_nfnet_l0 nfnet_l0
resnetv2_50 resnetv2_50d_gn resnetrs50 lambda_resnet26t halonet26t botnet26t_256 bat_resnext26ts gcresnet50t
eca_botnext26ts_256 lamhalobotnet50ts_256 haloregnetz_b resnet26t seresnext26d_32x4d resnext26ts skresnext50_32x4d
wide_resnet50_2 xception41p inception_v4 inception_resnet_v2 nasnetalarge pnasnet5large tresnet_m vgg11_bn
efficientnet_b0 efficientnetv2_rw_t efficientnet_es efficientnet_cc_b0_4e tf_efficientnet_lite0 tf_mixnet_s
tf_mobilenetv3_small_075 mobilenet_edgetpu_100 fbnetv3_b csatv2 vitamin_small_224 sam2_hiera_tiny
""".split()
TORCHVISION = """
squeezenet1_1 shufflenet_v2_x0_5 mnasnet0_5 googlenet efficientnet_b0 regnet_y_400mf resnext50_32x4d inception_v3
mobilenet_v3_large vgg11 alexnet densenet169 efficientnet_v2_s convnext_tiny swin_t swin_v2_t maxvit_t vit_b_32
wide_resnet50_2
""".split()

_BERT = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 99,
}
_PLACES = {"max_position_embeddings": 64}
_LLAMA = {**_BERT, **_PLACES, "num_key_value_heads": 2, "pad_token_id": 0}
_IMAGE = {"image_size": 32, "num_channels": 3}
_VIT = {k: v for k, v in _BERT.items() if k != "vocab_size"} | {**_IMAGE, "patch_size": 8}


def _head(name, what, more):
    return f"{name}{what}", f"{name}Config", more


CONFIGURATIONS = {
    "albert": _head("Albert", "ForMaskedLM", {**_BERT, "embedding_size": 24}),
    "roberta": _head("Roberta", "ForMaskedLM", {**_BERT, **_PLACES}),
    "electra": _head("Electra", "ForMaskedLM", {**_BERT, "embedding_size": 24}),
    "deberta": _head("Deberta", "ForSequenceClassification", _BERT),
    "deberta_v2": _head("DebertaV2", "ForSequenceClassification", _BERT),
    "mpnet": _head("MPNet", "ForMaskedLM", _BERT),
    "squeezebert": _head("SqueezeBert", "ForMaskedLM", {**_BERT, "embedding_size": 48}),
    "mobilebert": _head(
        "MobileBert",
        "ForMaskedLM",
        {**_BERT, "embedding_size": 24, "intra_bottleneck_size": 24, "true_hidden_size": 24},
    ),
    "funnel": _head(
        "Funnel",
        "ForMaskedLM",
        {
            "vocab_size": 99,
            "d_model": 48,
            "n_head": 4,
            "d_head": 12,
            "d_inner": 96,
            "block_sizes": [1, 1],
        },
    ),
    "modernbert": _head("ModernBert", "ForMaskedLM", {**_BERT, "pad_token_id": 0}),
    "layoutlm": _head("LayoutLM", "ForMaskedLM", _BERT),
    "nystromformer": _head(
        "Nystromformer", "ForMaskedLM", {**_BERT, "num_landmarks": 4, "segment_means_seq_len": 12}
    ),
    "xlnet": _head(
        "XLNet",
        "LMHeadModel",
        {
            "vocab_size": 99,
            "d_model": 48,
            "n_layer": 2,
            "n_head": 4,
            "d_inner": 96,
            "use_mems_eval": False,
        },
    ),
    "fnet": _head("FNet", "ForMaskedLM", _BERT),
    "gpt2_small": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": 99, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64},
    ),
    "gpt_neo": _head(
        "GPTNeo",
        "ForCausalLM",
        {
            "vocab_size": 99,
            "hidden_size": 48,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
        },
    ),
    "gpt_neox": _head("GPTNeoX", "ForCausalLM", {**_BERT, **_PLACES}),
    "gptj": _head(
        "GPTJ",
        "ForCausalLM",
        {
            "vocab_size": 99,
            "n_embd": 48,
            "n_layer": 2,
            "n_head": 4,
            "rotary_dim": 4,
            "n_positions": 64,
        },
    ),
    "opt": _head(
        "OPT",
        "ForCausalLM",
        {
            "vocab_size": 99,
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 96,
            "word_embed_proj_dim": 48,
            **_PLACES,
        },
    ),
    "bloom": _head(
        "Bloom", "ForCausalLM", {"vocab_size": 99, "hidden_size": 48, "n_layer": 2, "n_head": 4}
    ),
    "codegen": _head(
        "CodeGen",
        "ForCausalLM",
        {
            "vocab_size": 99,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "rotary_dim": 4,
            "n_positions": 64,
        },
    ),
    "falcon": _head("Falcon", "ForCausalLM", {**_BERT, **_PLACES}),
    "mistral": _head("Mistral", "ForCausalLM", _LLAMA),
    "gemma": _head("Gemma", "ForCausalLM", {**_LLAMA, "head_dim": 12}),
    "gemma2": _head("Gemma2", "ForCausalLM", {**_LLAMA, "head_dim": 12}),
    "phi": _head("Phi", "ForCausalLM", {**_BERT, **_PLACES}),
    "phi3": _head("Phi3", "ForCausalLM", _LLAMA),
    "qwen3": _head("Qwen3", "ForCausalLM", {**_LLAMA, "head_dim": 12}),
    "olmo": _head("Olmo", "ForCausalLM", _LLAMA),
    "olmo2": _head("Olmo2", "ForCausalLM", _LLAMA),
    "stablelm": _head(
        "StableLm",
        "ForCausalLM",
        {
            **_LLAMA,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "partial_rotary_factor": 0.5,
            },
        },
    ),
    "starcoder2": _head("Starcoder2", "ForCausalLM", _LLAMA),
    "granite": _head("Granite", "ForCausalLM", _LLAMA),
    "cohere": _head("Cohere", "ForCausalLM", _LLAMA),
    "mixtral": _head("Mixtral", "ForCausalLM", {**_LLAMA, "num_local_experts": 4}),
    "qwen2_moe": _head(
        "Qwen2Moe",
        "ForCausalLM",
        {
            **_LLAMA,
            "num_experts": 4,
            "moe_intermediate_size": 48,
            "shared_expert_intermediate_size": 48,
        },
    ),
    "mamba": _head(
        "Mamba",
        "ForCausalLM",
        {"vocab_size": 99, "hidden_size": 48, "num_hidden_layers": 2, "state_size": 8},
    ),
    "t5": _head(
        "T5",
        "ForConditionalGeneration",
        {"vocab_size": 99, "d_model": 48, "d_kv": 12, "d_ff": 96, "num_layers": 2, "num_heads": 4},
    ),
    "mt5": _head(
        "MT5",
        "ForConditionalGeneration",
        {"vocab_size": 99, "d_model": 48, "d_kv": 12, "d_ff": 96, "num_layers": 2, "num_heads": 4},
    ),
    "bart": _head(
        "Bart",
        "ForConditionalGeneration",
        {
            "vocab_size": 99,
            "d_model": 48,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 96,
            "decoder_ffn_dim": 96,
            **_PLACES,
        },
    ),
    "deit": _head("DeiT", "ForImageClassification", _VIT),
    "beit": _head("Beit", "ForImageClassification", _VIT),
    "dinov2": _head(
        "Dinov2",
        "ForImageClassification",
        {k: v for k, v in _VIT.items() if k != "intermediate_size"},
    ),
    "vit_mae": _head("ViTMSN", "ForImageClassification", _VIT),
    "poolformer": _head(
        "PoolFormer",
        "ForImageClassification",
        {
            "num_channels": 3,
            "image_size": 64,
            "hidden_sizes": [16, 24, 32, 48],
            "depths": [1, 1, 1, 1],
        },
    ),
    "resnet": _head(
        "ResNet",
        "ForImageClassification",
        {
            "num_channels": 3,
            "image_size": 64,
            "embedding_size": 16,
            "hidden_sizes": [16, 24, 32, 48],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
        },
    ),
    "cvt": _head(
        "Cvt",
        "ForImageClassification",
        {
            **_IMAGE,
            "image_size": 64,
            "embed_dim": [16, 32, 48],
            "num_heads": [1, 2, 4],
            "depth": [1, 1, 2],
        },
    ),
    "segformer": _head(
        "Segformer",
        "ForImageClassification",
        {
            "num_channels": 3,
            "image_size": 64,
            "hidden_sizes": [16, 24, 32, 48],
            "num_attention_heads": [1, 2, 4, 4],
            "depths": [1, 1, 1, 1],
        },
    ),
    "pvt": _head(
        "Pvt",
        "ForImageClassification",
        {
            "num_channels": 3,
            "image_size": 64,
            "hidden_sizes": [16, 24, 32, 48],
            "num_attention_heads": [1, 2, 4, 4],
            "depths": [1, 1, 1, 1],
        },
    ),
    "mobilevit": _head(
        "MobileViT",
        "ForImageClassification",
        {
            "num_channels": 3,
            "image_size": 64,
            "hidden_sizes": [48, 64, 80],
            "neck_hidden_sizes": [16, 16, 24, 32, 48, 64, 80],
        },
    ),
}

# In turn, so that a run cut short has seen something of every library.
_LANGUAGE = [f"transformers:{n}" for n in CONFIGURATIONS]
_VISION = [f"timm:{n}" for n in TIMM]
NAMES = [
    name
    for i in range(len(_VISION))
    for name in (
        *_VISION[i : i + 1],
        *_LANGUAGE[i : i + 1],
        *[f"torchvision:{n}" for n in TORCHVISION[i : i + 1]],
    )
]
