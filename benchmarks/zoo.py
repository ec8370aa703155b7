"""The models that `benchmarks.truth` examines: those of torchvision, timm and segmentation_models_pytorch, small."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True, slots=True)
class ZooModel:
    """A model of a zoo, and the shape of its smallest input."""

    zoo: str
    """``torchvision.segmentation``."""
    name: str
    factory: Callable[[], nn.Module]
    shape: tuple[int, ...]
    """The shape of one input, without the batch."""
    required_packages: tuple[str, ...] = ()
    """Packages that may be missing."""

    @property
    def missing_package(self) -> str | None:
        """Return a message about a package that is missing; None if the model can be built."""
        absent = [name for name in self.required_packages if find_spec(name) is None]
        return f"{absent[0]} is not installed: pip install -e '.[zoo]'" if absent else None

    def build(self) -> nn.Module:
        """Return the model in eval mode, with random weights that are the same each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.factory().eval()
            _randomize_constant_weights(model)
        return model

    def inputs(self, size: int) -> tuple[Any, ...]:
        """Return the positional arguments of its forward for a batch of `size` inputs; the same each time."""
        generator = torch.Generator().manual_seed(size)
        images = torch.randn((size, *self.shape), generator=generator)
        if self.zoo == "torchvision.detection":
            return (list(images),)
        if self.zoo == "torchvision.optical_flow":
            return images, torch.randn((size, *self.shape), generator=generator)
        return (images,)


def list_models() -> Iterator[ZooModel]:
    """Yield every model that torchvision lists, and a small one of each family of timm and of smp."""
    from torchvision import models

    for zoo, names in (
        ("torchvision.classification", models.list_models(models)),
        ("torchvision.segmentation", models.list_models(models.segmentation)),
        ("torchvision.video", models.list_models(models.video)),
        ("torchvision.quantization", models.list_models(models.quantization)),
        ("torchvision.detection", models.list_models(models.detection)),
        ("torchvision.optical_flow", models.list_models(models.optical_flow)),
    ):
        for name in names:
            yield ZooModel(zoo, name, partial(_torchvision, name), _shape(name))
    for name in models.list_models(models.quantization):
        yield ZooModel("torchvision.int8", f"{name}_int8", partial(_torchvision, name, quantize=True), _shape(name))
    for size, names in TIMM.items():
        for name in names.split():
            yield ZooModel("timm", name, partial(_timm, name), (3, size, size), ("timm",))
    for name in SMP.split():
        size, packages = {"DPT": 224, "PAN": 128}.get(name, 64), ("segmentation_models_pytorch",)
        yield ZooModel("segmentation_models_pytorch", name, partial(_smp, name), (3, size, size), packages)


def _torchvision(name: str, **options: Any) -> nn.Module:
    from torchvision import models

    if "inception" in name or "googlenet" in name:
        options["init_weights"] = False
    if name.startswith("vit_"):
        options["image_size"] = _shape(name)[1]
    if name in models.list_models(models.segmentation) + models.list_models(models.detection):
        options["weights_backbone"] = None
    if name.startswith("mvit_"):
        return _small_mvit(name)
    model: nn.Module = models.get_model(name, weights=None, **options)
    return model


def _small_mvit(name: str) -> nn.Module:
    """Build a model for videos of the size `_shape`: torchvision's own function fixes 16 frames of 224 x 224."""
    from torchvision.models.video import mvit

    _, frames, *spatial = _shape(name)
    build = mvit._mvit  # noqa: SLF001

    def smaller(*args: Any, **options: Any) -> Any:
        return build(*args, **{**options, "spatial_size": tuple(spatial), "temporal_size": frames})

    with mock.patch.object(mvit, "_mvit", smaller):
        model: nn.Module = getattr(mvit, name)(weights=None)
    return model


def _shape(name: str) -> tuple[int, ...]:
    """Return about the smallest input that a model takes; the largest models get 32 pixels."""
    first = name.removeprefix("quantized_").partition("_")[0]
    return {
        "alexnet": (3, 64, 64),
        "inception": (3, 299, 299),
        "maxvit": (3, 224, 224),
        "vgg11": (3, 32, 32),
        "vgg13": (3, 32, 32),
        "vgg16": (3, 32, 32),
        "vgg19": (3, 32, 32),
        "regnet": (3, 32, 32),
        "s3d": (3, 13, 209, 209),
        "mc3": (3, 4, 32, 32),
        "r3d": (3, 4, 32, 32),
        "r2plus1d": (3, 4, 32, 32),
        "swin3d": (3, 4, 32, 32),
        "mvit": (3, 4, 64, 64),
        "raft": (3, 128, 128),
    }.get(first, (3, 56, 56) if name == "vit_h_14" else (3, 64, 64))


def _timm(name: str) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(name, pretrained=False)
    return model


