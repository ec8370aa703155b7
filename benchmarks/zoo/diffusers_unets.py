"""U-Nets of diffusers, and the networks that condition them: what each takes, and its options."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.inputs import floats, images, integers, tokens

_TEXT, _TIME = floats(7, 32, other=(9, 32)), integers(below=1000)
_LATENT = images(16, 32, channels=4)
_BLOCKS = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
_CONDITION: dict[str, Any] = {
    **_BLOCKS,
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
}
_CONDITIONED = {"sample": _LATENT, "timestep": _TIME, "encoder_hidden_states": _TEXT}
_UP = {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
_VIDEO = floats(4, 3, 16, 16)
_MOTION = {
    **{"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1, "cross_attention_dim": 32},
    **{"num_attention_heads": 2, "motion_num_attention_heads": 2, "motion_max_seq_length": 8},
    "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
}

MODELS: dict[str, tuple[tuple[Any, ...] | dict[str, Any], dict[str, Any]]] = {
    "UNet1DModel": (
        {"sample": floats(14, 16), "timestep": _TIME},
        {
            **{"in_channels": 14, "out_channels": 14, "time_embedding_type": "positional", "flip_sin_to_cos": False},
            **{"use_timestep_embedding": True, "out_block_type": "OutConv1DBlock", "act_fn": "silu"},
            "down_block_types": ("DownResnetBlock1D",) * 2,
            "up_block_types": ("UpResnetBlock1D",),
            **{"mid_block_type": "MidResTemporalBlock1D", "block_out_channels": (8, 16), "freq_shift": 1.0},
        },
    ),
    "UNet2DModel": (
        {"sample": images(16, 32), "timestep": _TIME},
        {
            **_BLOCKS,
            **{"attention_head_dim": 4, "down_block_types": ("DownBlock2D", "AttnDownBlock2D")},
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        },
    ),
    "UNet2DModel-skip": (
        {"sample": images(16, 32), "timestep": _TIME},
        {
            **{"block_out_channels": (32, 32), "layers_per_block": 1, "time_embedding_type": "fourier"},
            **{"down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D"), "attention_head_dim": 8},
            "up_block_types": ("SkipUpBlock2D", "AttnSkipUpBlock2D"),
        },
    ),
    "UNet2DConditionModel": (_CONDITIONED, {**_CONDITION, **_UP}),
    "UNet2DConditionModel-class": (
        {**_CONDITIONED, "class_labels": integers(below=5)},
        {
            **_CONDITION,
            **_UP,
            "num_class_embeds": 5,
            "use_linear_projection": True,
            "resnet_time_scale_shift": "scale_shift",
        },
    ),
    "UNet2DConditionModel-simple": (
        _CONDITIONED,
        {
            **{**_CONDITION, "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D")},
            "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        },
    ),
    "UNet2DConditionModel-added": (
        {**_CONDITIONED, "added_cond_kwargs": {"text_embeds": floats(16), "time_ids": floats(6)}},
        {
            **{**_CONDITION, **_UP, "addition_embed_type": "text_time", "addition_time_embed_dim": 8},
            "projection_class_embeddings_input_dim": 64,
        },
    ),
    "UNet3DConditionModel": (
        {"sample": floats(4, 3, 16, 16), "timestep": _TIME, "encoder_hidden_states": _TEXT},
        {
            **{**_CONDITION, "attention_head_dim": 8, "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D")},
            "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
        },
    ),
    "UNetMotionModel": (
        {"sample": _VIDEO, "timestep": _TIME, "encoder_hidden_states": floats(7, 32, rows=3)},
        {**_MOTION, "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion")},
    ),
    "UNetSpatioTemporalConditionModel": (
        {
            **{"sample": floats(2, 8, 16, 16), "timestep": _TIME, "encoder_hidden_states": floats(1, 32)},
            "added_time_ids": floats(3),
        },
        {
            **{"block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 32, "num_frames": 2},
            **{"num_attention_heads": (2, 4), "addition_time_embed_dim": 8},
            **{"projection_class_embeddings_input_dim": 24, "in_channels": 8},
            "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        },
    ),
    "StableCascadeUNet": (
        {"sample": floats(4, 16, 16), "timestep_ratio": floats(), "clip_text_pooled": floats(1, 16)},
        {
            **{"in_channels": 4, "out_channels": 4, "conditioning_dim": 16, "block_out_channels": (16, 32)},
            **{"num_attention_heads": (2, 4), "down_num_layers_per_block": (1, 1), "up_num_layers_per_block": (1, 1)},
            **{"clip_text_pooled_in_channels": 16, "timestep_ratio_embedding_dim": 8},
            "block_types_per_layer": (("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),) * 2,
        },
    ),
    "DreamLiteUNetModel": (
        _CONDITIONED,
        {
            **{"block_out_channels": (8, 16, 16), "norm_num_groups": 4, "layers_per_block": 1},
            **{"cross_attention_dim": 32, "attention_head_dim": 4},
        },
    ),
    "ControlNetModel": (
        {**_CONDITIONED, "controlnet_cond": images(128, 256)},
        {**_CONDITION, "conditioning_embedding_out_channels": (4, 4, 8, 8)},
    ),
    "ControlNetUnionModel": (
        {
            **{**_CONDITIONED, "controlnet_cond": [images(128, 256)], "control_type": floats(6)},
            "added_cond_kwargs": {"text_embeds": floats(16), "time_ids": floats(6)},
            "control_type_idx": [1],
            "conditioning_scale": [1.0],
        },
        {
            **{**_CONDITION, "conditioning_embedding_out_channels": (4, 4, 8, 8), "num_trans_channel": 8},
            **{"num_trans_head": 2, "num_proj_channel": 8, "addition_embed_type": "text_time"},
            **{"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 64},
        },
    ),
    "SparseControlNetModel": (
        {
            **{"sample": _VIDEO, "timestep": _TIME, "encoder_hidden_states": floats(7, 32, rows=3)},
            "controlnet_cond": _VIDEO,
            "conditioning_mask": floats(1, 3, 16, 16),
        },
        {**_MOTION, "conditioning_channels": 4, "concat_conditioning_mask": True},
    ),
    "UNetControlNetXSModel": (
        {**_CONDITIONED, "controlnet_cond": images(128, 256)},
        {
            **{"block_out_channels": (8, 16), "norm_num_groups": 4, "cross_attention_dim": 32},
            **{"num_attention_heads": 2, "ctrl_block_out_channels": (4, 8), "ctrl_num_attention_heads": 2},
            **{"ctrl_conditioning_embedding_out_channels": (4, 4, 8, 8), "ctrl_max_norm_num_groups": 4},
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        },
    ),
    "T2IAdapter": ((images(64, 128),), {"channels": [8, 16], "num_res_blocks": 1, "downscale_factor": 8}),
    "T2IAdapter-light": (
        (images(64, 128),),
        {"channels": [8, 16], "num_res_blocks": 1, "downscale_factor": 8, "adapter_type": "light_adapter"},
    ),
    "UVit2DModel": (
        {
            **{"input_ids": integers(8, 8, below=31), "encoder_hidden_states": _TEXT, "pooled_text_emb": floats(16)},
            "micro_conds": floats(5),
        },
        {
            **{"hidden_size": 32, "cond_embed_dim": 16, "micro_cond_encode_dim": 8, "micro_cond_embed_dim": 40},
            **{"encoder_hidden_size": 32, "vocab_size": 33, "codebook_size": 32, "in_channels": 32},
            **{"block_out_channels": 32, "num_res_blocks": 1, "block_num_heads": 2, "num_hidden_layers": 2},
            **{"num_attention_heads": 2, "intermediate_size": 64, "sample_size": 8},
        },
    ),
    "T5FilmDecoder": (
        {
            "encodings_and_masks": [(floats(6, 32), integers(6, below=2, least=1))],
            **{"decoder_input_tokens": floats(8, 16), "decoder_noise_time": integers(below=1)},
        },
        {"input_dims": 16, "targets_length": 8, "d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8, "d_ff": 64},
    ),
    "PriorTransformer": (
        {
            **{"hidden_states": floats(16), "timestep": _TIME, "proj_embedding": floats(16)},
            "encoder_hidden_states": floats(7, 16),
        },
        {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "embedding_dim": 16, "num_embeddings": 7},
    ),
    "AnimaTextConditioner": (
        {"source_hidden_states": _TEXT, "target_input_ids": tokens()},
        {
            **{"source_dim": 32, "target_dim": 32, "model_dim": 32, "num_layers": 2, "num_attention_heads": 4},
            **{"target_vocab_size": 99, "min_sequence_length": 16},
        },
    ),
    "ImageProjection": (
        (floats(16),),
        {"image_embed_dim": 16, "cross_attention_dim": 16, "num_image_text_embeds": 4},
    ),
}
