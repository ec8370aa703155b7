"""Generators and discriminators, small, in the styles of StyleGAN, SPADE, pix2pixHD, CycleGAN, BigGAN and others."""

from __future__ import annotations

import functools
import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm


def upfirdn2d(x, kernel, up=1, down=1, pad=(0, 0)):
    """Insert zeros, pad, filter and take every so many pixels, as the reference of StyleGAN does."""
    n, c, in_h, in_w = x.shape
    out = x.reshape(n * c, in_h, 1, in_w, 1, 1)
    out = F.pad(out, [0, 0, 0, up - 1, 0, 0, 0, up - 1])
    out = out.view(n * c, 1, in_h * up, in_w * up)
    out = F.pad(out, [max(pad[0], 0), max(pad[1], 0), max(pad[0], 0), max(pad[1], 0)])
    w = torch.flip(kernel, [0, 1]).view(1, 1, *kernel.shape)
    out = F.conv2d(out, w)
    out = out[:, :, ::down, ::down]
    return out.view(n, c, out.shape[2], out.shape[3])


class EqualLinear(nn.Module):
    """A linear layer with a scale and a learning rate of its own."""

    def __init__(self, in_dim, out_dim, bias_init=0, lr_mul=0.01, activation=None):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_dim, in_dim).div_(lr_mul))
        self.bias = nn.Parameter(torch.zeros(out_dim).fill_(bias_init))
        self.activation, self.scale, self.lr_mul = activation, (1 / math.sqrt(in_dim)) * lr_mul, lr_mul

    def forward(self, x):
        if self.activation:
            out = F.linear(x, self.weight * self.scale)
            return F.leaky_relu(out + self.bias * self.lr_mul, 0.2) * 2**0.5
        return F.linear(x, self.weight * self.scale, bias=self.bias * self.lr_mul)


