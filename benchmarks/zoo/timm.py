"""A small model of each family of timm."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.zoo.zoo_model import ZooModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def list_models() -> Iterator[ZooModel]:
    """Yield a small model of each family."""
    for size, names in TIMM.items():
        for name in names.split():
            yield ZooModel("timm", name, partial(_timm, name), (3, size, size), ("timm",))


def _timm(name: str) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(name, pretrained=False)
    return model


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
