"""Networks for restoration and super-resolution, small, in the styles of EDSR, BasicSR, Restormer and others."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F


class MeanShift(nn.Conv2d):
    """Adds or takes away the mean of the colors, as a convolution that is not trained."""

    def __init__(self, sign):
        super().__init__(3, 3, kernel_size=1)
        std = torch.Tensor((1.0, 1.0, 1.0))
        self.weight.data = torch.eye(3).view(3, 3, 1, 1) / std.view(3, 1, 1, 1)
        self.bias.data = sign * torch.Tensor((0.4488, 0.4371, 0.4040)) / std
        for p in self.parameters():
            p.requires_grad = False


class EDSR(nn.Module):
    """Residual blocks with a scale, and a tail that shuffles pixels."""

    class Block(nn.Module):
        def __init__(self, nf, res_scale):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(nf, nf, 3, 1, 1), nn.ReLU(True), nn.Conv2d(nf, nf, 3, 1, 1))
            self.res_scale = res_scale

        def forward(self, x):
            res = self.body(x).mul(self.res_scale)
            res += x
            return res

    def __init__(self, nf=8, scale=4):
        super().__init__()
        self.sub_mean, self.add_mean = MeanShift(-1), MeanShift(1)
        self.head = nn.Sequential(nn.Conv2d(3, nf, 3, 1, 1))
        self.body = nn.Sequential(*[self.Block(nf, 0.1) for _ in range(2)], nn.Conv2d(nf, nf, 3, 1, 1))
        m = []
        for _ in range(int(math.log2(scale))):
            m.extend((nn.Conv2d(nf, 4 * nf, 3, 1, 1), nn.PixelShuffle(2)))
        self.tail = nn.Sequential(*m, nn.Conv2d(nf, 3, 3, 1, 1))

    def forward(self, x):
        x = self.sub_mean(x)
        x = self.head(x)
        res = self.body(x)
        res += x
        x = self.tail(res)
        return self.add_mean(x)


class RRDBNet(nn.Module):
    """Dense blocks in residual blocks; the input is unshuffled for small scales, with an assert."""

    class Dense(nn.Module):
        def __init__(self, nf=8, gc=4):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(nf + i * gc, gc if i < 2 else nf, 3, 1, 1) for i in range(3))
            self.lrelu = nn.LeakyReLU(negative_slope=0.2, inplace=True)

        def forward(self, x):
            x1 = self.lrelu(self.convs[0](x))
            x2 = self.lrelu(self.convs[1](torch.cat((x, x1), 1)))
            x3 = self.convs[2](torch.cat((x, x1, x2), 1))
            return x3 * 0.2 + x

    def __init__(self, nf=8, scale=2):
        super().__init__()
        self.scale = scale
        self.conv_first = nn.Conv2d(3 * 4 if scale == 2 else 3, nf, 3, 1, 1)
        self.body = nn.Sequential(self.Dense(nf), self.Dense(nf))
        self.conv_up1, self.conv_up2 = nn.Conv2d(nf, nf, 3, 1, 1), nn.Conv2d(nf, nf, 3, 1, 1)
        self.conv_last = nn.Conv2d(nf, 3, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)

    def pixel_unshuffle(self, x, scale):
        b, c, hh, hw = x.size()
        out_channel = c * (scale**2)
        assert hh % scale == 0
        assert hw % scale == 0
        h = hh // scale
        w = hw // scale
        x_view = x.view(b, c, h, scale, w, scale)
        return x_view.permute(0, 1, 3, 5, 2, 4).reshape(b, out_channel, h, w)

    def forward(self, x):
        feat = self.pixel_unshuffle(x, scale=2) if self.scale == 2 else x
        feat = self.conv_first(feat)
        feat = feat + self.body(feat)
        feat = self.lrelu(self.conv_up1(F.interpolate(feat, scale_factor=2, mode="nearest")))
        feat = self.lrelu(self.conv_up2(F.interpolate(feat, scale_factor=2, mode="nearest")))
        return self.conv_last(feat)


class SwinIR(nn.Module):
    """Shifted windows; a mean that becomes of the input's type; a mask that is made anew for other sizes."""

    def __init__(self, dim=12, window_size=4, upscale=2):
        super().__init__()
        self.window_size, self.upscale, self.img_range, self.heads = window_size, upscale, 1.0, 2
        self.shift, self.input_resolution = window_size // 2, (16, 16)
        self.mean = torch.Tensor((0.4488, 0.4371, 0.4040)).view(1, 3, 1, 1)
        self.conv_first = nn.Conv2d(3, dim, 3, 1, 1)
        self.norm1, self.qkv, self.proj = nn.LayerNorm(dim), nn.Linear(dim, dim * 3), nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * window_size - 1) ** 2, self.heads) * 0.1)
        coords = torch.stack(torch.meshgrid(torch.arange(window_size), torch.arange(window_size), indexing="ij"))
        relative = coords.flatten(1)[:, :, None] - coords.flatten(1)[:, None, :] + window_size - 1
        self.register_buffer("relative_position_index", relative[0] * (2 * window_size - 1) + relative[1])
        self.register_buffer("attn_mask", self.calculate_mask(self.input_resolution))
        self.upsample = nn.Sequential(nn.Conv2d(dim, 3 * upscale**2, 3, 1, 1), nn.PixelShuffle(upscale))

    def window_partition(self, x):
        b, h, w, c = x.shape
        s = self.window_size
        return x.view(b, h // s, s, w // s, s, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, s * s, c)

    def window_reverse(self, windows, h, w):
        s = self.window_size
        b = int(windows.shape[0] / (h * w / s / s))
        return windows.view(b, h // s, w // s, s, s, -1).permute(0, 1, 3, 2, 4, 5).contiguous().view(b, h, w, -1)

    def calculate_mask(self, x_size):
        h, w = x_size
        img_mask = torch.zeros((1, h, w, 1))
        s = (slice(0, -self.window_size), slice(-self.window_size, -self.shift), slice(-self.shift, None))
        cnt = 0
        for one in s:
            for other in s:
                img_mask[:, one, other, :] = cnt
                cnt += 1
        windows = self.window_partition(img_mask).squeeze(-1)
        attn_mask = windows.unsqueeze(1) - windows.unsqueeze(2)
        return attn_mask.masked_fill(attn_mask != 0, -100.0).masked_fill(attn_mask == 0, 0.0)

    def attention(self, x, mask):
        b_, n, c = x.shape
        qkv = self.qkv(x).reshape(b_, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = q * (c // self.heads) ** -0.5 @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)].view(n, n, -1)
        attn = attn + bias.permute(2, 0, 1).contiguous().unsqueeze(0)
        nw = mask.shape[0]
        attn = attn.view(b_ // nw, nw, self.heads, n, n) + mask.unsqueeze(1).unsqueeze(0)
        attn = attn.view(-1, self.heads, n, n).softmax(-1)
        return self.proj((attn @ v).transpose(1, 2).reshape(b_, n, c))

    def forward(self, x):
        h0, w0 = x.shape[2:]
        pad_h = (self.window_size - h0 % self.window_size) % self.window_size
        pad_w = (self.window_size - w0 % self.window_size) % self.window_size
        x = F.pad(x, (0, pad_w, 0, pad_h), "reflect")
        self.mean = self.mean.type_as(x)
        x = (x - self.mean) * self.img_range
        feat = self.conv_first(x)
        h, w = feat.shape[2:]
        y = self.norm1(feat.flatten(2).transpose(1, 2)).view(-1, h, w, feat.shape[1])
        y = torch.roll(y, shifts=(-self.shift, -self.shift), dims=(1, 2))
        mask = self.attn_mask if self.input_resolution == (h, w) else self.calculate_mask((h, w)).to(x.device)
        y = self.window_reverse(self.attention(self.window_partition(y), mask), h, w)
        y = torch.roll(y, shifts=(self.shift, self.shift), dims=(1, 2)).permute(0, 3, 1, 2)
        x = self.upsample(feat + y) / self.img_range + self.mean
        return x[:, :, : h0 * self.upscale, : w0 * self.upscale]


class NAFNet(nn.Module):
    """A gate by ``chunk``, a normalization with a gradient of its own, and an input that is padded."""

    class LayerNormFunction(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, bias, eps):
            ctx.eps = eps
            mu = x.mean(1, keepdim=True)
            var = (x - mu).pow(2).mean(1, keepdim=True)
            y = (x - mu) / (var + eps).sqrt()
            ctx.save_for_backward(y, var, weight)
            return weight.view(1, -1, 1, 1) * y + bias.view(1, -1, 1, 1)

        @staticmethod
        def backward(ctx, grad):
            y, var, weight = ctx.saved_tensors
            g = grad * weight.view(1, -1, 1, 1)
            mean_g, mean_gy = g.mean(dim=1, keepdim=True), (g * y).mean(dim=1, keepdim=True)
            gx = 1.0 / torch.sqrt(var + ctx.eps) * (g - y * mean_gy - mean_g)
            return gx, (grad * y).sum((3, 2, 0)), grad.sum((3, 2, 0)), None

    class SimpleGate(nn.Module):
        def forward(self, x):
            x1, x2 = x.chunk(2, dim=1)
            return x1 * x2

    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c))
            self.conv1, self.conv2 = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
            self.sg, self.conv3 = NAFNet.SimpleGate(), nn.Conv2d(c, c, 1)
            self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))
            self.dropout1 = nn.Dropout(0.1)
            self.beta = nn.Parameter(torch.zeros((1, c, 1, 1)))

        def forward(self, inp):
            x = NAFNet.LayerNormFunction.apply(inp, self.weight, self.bias, 1e-6)
            x = self.sg(self.conv2(self.conv1(x)))
            x = x * self.sca(x)
            x = self.dropout1(self.conv3(x))
            return inp + x * self.beta

    def __init__(self, width=8):
        super().__init__()
        self.intro, self.ending = nn.Conv2d(3, width, 3, 1, 1), nn.Conv2d(width, 3, 3, 1, 1)
        self.encoders, self.downs, self.ups, self.decoders = (nn.ModuleList() for _ in range(4))
        for chan in (width, width * 2):
            self.encoders.append(nn.Sequential(self.Block(chan)))
            self.downs.append(nn.Conv2d(chan, 2 * chan, 2, 2))
            self.ups.insert(0, nn.Sequential(nn.Conv2d(2 * chan, chan * 4, 1, bias=False), nn.PixelShuffle(2)))
            self.decoders.insert(0, nn.Sequential(self.Block(chan)))
        self.middle_blks = nn.Sequential(self.Block(width * 4))
        self.padder_size = 2 ** len(self.encoders)

    def forward(self, inp):
        _B, _C, H, W = inp.shape
        inp = self.check_image_size(inp)
        x = self.intro(inp)
        encs = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            encs.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for decoder, up, enc_skip in zip(self.decoders, self.ups, encs[::-1], strict=True):
            x = up(x)
            x = x + enc_skip
            x = decoder(x)
        x = self.ending(x)
        x = x + inp
        return x[:, :, :H, :W]

    def check_image_size(self, x):
        _, _, h, w = x.size()
        mod_pad_h = (self.padder_size - h % self.padder_size) % self.padder_size
        mod_pad_w = (self.padder_size - w % self.padder_size) % self.padder_size
        return F.pad(x, (0, mod_pad_w, 0, mod_pad_h))
