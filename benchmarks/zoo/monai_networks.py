"""The networks of MONAI: what each takes, and its options."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.inputs import Listed, floats, integers, tokens


def _square(size: int, other: int = 0, channels: int = 1) -> tuple[Any, ...]:
    return (floats(channels, size, size, other=(channels, other, other) if other else None),)


def _cube(size: int, channels: int = 1) -> tuple[Any, ...]:
    return (floats(channels, size, size, size),)


_PLANE = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
_CLASSES = {"spatial_dims": 2, "in_channels": 1, "num_classes": 2}
_UNET = {**_PLANE, "channels": (4, 8, 16), "strides": (2, 2)}
_LATENT = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": (8, 16),
    "num_res_blocks": 1,
    "attention_levels": (False, True),
    "norm_num_groups": 4,
    "latent_channels": 3,
}
_DIFFUSION = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": (8, 16),
    "num_res_blocks": 1,
    "attention_levels": (False, True),
    "norm_num_groups": 4,
    "num_head_channels": 8,
}
_MEDNEXT = {**_PLANE, "init_filters": 4, "deep_supervision": False}

NETWORKS: dict[str, tuple[tuple[Any, ...] | dict[str, Any], dict[str, Any]]] = {
    "AttentionUnet": (_square(32, 64), _UNET),
    "AutoEncoder": (_square(32, 64), {**_PLANE, "channels": (4, 8), "strides": (2, 2)}),
    "AutoencoderKL": (_square(16, 32), _LATENT),
    "BasicUNet": (_square(32, 64), {**_PLANE, "features": (4, 4, 8, 8, 16, 4)}),
    "BasicUNetPlusPlus": (_square(32, 64), {**_PLANE, "features": (4, 4, 8, 8, 16, 4)}),
    "Classifier": (_square(32), {"in_shape": (1, 32, 32), "classes": 2, "channels": (4, 8), "strides": (2, 2)}),
    "ControlNet": (
        {"x": floats(1, 16, 16), "timesteps": integers(below=1000), "controlnet_cond": floats(1, 16, 16)},
        {
            **{name: value for name, value in _DIFFUSION.items() if name != "out_channels"},
            "conditioning_embedding_num_channels": (8,),
        },
    ),
    "Critic": (_square(32), {"in_shape": (1, 32, 32), "channels": (4, 8), "strides": (2, 2)}),
    "DecoderOnlyTransformer": (
        (tokens(),),
        {"num_tokens": 99, "max_seq_len": 32, "attn_layers_dim": 16, "attn_layers_depth": 2, "attn_layers_heads": 2},
    ),
    "DenseNet": (
        _square(64, 96),
        {
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 2,
            "init_features": 8,
            "growth_rate": 4,
            "block_config": (2, 2),
        },
    ),
    "DiffusionModelUNet": (
        (floats(1, 16, 16, other=(1, 32, 32)), integers(below=1000)),
        _DIFFUSION,
    ),
    "DiffusionModelUNet-conditioned": (
        {"x": floats(1, 16, 16, other=(1, 32, 32)), "timesteps": integers(below=1000), "context": floats(1, 8)},
        {**_DIFFUSION, "with_conditioning": True, "cross_attention_dim": 8, "transformer_num_layers": 1},
    ),
    "Discriminator": (_square(32), {"in_shape": (1, 32, 32), "channels": (4, 8), "strides": (2, 2)}),
    "DynUNet": (
        _square(32, 64),
        {
            **_PLANE,
            "kernel_size": [3, 3, 3],
            "strides": [1, 2, 2],
            "upsample_kernel_size": [2, 2],
            "filters": [4, 8, 16],
        },
    ),
    "DynUNet-supervised": (
        _square(32, 64),
        {
            **_PLANE,
            "kernel_size": [3, 3, 3, 3],
            "strides": [1, 2, 2, 2],
            "upsample_kernel_size": [2, 2, 2],
            "filters": [4, 8, 16, 16],
            "deep_supervision": True,
            "res_block": True,
        },
    ),
    "EfficientNetBN": (_square(64, 96), {"model_name": "efficientnet-b0", "pretrained": False, **_CLASSES}),
    "FlexibleUNet": (
        _square(64, 96, 3),
        {
            "in_channels": 3,
            "out_channels": 2,
            "backbone": "efficientnet-b0",
            "pretrained": False,
            "spatial_dims": 2,
            "decoder_channels": (32, 16, 16, 8, 8),
        },
    ),
    "FullyConnectedNet": (
        (floats(10),),
        {"in_channels": 10, "out_channels": 2, "hidden_channels": (8, 8), "act": "relu"},
    ),
    "Generator": (
        (floats(10),),
        {"latent_shape": (10,), "start_shape": (4, 8, 8), "channels": (8, 4, 1), "strides": (2, 2, 1)},
    ),
    "GlobalNet": (
        _square(32),
        {"image_size": (32, 32), "spatial_dims": 2, "in_channels": 1, "num_channel_initial": 4, "depth": 2},
    ),
    "HighResNet": (
        _square(32, 48),
        {
            **_PLANE,
            "layer_params": (
                {"name": "conv_0", "n_features": 4, "kernel_size": 3},
                {"name": "res_1", "n_features": 4, "kernels": (3, 3), "repeat": 2},
                {"name": "conv_1", "n_features": 8, "kernel_size": 1},
                {"name": "conv_2", "kernel_size": 1},
            ),
        },
    ),
    "LocalNet": (_square(32), {**_PLANE, "num_channel_initial": 4, "extract_levels": (0, 1, 2)}),
    "MILModel": (
        (floats(2, 3, 64, 64),),
        {"num_classes": 2, "pretrained": False, "mil_mode": "att", "backbone": "resnet18"},
    ),
    "MaskedAutoEncoderViT": (
        _square(32),
        {
            "in_channels": 1,
            "img_size": 32,
            "patch_size": 8,
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_layers": 2,
            "num_heads": 4,
            "decoder_hidden_size": 16,
            "decoder_mlp_dim": 32,
            "decoder_num_layers": 1,
            "decoder_num_heads": 2,
            "spatial_dims": 2,
        },
    ),
    "MedNeXt": (
        _square(32, 64),
        {**_MEDNEXT, "blocks_down": (1, 1, 1, 1), "blocks_bottleneck": 1, "blocks_up": (1, 1, 1, 1)},
    ),
    "MultiScalePatchDiscriminator": (
        _square(64, 96),
        {"num_d": 2, "num_layers_d": 2, "spatial_dims": 2, "channels": 4, "in_channels": 1, "out_channels": 1},
    ),
    "PatchDiscriminator": (_square(32, 64), {"spatial_dims": 2, "channels": 4, "in_channels": 1}),
    "Quicknat": (_square(64), {"num_classes": 2, "num_channels": 1, "num_filters": 8, "se_block": "CSE"}),
    "RegUNet": (_square(32), {**_PLANE, "num_channel_initial": 4, "depth": 2}),
    "Regressor": (_square(32), {"in_shape": (1, 32, 32), "out_shape": (3,), "channels": (4, 8), "strides": (2, 2)}),
    "ResNet": (
        _square(64, 96),
        {
            "block": "basic",
            "layers": [1, 1, 1, 1],
            "block_inplanes": [4, 8, 16, 16],
            "spatial_dims": 2,
            "n_input_channels": 1,
            "num_classes": 2,
        },
    ),
    "SPADEAutoencoderKL": (
        (floats(1, 16, 16), floats(3, 16, 16)),
        {**_LATENT, "label_nc": 3, "spade_intermediate_channels": 8},
    ),
    "SPADEDiffusionModelUNet": (
        (floats(1, 16, 16), integers(below=1000), floats(3, 16, 16)),
        {**_DIFFUSION, "label_nc": 3, "spade_intermediate_channels": 8},
    ),
    "SegResNet": (_square(32, 64), {**_PLANE, "init_filters": 8}),
    "SegResNetDS": (_square(32, 64), {**_PLANE, "init_filters": 8, "blocks_down": (1, 1, 1), "dsdepth": 2}),
    "SegResNetDS2": (_square(32, 64), {**_PLANE, "init_filters": 8, "blocks_down": (1, 1, 1), "dsdepth": 1}),
    "SegResNetVAE": (_square(32), {"input_image_size": (32, 32), **_PLANE, "init_filters": 8}),
    "SwinUNETR": (_square(64, 96), {**_PLANE, "feature_size": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4)}),
    "SwinUNETR-v2": (
        _square(64, 96),
        {**_PLANE, "feature_size": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4), "use_v2": True},
    ),
    "TorchVisionFCModel": (
        (floats(3, 64, 64),),
        {"model_name": "resnet18", "num_classes": 2, "pretrained": False, "pool": None},
    ),
    "UNETR": (
        _square(32),
        {**_PLANE, "img_size": 32, "feature_size": 4, "hidden_size": 32, "mlp_dim": 64, "num_heads": 4},
    ),
    "UNet": (_square(32, 64), {**_UNET, "num_res_units": 2}),
    "UNet-3d": (
        _cube(16),
        {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": (4, 8, 16), "strides": (2, 2)},
    ),
    "VNet": (_square(32, 64), _PLANE),
    "VQVAE": (
        _square(16, 32),
        {
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 1,
            "channels": (8, 16),
            "num_res_layers": 1,
            "num_res_channels": (8, 16),
            "downsample_parameters": ((2, 4, 1, 1),) * 2,
            "upsample_parameters": ((2, 4, 1, 1, 0),) * 2,
            "num_embeddings": 16,
            "embedding_dim": 8,
        },
    ),
    "VarAutoEncoder": (
        _square(32),
        {
            "spatial_dims": 2,
            "in_shape": (1, 32, 32),
            "out_channels": 1,
            "latent_size": 4,
            "channels": (4, 8),
            "strides": (2, 2),
        },
    ),
    "VarFullyConnectedNet": (
        (floats(10),),
        {"in_channels": 10, "out_channels": 2, "latent_size": 4, "encode_channels": (8,), "decode_channels": (8,)},
    ),
    "ViT": (
        _square(32),
        {
            "in_channels": 1,
            "img_size": (32, 32),
            "patch_size": (8, 8),
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_layers": 2,
            "num_heads": 4,
            "classification": True,
            "spatial_dims": 2,
        },
    ),
    "ViTAutoEnc": (
        _square(32),
        {
            "in_channels": 1,
            "img_size": (32, 32),
            "patch_size": (4, 4),
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_layers": 2,
            "num_heads": 4,
            "spatial_dims": 2,
        },
    ),
    "VoxelMorph": ((floats(1, 32, 32), floats(1, 32, 32)), {"spatial_dims": 2}),
    "VoxelMorphUNet": (
        (floats(2, 32, 32, other=(2, 64, 64)),),
        {
            "spatial_dims": 2,
            "in_channels": 2,
            "unet_out_channels": 8,
            "channels": (8, 8, 8, 8, 8, 8),
            "final_conv_channels": (8,),
        },
    ),
    "NaViT": (
        ([Listed(floats(1, 16, 16, other=(1, 16, 32)))],),
        {
            "spatial_dims": 2,
            "image_size": 32,
            "patch_size": 8,
            "num_classes": 2,
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_layers": 2,
            "num_heads": 2,
            "in_channels": 1,
        },
    ),
}
