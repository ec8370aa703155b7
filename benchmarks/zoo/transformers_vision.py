"""Architectures of transformers for images, detection, and images with text."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.inputs import floats, images, integers, tokens

_TEXT = {"input_ids": tokens()}
_IMAGE = {"pixel_values": images(32, 64)}
_LARGE = {"pixel_values": images(64, 96)}
_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}
_DETR = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "backbone_config": {**_RESNET, "out_features": ["stage4"]},
    "num_queries": 6,
}
_HGNET = {
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 16, 24, 32],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [16, 24, 32, 48],
    "hidden_sizes": [16, 24, 32, 48],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [2, 2, 2, 2],
    "out_features": ["stage2", "stage3", "stage4"],
}
_RT_DETR = {
    "backbone_config": {**_RESNET, "model_type": "rt_detr_resnet", "layer_type": "basic"},
    "encoder_in_channels": [16, 24, 32],
    "encoder_hidden_dim": 32,
    "decoder_in_channels": [32, 32, 32],
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "num_queries": 6,
    "num_denoising": 0,
}
_SWIN = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4, "image_size": 32, "patch_size": 2}

MODELS: dict[str, dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "vision": {
        "bit": (
            _LARGE,
            {"embedding_size": 8, "hidden_sizes": [32, 32, 64, 64], "depths": [1, 1, 1, 1], "num_groups": 4},
        ),
        "dinov3_convnext": (_LARGE, {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}),
        "regnet": (
            _LARGE,
            {"embedding_size": 8, "hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "groups_width": 8},
        ),
        "resnet": (_LARGE, {"embedding_size": 8, "hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1]}),
        "convnext": (_LARGE, {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "patch_size": 4}),
        "convnextv2": (_LARGE, {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "patch_size": 4}),
        "depth_pro": (
            {"pixel_values": images(64)},
            {
                "patch_size": 32,
                "fusion_hidden_size": 16,
                "scaled_images_ratios": [0.5, 1],
                "scaled_images_overlap_ratios": [0.0, 0.25],
                "scaled_images_feature_dims": [16, 16],
                "intermediate_feature_dims": [16],
                "intermediate_hook_ids": [0],
                "image_model_config": {"model_type": "dinov2"},
                "patch_model_config": {"model_type": "dinov2"},
                "fov_model_config": {"model_type": "dinov2"},
            },
        ),
        "donut-swin": (_IMAGE, _SWIN),
        "efficientnet": (_LARGE, {"width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 320}),
        "glpn": (
            _LARGE,
            {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4]},
        ),
        "hiera": (
            {"pixel_values": images(64)},
            {
                "image_size": [64, 64],
                "embed_dim": 16,
                "depths": [1, 1, 1],
                "num_heads": [1, 2, 4],
                "num_query_pool": 2,
                "masked_unit_size": [4, 4],
            },
        ),
        "imagegpt": (_TEXT, {}),
        "levit": (
            {"pixel_values": images(64)},
            {
                "image_size": 64,
                "patch_size": 16,
                "hidden_sizes": [16, 24, 32],
                "num_attention_heads": [2, 3, 4],
                "depths": [1, 1, 1],
                "key_dim": [8, 8, 8],
            },
        ),
        "maskformer-swin": (_IMAGE, _SWIN),
        "mobilevitv2": (_LARGE, {"width_multiplier": 0.5, "image_size": 64, "patch_size": 2}),
        "pvt": (
            {"pixel_values": images(32)},
            {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4]},
        ),
        "pvt_v2": (
            _LARGE,
            {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4]},
        ),
        "sam": (
            {"pixel_values": images(32), "input_points": floats(1, 2, 2)},
            {
                "vision_config": {
                    "output_channels": 16,
                    "num_pos_feats": 8,
                    "global_attn_indexes": [1],
                    "window_size": 2,
                    "mlp_dim": 64,
                },
                "prompt_encoder_config": {
                    "hidden_size": 16,
                    "image_size": 32,
                    "patch_size": 8,
                    "mask_input_channels": 4,
                },
                "mask_decoder_config": {
                    "hidden_size": 16,
                    "mlp_dim": 32,
                    "num_attention_heads": 2,
                    "iou_head_hidden_dim": 16,
                },
            },
        ),
        "segformer": (
            _LARGE,
            {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4]},
        ),
        "seggpt": (
            {"pixel_values": images(32), "prompt_pixel_values": images(32), "prompt_masks": images(32)},
            {
                "image_size": [64, 32],
                "intermediate_hidden_state_indices": [0, 1],
                "merge_index": 0,
                "decoder_hidden_size": 8,
            },
        ),
        "swin": (_IMAGE, _SWIN),
        "swinv2": (_IMAGE, _SWIN),
        "swin2sr": (_IMAGE, {**_SWIN, "patch_size": 1}),
        "timesformer": ({"pixel_values": floats(2, 3, 32, 32)}, {"num_frames": 2}),
        "videomae": ({"pixel_values": floats(2, 3, 32, 32)}, {"num_frames": 2}),
        "vivit": ({"pixel_values": floats(2, 3, 32, 32)}, {"num_frames": 2, "tubelet_size": [2, 8, 8]}),
        "vjepa2": (
            {"pixel_values_videos": floats(2, 3, 32, 32)},
            {
                "crop_size": 32,
                "frames_per_clip": 2,
                "pred_hidden_size": 16,
                "pred_num_attention_heads": 2,
                "pred_num_hidden_layers": 1,
                "mlp_ratio": 2,
            },
        ),
        "hgnet_v2": (_LARGE, _HGNET),
    },
    "detection": {
        "detr": (_LARGE, {**_DETR, "head": "AutoModelForObjectDetection"}),
        "conditional_detr": (_LARGE, {**_DETR, "head": "AutoModelForObjectDetection"}),
        "dab-detr": (_LARGE, {**_DETR, "head": "AutoModelForObjectDetection"}),
        "table-transformer": (_LARGE, {**_DETR, "head": "AutoModelForObjectDetection"}),
        "deformable_detr": (
            _LARGE,
            {**_DETR, "backbone_config": _RESNET, "head": "AutoModelForObjectDetection", "num_feature_levels": 3},
        ),
        "yolos": (_IMAGE, {"image_size": [32, 32], "num_detection_tokens": 5, "head": "AutoModelForObjectDetection"}),
        "rt_detr": (_LARGE, _RT_DETR),
        "rt_detr_v2": (_LARGE, _RT_DETR),
        "d_fine": (
            _LARGE,
            {
                **_RT_DETR,
                "hidden_expansion": 0.5,
                "depth_mult": 0.5,
                "encoder_in_channels": [24, 32, 48],
                "backbone_config": {**_HGNET, "model_type": "hgnet_v2"},
            },
        ),
        "rf_detr": (
            {"pixel_values": images(64)},
            {"num_queries": 6, "backbone_config": {"model_type": "rf_detr_dinov2", "image_size": 64}},
        ),
        "grounding-dino": (
            {"pixel_values": images(64), "input_ids": tokens()},
            {
                "backbone_config": {
                    **_SWIN,
                    "model_type": "swin",
                    "image_size": 64,
                    "depths": [1, 1, 1, 1],
                    "num_heads": [1, 2, 4, 4],
                    "out_indices": [2, 3, 4],
                },
                "num_queries": 6,
                "text_config": {"model_type": "bert"},
            },
        ),
        "mask2former": (
            _LARGE,
            {
                **_DETR,
                "backbone_config": {**_RESNET, "out_features": ["stage1", "stage2", "stage3", "stage4"]},
                "feature_size": 32,
                "mask_feature_size": 32,
            },
        ),
        "maskformer": (
            _LARGE,
            {
                "backbone_config": {**_RESNET, "out_features": ["stage1", "stage2", "stage3", "stage4"]},
                "fpn_feature_size": 32,
                "mask_feature_size": 32,
                "decoder_config": {"model_type": "detr", "num_queries": 6},
            },
        ),
    },
    "vision_language": {
        "xclip": (
            {"input_ids": tokens(), "pixel_values": floats(2, 3, 32, 32)},
            {
                "text_config": {},
                "vision_config": {
                    "num_frames": 2,
                    "mit_hidden_size": 32,
                    "mit_intermediate_size": 64,
                    "mit_num_attention_heads": 4,
                },
                "prompt_num_attention_heads": 4,
            },
        ),
        "groupvit": ({"input_ids": tokens(), "pixel_values": images(32)}, {}),
        "bridgetower": (
            {"input_ids": tokens(), "pixel_values": images(32)},
            {"vision_config": {"hidden_size": 64}, "text_config": {}},
        ),
        "layoutlmv3": (
            {"input_ids": tokens(), "bbox": integers(12, 4, below=32, other=(16, 4)), "pixel_values": images(32)},
            {"coordinate_size": 4, "shape_size": 8, "input_size": 32, "max_2d_position_embeddings": 64},
        ),
        "llava": (
            {"input_ids": tokens(24, placeholder=(98, 16)), "pixel_values": images(32)},
            {"image_token_index": 98, "image_token_id": 98},
        ),
        "paligemma": (
            {"input_ids": tokens(24, placeholder=(98, 16)), "pixel_values": images(32)},
            {"image_token_index": 98, "image_token_id": 98},
        ),
        "idefics3": (
            {"input_ids": tokens(24, placeholder=(98, 4)), "pixel_values": floats(1, 3, 32, 32)},
            {"image_token_id": 98, "scale_factor": 2},
        ),
        "blip-2": (
            {"input_ids": tokens(24, placeholder=(98, 4)), "pixel_values": images(32)},
            {"image_token_index": 98, "image_token_id": 98, "num_query_tokens": 4},
        ),
    },
}
