"""Architectures of transformers, each from a small configuration, with random weights."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.zoo import transformers_sequences, transformers_vision
from benchmarks.zoo.inputs import floats, images, tokens
from benchmarks.zoo.zoo_model import ZooModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn


def list_models() -> Iterator[ZooModel]:
    """Yield a small model of each architecture: those that the sizes of `_SMALL` suffice for, then the others."""
    special = {**transformers_sequences.MODELS, **transformers_vision.MODELS}
    for zoo in dict.fromkeys([*_PLAIN, *special]):
        for takes, options, names in _PLAIN.get(zoo, []):
            for name in names.split():
                yield _entry(f"transformers.{zoo}", name, takes, options)
        for name, (takes, options) in special.get(zoo, {}).items():
            yield _entry(f"transformers.{zoo}", name, takes, options)


def _entry(zoo: str, name: str, takes: dict[str, Any], options: Mapping[str, Any]) -> ZooModel:
    return ZooModel(zoo, name, partial(_build, name, options), (), ("transformers",), takes)


def _build(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Build a model from its type and the options of its configuration. ``head`` names another class than AutoModel."""
    import transformers

    options = dict(options)
    head = getattr(transformers, options.pop("head", "AutoModel"))
    configuration = _small_configuration(transformers.CONFIG_MAPPING[name], options)
    model: nn.Module = head.from_config(configuration) if hasattr(head, "from_config") else head(configuration)
    return model


def _small_configuration(kind: Any, options: Mapping[str, Any]) -> Any:
    """Return a configuration of a class, with small sizes. An option that is a mapping is for a part of the model."""
    from transformers import CONFIG_MAPPING

    default = kind().to_dict()
    # Only single numbers are replaced: a list has an item for each stage of the model.
    small = {name: size for name, size in _SMALL.items() if name in default and type(default[name]) in _NUMBERS}
    parts = {}
    for name, part in (getattr(kind, "sub_configs", None) or {}).items():
        inner = dict(options.get(name) or {})
        model_type = inner.pop("model_type", None) or (default.get(name) or {}).get("model_type")
        if name in default and (inner or model_type or default[name]):
            # The mapping imports a class when it is indexed; its `get` does not.
            inner_kind = CONFIG_MAPPING[model_type] if model_type in CONFIG_MAPPING else part  # noqa: SIM401
            parts[name] = _small_configuration(inner_kind, inner)
    return kind(**{**small, **options, **parts})


_NUMBERS = {int, type(None)}

_SMALL = {
    **dict.fromkeys(
        ["hidden_size", "d_model", "n_embd", "dim", "embed_dim", "embedding_size", "emb_dim", "embedding_dim"], 32
    ),
    **dict.fromkeys(["num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers"], 2),
    **dict.fromkeys(["num_encoder_layers", "num_decoder_layers", "num_feat_extract_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "num_heads", "n_head", "n_heads"], 4),
    **dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 4),
    **dict.fromkeys(
        ["intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "n_inner", "hidden_dim"], 64
    ),
    **dict.fromkeys(
        ["max_position_embeddings", "n_positions", "n_ctx", "max_source_positions", "max_target_positions"], 64
    ),
    **dict.fromkeys(["num_experts", "num_local_experts", "n_routed_experts"], 4),
    **dict.fromkeys(["head_dim", "d_kv", "state_size", "patch_size", "num_conv_pos_embeddings"], 8),
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "projection_dim": 32,
    "vocab_size": 99,
    "image_size": 32,
    "num_mel_bins": 16,
    "n_mels": 16,
    "num_conv_pos_embedding_groups": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}

_TEXT = {"input_ids": tokens()}
_ENCODER_DECODER = {"input_ids": tokens(), "decoder_input_ids": tokens(6)}
_WAVEFORM = {"input_values": floats(400, other=(720,))}

_PLAIN: dict[str, list[tuple[dict[str, Any], dict[str, Any], str]]] = {
    "text": [
        (
            _TEXT,
            {},
            """
        albert apertus arcee bert bert-generation big_bird biogpt bitnet bloom camembert canine cohere cohere2
        convbert cpmant ctrl data2vec-text deberta deberta-v2 diffllama distilbert doge electra ernie esm eurobert
        exaone4 falcon flaubert fnet gemma gemma2 gemma3_text glm glm4 gpt2 gpt_bigcode gpt_neox
        gpt_neox_japanese granite gte helium ibert jina_embeddings_v3 layoutlm llama longformer markuplm
        megatron-bert ministral mistral mobilebert modernbert modernbert-decoder mpnet mpt mra nanochat nemotron
        nomic_bert nystromformer olmo2 olmo3 openai-gpt opt persimmon phi phi3 qwen2 qwen3 rembert roberta
        roberta-prelayernorm roformer seed_oss smollm3 splinter squeezebert stablelm starcoder2 tapas
        vaultgemma visual_bert xglm xlm xlm-roberta-xl xlnet yoso
        """,
        )
    ],
    "mixture_of_experts": [
        (
            _TEXT,
            {},
            """
        aria_text ernie4_5_moe flex_olmo glm4_moe gpt_oss granitemoe granitemoeshared
        hunyuan_v1_moe jetmoe laguna llama4_text minimax_m2 mixtral olmoe phimoe qwen2_moe qwen3_moe
        """,
        )
    ],
    "state_space": [(_TEXT, {}, "falcon_h1 lfm2 olmo_hybrid rwkv")],
    "encoder_decoder": [
        (
            _ENCODER_DECODER,
            {},
            """
        bart bigbird_pegasus blenderbot blenderbot-small fsmt led longt5 m2m_100 marian mbart mt5 mvp nllb-moe pegasus
        pegasus_x plbart prophetnet switch_transformers t5 t5gemma umt5
        """,
        )
    ],
    "vision": [
        (
            {"pixel_values": images(32)},
            {},
            """
        aimv2_vision_model beit data2vec-vision deit dinov2 dinov2_with_registers dinov3_vit dpt
        focalnet idefics3_vision ijepa internvl_vision mlcd_vision_model mobilenet_v1 mobilenet_v2
        mobilevit pixtral pixio poolformer radio sam3_vit_model sam_vision_model
        siglip_vision_model swiftformer textnet tipsv2_vision_model vit vit_mae vit_msn vitdet
        """,
        ),
    ],
    "vision_language": [
        (
            {"input_ids": tokens(), "pixel_values": images(32)},
            {},
            """
        aimv2 altclip blip chinese_clip clip clipseg flava git metaclip_2 owlv2 owlvit siglip vilt
    """,
        )
    ],
    "audio": [
        (
            _WAVEFORM,
            {"conv_dim": [16, 16], "conv_kernel": [5, 3], "conv_stride": [3, 2]},
            """
        data2vec-audio hubert sew sew-d unispeech unispeech-sat wav2vec2 wav2vec2-conformer wavlm
    """,
        )
    ],
}