def _smp(name: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    encoder = "tu-vit_tiny_patch16_224" if name == "DPT" else "resnet18"
    model: nn.Module = getattr(smp, name)(encoder_name=encoder, encoder_weights=None)
    return model


def _randomize_constant_weights(model: nn.Module) -> None:
    """Randomize weights and statistics that have one value, such as 0 or 1: then every operation changes its input."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        constant = value.is_floating_point() and value.numel() > 0 and bool((value == value.flatten()[0]).all())
        if constant and (value.requires_grad or name.endswith(("running_mean", "running_var"))):
            noise = torch.rand(value.shape) if name.endswith("running_var") else torch.randn(value.shape)
            base = 0.5 if name.endswith("running_var") else value.detach().round()
            value.data = base + noise.to(value) * (1 if name.endswith("running_var") else 0.1)


SMP = "Unet UnetPlusPlus MAnet Linknet FPN PSPNet DeepLabV3 DeepLabV3Plus PAN UPerNet Segformer DPT"

TIMM = {
    32: """
        dm_nfnet_f0 mobilenetv5_base naflexvit_base_patch16_parfac_gap nasnetalarge pnasnet5large qwen3_vit_88m
        samvit_base_patch16_224 wide_resnet50_2
    """,
    64: """
        caformer_s18 convformer_s18 convmixer_768_32 convnext_zepto_rms convnextv2_atto cpubone_nano
        crossvit_tiny_240 cs3darknet_focus_s csatv2 cspdarknet53 cspnext_tiny cspresnet50 cspresnext50 darknet17
        darknetaa53 davit_tiny densenet121 densenetblur121d dla46x_c dpn48b eca_resnext26ts ecaresnet26t
        ecaresnetlight ecaresnext26t_32x4d edgenext_xx_small efficientnet_lite0 efficientnetv2_rw_t
        efficientvim_m1 efficientvit_b0 efficientvit_m0 ese_vovnet19b_slim_dw fasternet_t0 fastvit_t8 fbnetc_100
        fbnetv3_b focalnet_tiny_srf gc_efficientnetv2_rw_t gcresnet33ts gcresnext26ts gernet_s ghostnet_050
        ghostnetv3_050 hardcorenas_b hgnet_tiny hgnetv2_b0 hieradet_small hrnet_w18_small iformer_t
        inception_next_atto lambda_resnet26t lcnet_035 lcnetv2_small legacy_seresnet18 legacy_seresnext26_32x4d
        legacy_xception lowformer_b0 mambaout_femto mixnet_s mnasnet_small mobilenet_edgetpu_100
        mobilenetv3_small_050 mobileone_s1 mobilevit_xxs mobilevitv2_050 mvitv2_tiny nextvit_small nf_regnet_b0
        nfnet_l0 poolformer_s12 poolformerv2_s12 pvt_v2_b0 rdnet_tiny regnetv_040 regnetx_002 regnety_002
        regnetz_005 repghostnet_050 repvgg_a0 repvit_m1 res2next50 resnest14d resnet10t resnetaa34d resnetblur18
        resnetrs50 resnetv2_18 resnext26ts rexnet_100 rexnetr_100 sam2_hiera_tiny sedarknet21 selecsls42
        semnasnet_050 sequencer2d_s seresnet18 seresnetaa50d seresnext26ts shvit_s1 skresnet18 skresnext50_32x4d
        spnasnet_100 starnet_s050 swiftformer_xs test_byobnet test_convnext test_efficientnet test_mambaout
        test_nfnet test_resnet test_vit tf_efficientnet_lite0 tf_efficientnetv2_b0 tf_mixnet_s
        tf_mobilenetv3_small_075 tiny_vit_5m_224 tinynet_e tresnet_m twins_svt_small
        vit_tiny_patch16_dinov3_qkvb vovnet39a xception xception41p xcit_nano_12_p8_224
    """,
    96: """
        adv_inception_v3 ens_adv_inception_resnet_v2 inception_v4 tf_inception_v3
    """,
    160: """
        test_coatnet test_maxvit test_vit_relpos
    """,
    224: """
        beit_base_patch16_224 beitv2_base_patch16_224 cait_xxs24_224 coat_tiny coatnet_pico_rw_224
        coatnext_nano_rw_224 convit_tiny deit_tiny_patch16_224 efficientformer_l1 efficientformerv2_s0
        eva02_tiny_patch14_224 gcvit_xxtiny gmixer_12_224 gmlp_ti16_224 haloregnetz_b hiera_tiny_224
        jx_nest_tiny levit_128s mixer_s16_224 nest_tiny pit_ti_224 resmlp_12_224 swin_tiny_patch4_window7_224
        swinv2_cr_tiny_224 tnt_s_legacy_patch16_224 visformer_tiny vit_tiny_r_s16_p8_224 vitamin_small_224
        volo_d1_224
    """,
    240: """
        flexivit_small
    """,
    256: """
        bat_resnext26ts botnet26t_256 halo2botnet50ts_256 halonet_h1 lamhalobotnet50ts_256 maxvit_pico_rw_256
        maxxvit_rmlp_nano_rw_256 maxxvitv2_nano_rw_256 sebotnet33ts_256 sehalonet33ts swinv2_tiny_window16_256
    """,
}
