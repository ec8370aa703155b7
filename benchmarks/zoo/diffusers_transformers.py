"""Transformers of diffusers: what each takes, and its options."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.inputs import Listed, floats, images, integers, ones

_TIME, _TEXT = integers(below=1000), floats(7, 32, other=(9, 32))
_LATENT, _VIDEO = images(8, 16, channels=4), floats(4, 2, 8, 8)
_MASK = ones(7, other=(9,))
_HEADS = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "in_channels": 4}
_IN_OUT = {**_HEADS, "out_channels": 4}
_PACKED = {
    **{"hidden_states": floats(16, 4), "encoder_hidden_states": _TEXT, "timestep": floats()},
    **{"img_ids": floats(16, 3, rows=0), "txt_ids": floats(7, 3, other=(9, 3), rows=0)},
}
_ROPE = {**_HEADS, "num_single_layers": 2, "joint_attention_dim": 32, "axes_dims_rope": (4, 4, 8)}
_WAN = {**_IN_OUT, "text_dim": 32, "freq_dim": 16, "ffn_dim": 64, "rope_max_seq_len": 32}
_TEXT_VIDEO = {"hidden_states": _VIDEO, "timestep": _TIME, "encoder_hidden_states": _TEXT}
_TEXT_IMAGE = {"hidden_states": _LATENT, "timestep": _TIME, "encoder_hidden_states": _TEXT}
_COG = {
    **{"original_size": floats(2), "target_size": floats(2), "crop_coords": floats(2)},
    **_TEXT_IMAGE,
}

MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "DiTTransformer2DModel": (
        {"hidden_states": _LATENT, "timestep": _TIME, "class_labels": integers(below=5)},
        {**_HEADS, "sample_size": 8, "num_embeds_ada_norm": 5, "out_channels": 8},
    ),
    "Transformer2DModel": (
        {"hidden_states": floats(32, 8, 8, other=(32, 16, 16)), "encoder_hidden_states": _TEXT},
        {**_HEADS, "in_channels": 32, "norm_num_groups": 4, "cross_attention_dim": 32, "attention_bias": True},
    ),
    "Transformer2DModel-vectors": (
        {"hidden_states": integers(16, below=10), "encoder_hidden_states": _TEXT},
        {
            **{"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 1, "sample_size": 4},
            **{"num_vector_embeds": 11, "cross_attention_dim": 32},
        },
    ),
    "DualTransformer2DModel": (
        {"hidden_states": floats(32, 8, 8), "encoder_hidden_states": floats(334, 32)},
        {**_HEADS, "in_channels": 32, "norm_num_groups": 4, "cross_attention_dim": 32},
    ),
    "TransformerTemporalModel": (
        {"hidden_states": floats(32, 8, 8, rows=2), "num_frames": 2},
        {**_HEADS, "in_channels": 32, "norm_num_groups": 4},
    ),
    "PixArtTransformer2DModel": (
        {**_TEXT_IMAGE, "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}},
        {
            **{**_HEADS, "sample_size": 8, "cross_attention_dim": 32, "caption_channels": 32, "out_channels": 8},
            "use_additional_conditions": False,
        },
    ),
    "SD3Transformer2DModel": (
        {**_TEXT_IMAGE, "pooled_projections": floats(16)},
        {
            **{**_IN_OUT, "sample_size": 8, "joint_attention_dim": 32, "caption_projection_dim": 32},
            **{"pooled_projection_dim": 16, "pos_embed_max_size": 16, "dual_attention_layers": (0,)},
            "qk_norm": "rms_norm",
        },
    ),
    "SD3ControlNetModel": (
        {**_TEXT_IMAGE, "pooled_projections": floats(16), "controlnet_cond": _LATENT},
        {
            **{**_IN_OUT, "sample_size": 8, "joint_attention_dim": 32, "caption_projection_dim": 32},
            **{"pooled_projection_dim": 16, "pos_embed_max_size": 16},
        },
    ),
    "FluxTransformer2DModel": (
        {**_PACKED, "pooled_projections": floats(16), "guidance": floats()},
        {**_ROPE, "pooled_projection_dim": 16, "guidance_embeds": True},
    ),
    "FluxControlNetModel": (
        {**_PACKED, "pooled_projections": floats(16), "controlnet_cond": floats(16, 4)},
        {**_ROPE, "pooled_projection_dim": 16},
    ),
    "Flux2Transformer2DModel": (
        {
            **_PACKED,
            "img_ids": floats(16, 4, rows=0),
            "txt_ids": floats(7, 4, other=(9, 4), rows=0),
            "guidance": floats(),
        },
        {**_ROPE, "axes_dims_rope": (4, 4, 4, 4), "timestep_guidance_channels": 16},
    ),
    "ChromaTransformer2DModel": (
        {**_PACKED},
        {**_ROPE, "approximator_num_channels": 8, "approximator_hidden_dim": 32, "approximator_layers": 1},
    ),
    "BriaTransformer2DModel": (_PACKED, _ROPE),
    "OvisImageTransformer2DModel": (_PACKED, {**_ROPE, "out_channels": 4}),
    "LongCatImageTransformer2DModel": (_PACKED, {**_ROPE, "pooled_projection_dim": 16}),
    "AuraFlowTransformer2DModel": (
        _TEXT_IMAGE,
        {
            **{"sample_size": 8, "in_channels": 4, "num_mmdit_layers": 1, "num_single_dit_layers": 1},
            **{"attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 32},
            **{"caption_projection_dim": 32, "out_channels": 4, "pos_embed_max_size": 64},
        },
    ),
    "HunyuanDiT2DModel": (
        {
            **{"hidden_states": images(8, channels=4), "timestep": floats(), "encoder_hidden_states": floats(7, 32)},
            "text_embedding_mask": ones(7),
            **{"encoder_hidden_states_t5": floats(5, 32), "text_embedding_mask_t5": ones(5)},
            **{"image_meta_size": floats(6), "style": integers(below=1)},
            "image_rotary_emb": [floats(16, 16, rows=0), floats(16, 16, rows=0)],
        },
        {
            **{**_HEADS, "patch_size": 2, "sample_size": 8, "hidden_size": 32, "cross_attention_dim": 32},
            **{"cross_attention_dim_t5": 32, "pooled_projection_dim": 16, "text_len": 7, "text_len_t5": 5},
        },
    ),
    "Lumina2Transformer2DModel": (
        {**_TEXT_IMAGE, "timestep": floats(), "encoder_attention_mask": _MASK},
        {
            **{"sample_size": 8, "in_channels": 4, "hidden_size": 32, "num_layers": 2, "num_refiner_layers": 1},
            **{"num_attention_heads": 2, "num_kv_heads": 1, "multiple_of": 16, "axes_dim_rope": (4, 4, 8)},
            **{"axes_lens": (32, 32, 32), "cap_feat_dim": 32},
        },
    ),
    "SanaTransformer2DModel": (
        _TEXT_IMAGE,
        {
            **{**_IN_OUT, "num_cross_attention_heads": 2, "cross_attention_head_dim": 16, "sample_size": 8},
            **{"cross_attention_dim": 32, "caption_channels": 32},
        },
    ),
    "CogView3PlusTransformer2DModel": (
        _COG,
        {
            **{**_IN_OUT, "text_embed_dim": 32, "time_embed_dim": 16, "condition_dim": 4, "sample_size": 8},
            "pos_embed_max_size": 16,
        },
    ),
    "CogView4Transformer2DModel": (
        _COG,
        {
            **{**_IN_OUT, "text_embed_dim": 32, "time_embed_dim": 16, "condition_dim": 4, "sample_size": 8},
            "rope_axes_dim": (16, 16),
        },
    ),
    "CogVideoXTransformer3DModel": (
        {"hidden_states": floats(2, 4, 8, 8), "timestep": _TIME, "encoder_hidden_states": floats(7, 32)},
        {
            **{**_IN_OUT, "text_embed_dim": 32, "time_embed_dim": 8, "sample_width": 8, "sample_height": 8},
            **{"sample_frames": 5, "max_text_seq_length": 7},
        },
    ),
    "LatteTransformer3DModel": (
        {"hidden_states": _VIDEO, "timestep": _TIME, "encoder_hidden_states": _TEXT},
        {
            **{**_HEADS, "sample_size": 8, "patch_size": 2, "out_channels": 8, "cross_attention_dim": 32},
            **{"caption_channels": 32, "video_length": 2, "num_embeds_ada_norm": 1000, "attention_bias": True},
            **{"norm_type": "ada_norm_single", "norm_elementwise_affine": False, "activation_fn": "gelu-approximate"},
        },
    ),
    "AllegroTransformer3DModel": (
        {
            **{**_TEXT_VIDEO, "encoder_attention_mask": _MASK, "attention_mask": ones(2, 8, 8)},
            "image_rotary_emb": None,
        },
        {
            **{**_IN_OUT, "sample_width": 8, "sample_height": 8, "sample_frames": 2, "cross_attention_dim": 32},
            "caption_channels": 32,
        },
    ),
    "MochiTransformer3DModel": (
        {**_TEXT_VIDEO, "encoder_attention_mask": _MASK},
        {**_HEADS, "pooled_projection_dim": 16, "text_embed_dim": 32, "time_embed_dim": 4, "max_sequence_length": 16},
    ),
    "LTXVideoTransformer3DModel": (
        {
            **{"hidden_states": floats(32, 4), "encoder_hidden_states": _TEXT, "timestep": _TIME},
            **{"encoder_attention_mask": _MASK, "num_frames": 2, "height": 4, "width": 4},
        },
        {**_IN_OUT, "cross_attention_dim": 32, "caption_channels": 32, "qk_norm": "rms_norm_across_heads"},
    ),
    "HunyuanVideoTransformer3DModel": (
        {**_TEXT_VIDEO, "encoder_attention_mask": _MASK, "pooled_projections": floats(16), "guidance": floats()},
        {
            **{**_IN_OUT, "num_single_layers": 1, "num_refiner_layers": 1, "text_embed_dim": 32},
            **{"pooled_projection_dim": 16, "rope_axes_dim": (4, 4, 8)},
        },
    ),
    "EasyAnimateTransformer3DModel": (
        _TEXT_VIDEO,
        {
            **{**_IN_OUT, "patch_size": 2, "sample_width": 8, "sample_height": 8, "time_embed_dim": 8},
            **{"text_embed_dim": 32, "mmdit_layers": 1},
        },
    ),
    "WanTransformer3DModel": (_TEXT_VIDEO, _WAN),
    "WanVACETransformer3DModel": (
        {**_TEXT_VIDEO, "control_hidden_states": floats(8, 2, 8, 8)},
        {**_WAN, "vace_layers": [0], "vace_in_channels": 8},
    ),
    "SkyReelsV2Transformer3DModel": (_TEXT_VIDEO, _WAN),
    "ChronoEditTransformer3DModel": (_TEXT_VIDEO, _WAN),
    "CosmosTransformer3DModel": (
        {**_TEXT_VIDEO, "padding_mask": floats(1, 1, 8, 8, rows=0), "fps": 30},
        {
            **{**_IN_OUT, "text_embed_dim": 32, "adaln_lora_dim": 4, "max_size": (4, 16, 16)},
            "extra_pos_embed_type": None,
        },
    ),
    "ConsisIDTransformer3DModel": (
        {"hidden_states": floats(1, 4, 8, 8), "timestep": _TIME, "encoder_hidden_states": floats(7, 32)},
        {
            **{**_IN_OUT, "text_embed_dim": 32, "time_embed_dim": 8, "sample_width": 8, "sample_height": 8},
            **{"sample_frames": 1, "max_text_seq_length": 7},
        },
    ),
    "OmniGenTransformer2DModel": (
        {
            **{
                "hidden_states": images(8, channels=4),
                "timestep": floats(),
                "input_ids": None,
                "input_img_latents": None,
            },
            **{"input_image_sizes": {}, "attention_mask": ones(17, 17), "position_ids": integers(17, below=17)},
        },
        {
            **{"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 64},
            **{"num_layers": 2, "pad_token_id": 0, "vocab_size": 99, "pos_embed_max_size": 16, "time_step_dim": 8},
            "rope_scaling": {"long_factor": [1.0] * 4, "short_factor": [1.0] * 4},
        },
    ),
    "PRXTransformer2DModel": (
        {**_TEXT_IMAGE, "timestep": floats()},
        {
            **{"in_channels": 4, "context_in_dim": 32, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 2, "depth": 2},
            "axes_dim": [8, 8],
        },
    ),
    "QwenImageTransformer2DModel": (
        {
            **{"hidden_states": floats(16, 16), "encoder_hidden_states": _TEXT, "timestep": floats()},
            **{"encoder_hidden_states_mask": _MASK, "img_shapes": [[(1, 4, 4)]]},
        },
        {**_HEADS, "in_channels": 16, "out_channels": 4, "joint_attention_dim": 32, "axes_dims_rope": (4, 4, 8)},
    ),
    "ZImageTransformer2DModel": (
        {"x": Listed(floats(4, 1, 8, 8)), "t": floats(), "cap_feats": Listed(floats(7, 32))},
        {
            **{"in_channels": 4, "dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2},
            **{"cap_feat_dim": 32, "axes_dims": [4, 4, 8], "axes_lens": [64, 32, 32]},
        },
    ),
    "StableAudioDiTModel": (
        {
            **{"hidden_states": floats(4, 12), "timestep": floats(), "encoder_hidden_states": _TEXT},
            "global_hidden_states": floats(1, 16),
        },
        {
            **{**_IN_OUT, "sample_size": 12, "num_key_value_attention_heads": 2, "cross_attention_dim": 32},
            **{"time_proj_dim": 8, "global_states_input_dim": 16, "cross_attention_input_dim": 32},
        },
    ),
    "Kandinsky5Transformer3DModel": (
        {
            **{"hidden_states": floats(2, 8, 8, 4), "timestep": floats(), "encoder_hidden_states": floats(7, 32)},
            **{"pooled_projections": floats(16), "visual_rope_pos": [range(2), range(4), range(4)]},
            "text_rope_pos": range(7),
        },
        {
            **{"in_visual_dim": 4, "in_text_dim": 32, "in_text_dim2": 16, "time_dim": 16, "model_dim": 32},
            **{"ff_dim": 64, "num_text_blocks": 1, "num_visual_blocks": 1, "axes_dims": (4, 4, 8)},
        },
    ),
}