class StyleGAN2(nn.Module):
    """Weights that a style modulates, a batch as groups, noise, and a sum of pictures."""

    class ModulatedConv2d(nn.Module):
        def __init__(self, in_channel, out_channel, kernel_size, style_dim, demodulate=True, upsample=False):
            super().__init__()
            self.in_channel, self.out_channel, self.kernel_size = in_channel, out_channel, kernel_size
            self.demodulate, self.upsample = demodulate, upsample
            self.scale = 1 / math.sqrt(in_channel * kernel_size**2)
            self.weight = nn.Parameter(torch.randn(1, out_channel, in_channel, kernel_size, kernel_size))
            self.modulation = EqualLinear(style_dim, in_channel, bias_init=1, lr_mul=1)
            k = torch.tensor([1.0, 3.0, 3.0, 1.0])
            self.register_buffer("kernel", k[None, :] * k[:, None] / (k.sum() ** 2) * 4)

        def forward(self, input, style):
            batch, in_channel, height, width = input.shape
            style = self.modulation(style).view(batch, 1, in_channel, 1, 1)
            weight = self.scale * self.weight * style
            if self.demodulate:
                demod = torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8)
                weight = weight * demod.view(batch, self.out_channel, 1, 1, 1)
            weight = weight.view(batch * self.out_channel, in_channel, self.kernel_size, self.kernel_size)
            input = input.view(1, batch * in_channel, height, width)
            if self.upsample:
                weight = weight.view(batch, self.out_channel, in_channel, self.kernel_size, self.kernel_size)
                weight = weight.transpose(1, 2).reshape(
                    batch * in_channel, self.out_channel, self.kernel_size, self.kernel_size
                )
                out = F.conv_transpose2d(input, weight, padding=0, stride=2, groups=batch)
                _, _, height, width = out.shape
                out = out.view(batch, self.out_channel, height, width)
                return upfirdn2d(out, self.kernel, pad=(1, 1))
            out = F.conv2d(input, weight, padding=self.kernel_size // 2, groups=batch)
            return out.view(batch, self.out_channel, *out.shape[2:])

    class NoiseInjection(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, image, noise=None):
            if noise is None:
                batch, _, height, width = image.shape
                noise = image.new_empty(batch, 1, height, width).normal_()
            return image + self.weight * noise

    def __init__(self, style_dim=16, ch=8):
        super().__init__()
        self.style = nn.Sequential(*[EqualLinear(style_dim, style_dim, activation="fused") for _ in range(2)])
        self.input = nn.Parameter(torch.randn(1, ch, 4, 4))
        self.convs = nn.ModuleList(
            [self.ModulatedConv2d(ch, ch, 3, style_dim), self.ModulatedConv2d(ch, ch, 3, style_dim, upsample=True)]
        )
        self.noises = nn.ModuleList([self.NoiseInjection() for _ in self.convs])
        self.to_rgbs = nn.ModuleList([self.ModulatedConv2d(ch, 3, 1, style_dim, demodulate=False) for _ in self.convs])

    def forward(self, z):
        z = z * torch.rsqrt(torch.mean(z**2, dim=1, keepdim=True) + 1e-8)
        latent = self.style(z).unsqueeze(1).repeat(1, len(self.convs), 1)
        out, skip = self.input.repeat(latent.shape[0], 1, 1, 1), None
        for i, (conv, noise, to_rgb) in enumerate(zip(self.convs, self.noises, self.to_rgbs, strict=True)):
            out = F.leaky_relu(noise(conv(out, latent[:, i])), 0.2)
            rgb = to_rgb(out, latent[:, i])
            if skip is not None:
                skip = F.interpolate(skip, rgb.shape[2:], mode="bilinear")
                rgb = rgb + skip
            skip = rgb
        return skip, latent


class StyleGAN2Discriminator(nn.Module):
    """The deviation over a part of the batch as a channel."""

    def __init__(self, ch=8):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, ch, 3, padding=1), nn.Conv2d(ch + 1, ch, 3, padding=1)
        k = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", k[None, :] * k[:, None] / k.sum() ** 2)
        self.final = nn.Sequential(EqualLinear(ch * 64, ch, activation="fused"), EqualLinear(ch, 1))

    def forward(self, input):
        out = F.leaky_relu(self.conv1(input), 0.2, inplace=True)
        out = upfirdn2d(out, self.kernel, down=2, pad=(2, 1))
        batch, channel, height, width = out.shape
        group = min(batch, 4)
        stddev = out.view(group, -1, 1, channel // 1, height, width)
        stddev = torch.sqrt(stddev.var(0, unbiased=False) + 1e-8)
        stddev = stddev.mean([2, 3, 4], keepdims=True).squeeze(2)
        out = torch.cat([out, stddev.repeat(group, 1, height, width)], 1)
        out = F.adaptive_avg_pool2d(self.conv2(out), 8)
        return self.final(out.view(batch, -1))


class SPADE(nn.Module):
    """Normalization by a map of labels of any size, in blocks with spectral norms of the older kind."""

    class Norm(nn.Module):
        def __init__(self, norm_nc, label_nc, nhidden=8):
            super().__init__()
            self.param_free_norm = nn.InstanceNorm2d(norm_nc, affine=False)
            self.mlp_shared = nn.Sequential(nn.Conv2d(label_nc, nhidden, 3, padding=1), nn.ReLU())
            self.mlp_gamma, self.mlp_beta = (nn.Conv2d(nhidden, norm_nc, 3, padding=1) for _ in range(2))

        def forward(self, x, segmap):
            normalized = self.param_free_norm(x)
            segmap = F.interpolate(segmap, size=x.size()[2:], mode="nearest")
            actv = self.mlp_shared(segmap)
            return normalized * (1 + self.mlp_gamma(actv)) + self.mlp_beta(actv)

    class Block(nn.Module):
        def __init__(self, fin, fout, label_nc):
            super().__init__()
            self.learned_shortcut = fin != fout
            self.conv_0 = spectral_norm(nn.Conv2d(fin, fout, 3, padding=1))
            self.norm_0 = SPADE.Norm(fin, label_nc)
            if self.learned_shortcut:
                self.conv_s = spectral_norm(nn.Conv2d(fin, fout, 1, bias=False))

        def shortcut(self, x):
            return self.conv_s(x) if self.learned_shortcut else x

        def forward(self, x, seg):
            return self.shortcut(x) + self.conv_0(F.leaky_relu(self.norm_0(x, seg), 2e-1))

    def __init__(self, label_nc=3, nf=8):
        super().__init__()
        self.fc, self.up = nn.Conv2d(label_nc, nf * 2, 3, padding=1), nn.Upsample(scale_factor=2)
        self.head_0, self.up_0 = self.Block(nf * 2, nf * 2, label_nc), self.Block(nf * 2, nf, label_nc)
        self.conv_img = nn.Conv2d(nf, 3, 3, padding=1)

    def forward(self, input, z=None):
        seg = input
        sh, sw = int(seg.size(2) / 4), int(seg.size(3) / 4)
        x = self.fc(F.interpolate(seg, size=(sh, sw))) if z is None else z
        x = self.up(self.head_0(x, seg))
        x = self.up(self.up_0(x, seg))
        return F.tanh(self.conv_img(F.leaky_relu(x, 2e-1)))


class MultiscaleDiscriminator(nn.Module):
    """Discriminators by name, spectral norms of the newer kind, and a list of features for each."""

    def __init__(self, num_d=2, ndf=4):
        super().__init__()
        self.num_D = num_d
        norm = functools.partial(parametrizations.spectral_norm, n_power_iterations=1)
        for i in range(num_d):
            for j, (nin, nout) in enumerate(((3, ndf), (ndf, ndf * 2), (ndf * 2, 1))):
                layer = [norm(nn.Conv2d(nin, nout, 4, 2 if j < 2 else 1, 2)), nn.LeakyReLU(0.2, True)]
                setattr(self, f"scale{i}_layer{j}", nn.Sequential(*layer[: 2 if j < 2 else 1]))
        self.downsample = nn.AvgPool2d(3, stride=2, padding=[1, 1], count_include_pad=False)

    def singleD_forward(self, model, input):
        result = [input]
        for i in range(len(model)):
            result.append(model[i](result[-1]))
        return result[1:]

    def forward(self, input):
        num_D = self.num_D
        result = []
        input_downsampled = input
        for i in range(num_D):
            model = [getattr(self, f"scale{num_D - 1 - i}_layer{j}") for j in range(3)]
            result.append(self.singleD_forward(model, input_downsampled))
            if i != (num_D - 1):
                input_downsampled = self.downsample(input_downsampled)
        return result
