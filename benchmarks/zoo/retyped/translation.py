"""Networks for image translation and style transfer, small: CycleGAN, CUT, pix2pixHD, AdaIN and others."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import torch
from torch import nn
from torch.nn import functional as F


class ResnetGenerator(nn.Module):
    """Layers by number: features of some of them, or the picture; the input becomes of the weights' type."""

    class Block(nn.Module):
        def __init__(self, dim, padding_type):
            super().__init__()
            self.conv_block = self.build_conv_block(dim, padding_type)

        def build_conv_block(self, dim, padding_type):
            conv_block = []
            p = 0
            if padding_type == "reflect":
                conv_block += [nn.ReflectionPad2d(1)]
            elif padding_type == "zero":
                p = 1
            conv_block += [nn.Conv2d(dim, dim, 3, padding=p), nn.InstanceNorm2d(dim), nn.ReLU(True)]
            return nn.Sequential(*conv_block)

        def forward(self, x):
            return x + self.conv_block(x)

    def __init__(self, ngf=4):
        super().__init__()
        model = [nn.ReflectionPad2d(3), nn.Conv2d(3, ngf, 7), nn.InstanceNorm2d(ngf), nn.ReLU(True)]
        model += [nn.Conv2d(ngf, ngf * 2, 3, stride=2, padding=1), nn.InstanceNorm2d(ngf * 2), nn.ReLU(True)]
        model += [self.Block(ngf * 2, padding_type) for padding_type in ("reflect", "zero")]
        model += [nn.ConvTranspose2d(ngf * 2, ngf, 3, stride=2, padding=1, output_padding=1), nn.ReLU(True)]
        model += [nn.ReflectionPad2d(3), nn.Conv2d(ngf, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*model)

    def forward(self, input, layers=(), encode_only=False):
        input = input.type(list(self.parameters())[0].dtype)
        if -1 in layers:
            layers.append(len(self.model))
        if len(layers) > 0:
            feat = input
            feats = []
            for layer_id, layer in enumerate(self.model):
                feat = layer(feat)
                if layer_id in layers:
                    feats.append(feat)
                if layer_id == layers[-1] and encode_only:
                    return feats
            return feat, feats
        return self.model(input)


class PatchSampler(nn.Module):
    """Projections of a few places, drawn at random, of several features."""

    class Normalize(nn.Module):
        def __init__(self, power=2):
            super().__init__()
            self.power = power

        def forward(self, x):
            norm = x.pow(self.power).sum(1, keepdim=True).pow(1.0 / self.power)
            return x.div(norm + 1e-7)

    def __init__(self):
        super().__init__()
        self.net, self.l2norm = ResnetGenerator(), self.Normalize(2)
        for mlp_id, input_nc in enumerate((4, 8)):
            setattr(self, f"mlp_{mlp_id}", nn.Sequential(nn.Linear(input_nc, 8), nn.ReLU(), nn.Linear(8, 8)))

    def forward(self, x, num_patches=8, patch_ids=None):
        feats = self.net(x, layers=[1, 7], encode_only=True)
        return_ids, return_feats = [], []
        for feat_id, feat in enumerate(feats):
            feat_reshape = feat.permute(0, 2, 3, 1).flatten(1, 2)
            if patch_ids is not None:
                patch_id = patch_ids[feat_id]
            else:
                patch_id = torch.randperm(feat_reshape.shape[1], device=feats[0].device)
                patch_id = patch_id[: int(min(num_patches, patch_id.shape[0]))]
            x_sample = feat_reshape[:, patch_id, :].flatten(0, 1)
            x_sample = getattr(self, f"mlp_{feat_id}")(x_sample)
            return_ids.append(patch_id)
            return_feats.append(self.l2norm(x_sample))
        return return_feats, return_ids


class FirstWeightFilter(nn.Module):
    """Filters with the first of its parameters, found in a list."""

    def __init__(self, nf=6):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, nf, 3, padding=1), nn.BatchNorm2d(nf), nn.PReLU())
        self.out = nn.Conv2d(nf, 3, 1)

    def forward(self, x):
        y = self.body(x)
        kernel = list(self.parameters())[0]
        edges = F.conv2d(x, kernel - kernel.mean((2, 3), keepdim=True), padding=1)
        device = next(self.parameters()).device
        scale = torch.linspace(0.5, 1.0, y.shape[1], device=device).view(1, -1, 1, 1)
        return self.out(y + edges * scale)


class InstanceFeatures(nn.Module):
    """Features, averaged over each instance of a map (pix2pixHD's encoder)."""

    def __init__(self, nf=4):
        super().__init__()
        self.output_nc = 3
        self.model = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, nf, 3), nn.ReLU(True), nn.Conv2d(nf, 3, 1))

    def forward(self, input, inst):
        outputs = self.model(input)
        outputs_mean = outputs.clone()
        inst_list = torch.unique(inst).tolist()
        for i in inst_list:
            for b in range(input.size()[0]):
                indices = (inst[b : b + 1] == int(i)).nonzero()
                for j in range(self.output_nc):
                    output_ins = outputs[indices[:, 0] + b, indices[:, 1] + j, indices[:, 2], indices[:, 3]]
                    if output_ins.numel() == 0:
                        continue
                    mean_feat = torch.mean(output_ins).expand_as(output_ins)
                    outputs_mean[indices[:, 0] + b, indices[:, 1] + j, indices[:, 2], indices[:, 3]] = mean_feat
        return outputs_mean


