"""Architectures of transformers for text, sound and series."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.inputs import floats, integers, ones, tokens, zeros

_TEXT = {"input_ids": tokens()}
_MLA = {
    "head_dim": 8,
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
_LINEAR = {
    "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_SERIES = {
    "past_values": floats(15),
    "past_time_features": floats(15, 2),
    "past_observed_mask": ones(15),
    "future_values": floats(4),
    "future_time_features": floats(4, 2),
}
_FORECAST = {
    "prediction_length": 4,
    "context_length": 8,
    "num_time_features": 2,
    "lags_sequence": [1, 3, 7],
    "moving_average": 5,
}

MODELS: dict[str, dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "text": {
        "gpt_neo": (_TEXT, {"attention_types": [[["global", "local"], 1]], "window_size": 4}),
        "gptj": (_TEXT, {"rotary_dim": 4}),
        "codegen": (_TEXT, {"rotary_dim": 4}),
        "funnel": (_TEXT, {"head": "FunnelModel", "block_sizes": [1, 1], "d_head": 8, "d_inner": 64}),
        "reformer": (
            _TEXT,
            {
                "attn_layers": ["local", "lsh"],
                "attention_head_size": 8,
                "axial_pos_embds_dim": [16, 16],
                "axial_pos_shape": [8, 8],
                "feed_forward_size": 64,
                "local_attn_chunk_length": 4,
                "lsh_attn_chunk_length": 4,
                "num_buckets": 2,
                "hash_seed": 0,
            },
        ),
        "luke": (
            {**_TEXT, "entity_ids": tokens(2, other=2), "entity_position_ids": integers(2, 4, below=12)},
            {"entity_vocab_size": 99, "entity_emb_size": 16},
        ),
        "bros": ({**_TEXT, "bbox": floats(12, 4, other=(16, 4))}, {"hidden_size": 64}),
        "xmod": (_TEXT, {"default_language": "en_XX", "languages": ["en_XX", "de_DE"]}),
        "lxmert": (
            {**_TEXT, "visual_feats": floats(5, 16), "visual_pos": floats(5, 4)},
            {"visual_feat_dim": 16, "l_layers": 1, "x_layers": 1, "r_layers": 1},
        ),
        "perceiver": (
            {"inputs": floats(20, 16, other=(30, 16))},
            {
                "num_latents": 8,
                "d_latents": 16,
                "d_model": 16,
                "num_blocks": 1,
                "num_self_attends_per_block": 1,
                "num_self_attention_heads": 2,
                "num_cross_attention_heads": 2,
            },
        ),
        "gemma3n_text": (
            _TEXT,
            {
                "num_kv_shared_layers": 0,
                "vocab_size_per_layer_input": 99,
                "hidden_size_per_layer_input": 8,
                "laurel_rank": 8,
                "activation_sparsity_pattern": [0.5, 0.0],
            },
        ),
    },
    "mixture_of_experts": {
        "deepseek_v2": (_TEXT, _MLA),
        "deepseek_v3": (_TEXT, _MLA),
        "lfm2_moe": (_TEXT, {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1}),
    },
    "state_space": {
        "mamba": (_TEXT, {}),
        "mamba2": (_TEXT, {"num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 4}),
        "falcon_mamba": (_TEXT, {}),
        "jamba": (
            _TEXT,
            {
                "attn_layer_period": 2,
                "attn_layer_offset": 1,
                "expert_layer_period": 2,
                "expert_layer_offset": 1,
                "use_mamba_kernels": False,
                "mamba_dt_rank": 4,
            },
        ),
        "bamba": (
            _TEXT,
            {
                "mamba_n_heads": 8,
                "mamba_d_head": 8,
                "mamba_d_state": 8,
                "mamba_chunk_size": 4,
                "attn_layer_indices": [1],
            },
        ),
        "zamba": (
            _TEXT,
            {
                "num_hidden_layers": 4,
                "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
                "use_mamba_kernels": False,
            },
        ),
        "zamba2": (
            _TEXT,
            {
                "num_hidden_layers": 3,
                "layers_block_type": ["mamba", "hybrid", "mamba"],
                "n_mamba_heads": 8,
                "mamba_headdim": 8,
                "chunk_size": 4,
                "mamba_ngroups": 2,
                "num_mem_blocks": 1,
            },
        ),
        "nemotron_h": (
            _TEXT,
            {
                "hybrid_override_pattern": "M*-",
                "num_hidden_layers": 3,
                "mamba_num_heads": 8,
                "mamba_head_dim": 8,
                "ssm_state_size": 8,
                "n_groups": 2,
                "chunk_size": 4,
            },
        ),
        "granitemoehybrid": (
            _TEXT,
            {
                "layer_types": ["mamba", "attention"],
                "mamba_n_heads": 8,
                "mamba_d_head": 8,
                "mamba_d_state": 8,
                "mamba_chunk_size": 4,
            },
        ),
        "recurrent_gemma": (
            _TEXT,
            {
                "num_hidden_layers": 3,
                "lru_width": 32,
                "attention_window_size": 8,
                "block_types": ["recurrent", "recurrent", "attention"],
            },
        ),
        "qwen3_next": (_TEXT, _LINEAR),
        "kimi_linear": (
            _TEXT,
            {
                **_MLA,
                "n_group": 1,
                "num_expert_group": 1,
                "num_experts_per_token": 2,
                "layer_types": ["linear_attention", "full_attention"],
            },
        ),
        "qwen3_5_text": (_TEXT, _LINEAR),
        "minimax": (_TEXT, {"layer_types": ["linear_attention", "full_attention"], "block_size": 4}),
    },
    "audio": {
        "audio-spectrogram-transformer": (
            {"input_values": floats(24, 16)},
            {"max_length": 24, "frequency_stride": 8, "time_stride": 8},
        ),
        "dac": (
            {"input_values": floats(1, 640, other=(1, 960))},
            {
                "encoder_hidden_size": 4,
                "downsampling_ratios": [2, 4],
                "decoder_hidden_size": 32,
                "n_codebooks": 2,
                "codebook_size": 16,
                "codebook_dim": 4,
                "hidden_size": 16,
            },
        ),
        "encodec": (
            {"input_values": floats(1, 640, other=(1, 960))},
            {
                "upsampling_ratios": [4, 2],
                "num_filters": 4,
                "num_lstm_layers": 1,
                "codebook_size": 16,
                "codebook_dim": 32,
            },
        ),
        "mimi": (
            {"input_values": floats(1, 640)},
            {
                "upsampling_ratios": [4, 2],
                "num_filters": 8,
                "upsample_groups": 32,
                "codebook_size": 16,
                "codebook_dim": 16,
                "vector_quantization_hidden_dimension": 16,
                "num_quantizers": 3,
            },
        ),
        "whisper": ({"input_features": floats(16, 64), "decoder_input_ids": tokens(6)}, {"max_source_positions": 32}),
        "speech_to_text": (
            {"input_features": floats(64, 16, other=(80, 16)), "decoder_input_ids": tokens(6)},
            {"input_feat_per_channel": 16, "conv_channels": 16, "conv_kernel_sizes": [3, 3]},
        ),
        "wav2vec2-bert": ({"input_features": floats(24, 16, other=(32, 16))}, {"feature_projection_input_dim": 16}),
        "moonshine": ({"input_values": floats(2000), "decoder_input_ids": tokens(6)}, {}),
        "parakeet_encoder": ({"input_features": floats(64, 16, other=(80, 16))}, {}),
        "fastspeech2_conformer": ({"input_ids": tokens()}, {}),
        "univnet": (
            {"input_features": floats(20, 16)},
            {
                "model_in_channels": 8,
                "model_hidden_channels": 8,
                "resblock_stride_sizes": [4, 4],
                "resblock_kernel_sizes": [3, 3],
                "resblock_dilation_sizes": [[1, 3], [1, 3]],
                "kernel_predictor_hidden_channels": 8,
            },
        ),
        "vits": (
            {"input_ids": tokens()},
            {
                "flow_size": 16,
                "spectrogram_bins": 17,
                "upsample_initial_channel": 32,
                "upsample_rates": [4, 4],
                "upsample_kernel_sizes": [8, 8],
                "resblock_kernel_sizes": [3],
                "resblock_dilation_sizes": [[1, 3]],
                "posterior_encoder_num_wavenet_layers": 2,
                "prior_encoder_num_flows": 2,
                "prior_encoder_num_wavenet_layers": 2,
                "duration_predictor_num_flows": 2,
            },
        ),
    },
    "time_series": {
        "patchtst": (
            {"past_values": floats(32, 3)},
            {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "patch_stride": 8},
        ),
        "patchtsmixer": (
            {"past_values": floats(32, 3)},
            {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "patch_stride": 8},
        ),
        "timesfm": (
            {"past_values": floats(32), "past_values_padding": zeros(32), "freq": integers(1, below=3)},
            {"patch_length": 8, "context_length": 32, "horizon_length": 8},
        ),
        "informer": (_SERIES, _FORECAST),
        "time_series_transformer": (_SERIES, _FORECAST),
        "decision_transformer": (
            {
                "states": floats(5, 17),
                "actions": floats(5, 4),
                "rewards": floats(5, 1),
                "returns_to_go": floats(5, 1),
                "timesteps": integers(5, below=20),
                "attention_mask": ones(5),
            },
            {"max_ep_len": 32},
        ),
    },
}
