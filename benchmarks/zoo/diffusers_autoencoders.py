"""Autoencoders of diffusers: what each takes, and its options."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.inputs import floats, images

_IMAGE = {"sample": images(32, 64)}
_VIDEO = {"sample": floats(3, 5, 16, 16)}
_BLOCKS = {
    **{"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1},
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}

MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "AutoencoderKL": (_IMAGE, _BLOCKS),
    "AutoencoderKL-sampled": ({**_IMAGE, "sample_posterior": True}, _BLOCKS),
    "VQModel": (_IMAGE, {**_BLOCKS, "num_vq_embeddings": 16}),
    "AsymmetricAutoencoderKL": (
        {**_IMAGE, "mask": floats(1, 32, 32, other=(1, 64, 64))},
        {
            **{"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2},
            **{"down_block_out_channels": (8, 16), "up_block_out_channels": (8, 16), "norm_num_groups": 4},
        },
    ),
    "AutoencoderTiny": (
        _IMAGE,
        {
            **{"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)},
            **{"num_encoder_blocks": (1, 2), "num_decoder_blocks": (2, 1)},
        },
    ),
    "AutoencoderDC": (
        _IMAGE,
        {
            **{"latent_channels": 4, "attention_head_dim": 2, "encoder_block_types": ("ResBlock", "EfficientViTBlock")},
            **{"decoder_block_types": ("ResBlock", "EfficientViTBlock"), "encoder_block_out_channels": (8, 8)},
            **{"decoder_block_out_channels": (8, 8), "encoder_qkv_multiscales": ((), (5,))},
            **{"decoder_qkv_multiscales": ((), (5,)), "encoder_layers_per_block": (1, 1)},
            **{"decoder_layers_per_block": (1, 1), "upsample_block_type": "interpolate"},
            **{"downsample_block_type": "stride_conv", "decoder_norm_types": "rms_norm", "decoder_act_fns": "silu"},
        },
    ),
    "AutoencoderKLTemporalDecoder": (
        {"sample": floats(3, 32, 32, rows=2), "num_frames": 2},
        {"block_out_channels": (32, 32), "layers_per_block": 1, "down_block_types": ("DownEncoderBlock2D",) * 2},
    ),
    "AutoencoderKLFlux2": (_IMAGE, {**_BLOCKS, "latent_channels": 4}),
    "AutoencoderKLCogVideoX": (
        _VIDEO,
        {
            **{"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 2, "latent_channels": 4},
            "temporal_compression_ratio": 4,
        },
    ),
    "AutoencoderKLHunyuanVideo": (
        _VIDEO,
        {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4},
    ),
    "AutoencoderKLLTXVideo": (
        {"sample": floats(3, 9, 32, 32)},
        {
            **{"block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8), "latent_channels": 8},
            **{"layers_per_block": (1, 1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1, 1)},
        },
    ),
    "AutoencoderKLMagvit": (
        {"sample": floats(3, 9, 16, 16)},
        {"block_out_channels": [8, 8, 8, 8], "layers_per_block": 1, "norm_num_groups": 2, "latent_channels": 4},
    ),
    "AutoencoderKLMochi": (
        {"sample": floats(3, 7, 16, 16)},
        {
            **{"encoder_block_out_channels": (32, 32, 32, 32), "decoder_block_out_channels": (32, 32, 32, 32)},
            **{"layers_per_block": (1, 1, 1, 1, 1), "latent_channels": 4},
            **{"latents_mean": (0.0,) * 4, "latents_std": (1.0,) * 4},
        },
    ),
    "AutoencoderKLCosmos": (
        {"sample": floats(3, 9, 32, 32)},
        {
            **{"latent_channels": 4, "encoder_block_out_channels": (8, 8, 8, 8), "num_layers": 1, "resolution": 32},
            **{"decode_block_out_channels": (8, 8, 8, 8), "attention_resolutions": (8,), "patch_size": 4},
            **{"latents_mean": None, "latents_std": None},
        },
    ),
    "AutoencoderKLWan": ({"sample": floats(3, 5, 16, 16)}, {"base_dim": 4, "z_dim": 16, "num_res_blocks": 1}),
    "AutoencoderKLQwenImage": (
        {"sample": floats(3, 1, 16, 16)},
        {"base_dim": 4, "z_dim": 16, "num_res_blocks": 1},
    ),
    "AutoencoderKLHunyuanImage": (
        _IMAGE,
        {
            **{"in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (32, 64)},
            **{"layers_per_block": 1, "spatial_compression_ratio": 2, "sample_size": 32},
        },
    ),
    "AutoencoderKLKVAE": (
        _IMAGE,
        {"channels": 32, "num_enc_blocks": 1, "num_dec_blocks": 1, "z_channels": 4, "ch_mult": (1, 2)},
    ),
    "AutoencoderVidTok": (
        {"sample": floats(3, 5, 16, 16)},
        {"ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1, "is_causal": False},
    ),
    "AutoencoderOobleck": (
        {"sample": floats(2, 64, other=(2, 96))},
        {
            **{"encoder_hidden_size": 8, "downsampling_ratios": [2, 4], "channel_multiples": [1, 2]},
            **{"decoder_channels": 8, "decoder_input_channels": 4},
        },
    ),
    "AutoencoderRAE": (
        {"sample": images(32)},
        {
            **{"encoder_hidden_size": 64, "encoder_patch_size": 8, "encoder_num_hidden_layers": 2, "image_size": 32},
            **{"decoder_hidden_size": 32, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 4},
            **{"decoder_intermediate_size": 64, "patch_size": 8, "encoder_input_size": 32},
        },
    ),
    "MMAudioVocoder": (
        {"mel": floats(16, 12, other=(16, 20))},
        {
            **{"num_mels": 16, "upsample_initial_channel": 16, "upsample_rates": (4, 2)},
            **{"upsample_kernel_sizes": (8, 4), "resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1, 3),)},
        },
    ),
}