class AdaIN(nn.Module):
    """The mean and deviation of one picture's features for those of another."""

    def __init__(self, nf=8):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, nf, 3, 1, 1, padding_mode="reflect"), nn.ReLU())
        self.enc_1, self.enc_2 = self.encoder[:2], self.encoder[2:]
        self.decoder = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(nf, 3, 3))

    def calc_mean_std(self, feat, eps=1e-5):
        size = feat.size()
        assert len(size) == 4
        N, C = size[:2]
        feat_var = feat.view(N, C, -1).var(dim=2) + eps
        return feat.view(N, C, -1).mean(dim=2).view(N, C, 1, 1), feat_var.sqrt().view(N, C, 1, 1)

    def adaptive_instance_normalization(self, content_feat, style_feat):
        assert content_feat.size()[:2] == style_feat.size()[:2]
        size = content_feat.size()
        style_mean, style_std = self.calc_mean_std(style_feat)
        content_mean, content_std = self.calc_mean_std(content_feat)
        normalized_feat = (content_feat - content_mean.expand(size)) / content_std.expand(size)
        return normalized_feat * style_std.expand(size) + style_mean.expand(size)

    def forward(self, content, style, alpha=0.8):
        assert 0 <= alpha <= 1
        features = [content]
        for i in range(2):
            features.append(getattr(self, f"enc_{i + 1}")(features[-1]))
        style_feat = self.enc_2(self.enc_1(style))
        t = self.adaptive_instance_normalization(features[-1], style_feat)
        t = alpha * t + (1 - alpha) * features[-1]
        return self.decoder(t), t


class StarGAN(nn.Module):
    """Labels of a domain, repeated over the picture."""

    def __init__(self, c_dim=4, nf=4):
        super().__init__()
        self.main = nn.Sequential(
            OrderedDict(first=nn.Conv2d(3 + c_dim, nf, 3, 1, 1), relu=nn.ReLU(inplace=True), last=nn.Conv2d(nf, 3, 1))
        )

    def forward(self, x, c):
        c = c.view(c.size(0), c.size(1), 1, 1)
        c = c.repeat(1, 1, x.size(2), x.size(3))
        x = torch.cat([x, c], dim=1)
        return self.main(x)


class HookedFeatures(nn.Module):
    """Features that hooks keep in a dictionary while a network runs."""

    def __init__(self, nf=6):
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(3, nf, 3, 1, 1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(nf, nf * 2, 3, 1, 1), nn.ReLU(inplace=False), nn.AdaptiveAvgPool2d(4)),
        )
        self._features = {}
        for layer_id in ("0", "3", "4"):
            dict(self.net.named_modules())[layer_id].register_forward_hook(self.save_outputs_hook(layer_id))
        self.head = nn.ModuleList([nn.Conv2d(nf if i == 0 else nf * 2, 2, 1) for i in range(3)])

    def save_outputs_hook(self, layer_id):
        def fn(_, __, output):
            self._features[layer_id] = output

        return fn

    def forward(self, x):
        self._features.clear()
        _ = self.net(x)
        outs = [head(self._features[name]) for head, name in zip(self.head, ("0", "3", "4"), strict=True)]
        return sum(F.adaptive_avg_pool2d(one, 4) for one in outs), dict(self._features)


class PerceptualDistance(nn.Module):
    """A distance between two pictures over slices of a network (LPIPS)."""

    def __init__(self, nf=6):
        super().__init__()
        self.register_buffer("shift", torch.Tensor([-0.030, -0.088, -0.188])[None, :, None, None])
        self.register_buffer("scale", torch.Tensor([0.458, 0.448, 0.450])[None, :, None, None])
        self.slice1 = nn.Sequential(nn.Conv2d(3, nf, 3, 1, 1), nn.ReLU(inplace=True))
        self.slice2 = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(nf, nf, 3, 1, 1), nn.ReLU(inplace=True))
        self.lins = nn.ModuleList(nn.Sequential(nn.Dropout(), nn.Conv2d(nf, 1, 1, bias=False)) for _ in range(2))

    def features(self, x):
        h1 = self.slice1(x)
        h2 = self.slice2(h1)
        return namedtuple("Outputs", ["relu1", "relu2"])(h1, h2)

    def forward(self, in0, in1, normalize=True):
        if normalize:
            in0, in1 = 2 * in0 - 1, 2 * in1 - 1
        outs0, outs1 = (self.features((one - self.shift) / self.scale) for one in (in0, in1))
        res = []
        for kk, lin in enumerate(self.lins):
            feats = [
                one / (torch.sqrt(torch.sum(one**2, dim=1, keepdim=True)) + 1e-10) for one in (outs0[kk], outs1[kk])
            ]
            res.append(lin((feats[0] - feats[1]) ** 2).mean([2, 3], keepdim=True))
        val = 0
        for one in res:
            val += one
        return val
