"""Networks for restoration and enhancement with einops, wavelets, Fourier transforms, filters and masks, small."""

from __future__ import annotations

import math
import numbers

import torch
from torch import nn
from torch.nn import functional as F


class Restormer(nn.Module):
    """Attention over channels by einops, and a gate by ``chunk``."""

    class WithBiasLayerNorm(nn.Module):
        def __init__(self, normalized_shape):
            super().__init__()
            if isinstance(normalized_shape, numbers.Integral):
                normalized_shape = (normalized_shape,)
            normalized_shape = torch.Size(normalized_shape)
            assert len(normalized_shape) == 1
            self.weight = nn.Parameter(torch.ones(normalized_shape))
            self.bias = nn.Parameter(torch.zeros(normalized_shape))

        def forward(self, x):
            from einops import rearrange

            h, w = x.shape[-2:]
            x = rearrange(x, "b c h w -> b (h w) c")
            mu = x.mean(-1, keepdim=True)
            sigma = x.var(-1, keepdim=True, unbiased=False)
            x = (x - mu) / torch.sqrt(sigma + 1e-5) * self.weight + self.bias
            return rearrange(x, "b (h w) c -> b c h w", h=h, w=w)

    class Attention(nn.Module):
        def __init__(self, dim, num_heads):
            super().__init__()
            self.num_heads = num_heads
            self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
            self.qkv = nn.Conv2d(dim, dim * 3, 1)
            self.qkv_dwconv = nn.Conv2d(dim * 3, dim * 3, 3, padding=1, groups=dim * 3)
            self.project_out = nn.Conv2d(dim, dim, 1)

        def forward(self, x):
            from einops import rearrange

            _b, _c, h, w = x.shape
            qkv = self.qkv_dwconv(self.qkv(x))
            q, k, v = (rearrange(t, "b (g c) h w -> b g c (h w)", g=self.num_heads) for t in qkv.chunk(3, dim=1))
            q = torch.nn.functional.normalize(q, dim=-1)
            k = torch.nn.functional.normalize(k, dim=-1)
            attn = (q @ k.transpose(-2, -1)) * self.temperature
            attn = attn.softmax(dim=-1)
            out = rearrange(attn @ v, "b g c (h w) -> b (g c) h w", g=self.num_heads, h=h, w=w)
            return self.project_out(out)

    class FeedForward(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.project_in = nn.Conv2d(dim, dim * 4, 1)
            self.dwconv = nn.Conv2d(dim * 4, dim * 4, 3, padding=1, groups=dim * 4)
            self.project_out = nn.Conv2d(dim * 2, dim, 1)

        def forward(self, x):
            x1, x2 = self.dwconv(self.project_in(x)).chunk(2, dim=1)
            return self.project_out(F.gelu(x1) * x2)

    def __init__(self, dim=8):
        super().__init__()
        self.patch_embed, self.output = nn.Conv2d(3, dim, 3, 1, 1), nn.Conv2d(dim, 3, 3, 1, 1)
        self.down = nn.Sequential(nn.Conv2d(dim, dim // 2, 3, 1, 1), nn.PixelUnshuffle(2))
        self.up = nn.Sequential(nn.Conv2d(dim * 2, dim * 4, 3, 1, 1), nn.PixelShuffle(2))
        self.norms = nn.ModuleList([self.WithBiasLayerNorm(dim * 2) for _ in range(2)])
        self.attn, self.ffn = self.Attention(dim * 2, 2), self.FeedForward(dim * 2)

    def forward(self, inp_img):
        enc = self.patch_embed(inp_img)
        x = self.down(enc)
        x = x + self.attn(self.norms[0](x))
        x = x + self.ffn(self.norms[1](x))
        return self.output(self.up(x) + enc) + inp_img


class Uformer(nn.Module):
    """Tokens whose grid is the root of their number."""

    class LeFF(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.linear1 = nn.Sequential(nn.Linear(dim, dim * 2), nn.GELU())
            self.dwconv = nn.Sequential(nn.Conv2d(dim * 2, dim * 2, 3, 1, 1, groups=dim * 2), nn.GELU())
            self.linear2 = nn.Sequential(nn.Linear(dim * 2, dim))

        def forward(self, x):
            from einops import rearrange

            _bs, hw, _c = x.size()
            hh = int(math.sqrt(hw))
            x = self.linear1(x)
            x = rearrange(x, " b (h w) (c) -> b c h w ", h=hh, w=hh)
            x = rearrange(self.dwconv(x), " b c h w -> b (h w) c", h=hh, w=hh)
            return self.linear2(x)

    def __init__(self, dim=8):
        super().__init__()
        self.proj, self.out = nn.Conv2d(3, dim, 3, 1, 1), nn.Conv2d(dim * 2, 3, 3, 1, 1)
        self.norm, self.mlp = nn.LayerNorm(dim), self.LeFF(dim)

    def forward(self, x):
        y = self.proj(x).flatten(2).transpose(1, 2).contiguous()
        deconv = torch.cat([y, y + self.mlp(self.norm(y))], -1)
        B, L, C = deconv.shape
        H = int(math.sqrt(L))
        return x + self.out(deconv.transpose(1, 2).contiguous().view(B, C, H, H))


class MWCNN(nn.Module):
    """Haar wavelets by slices, and an inverse that writes into slices of zeros."""

    def __init__(self, nf=8):
        super().__init__()
        self.head, self.tail = nn.Conv2d(12, nf, 3, 1, 1), nn.Conv2d(nf, 12, 3, 1, 1)
        self.act = nn.ReLU(True)

    def dwt(self, x):
        x01, x02 = x[:, :, 0::2, :] / 2, x[:, :, 1::2, :] / 2
        x1, x2, x3, x4 = x01[:, :, :, 0::2], x02[:, :, :, 0::2], x01[:, :, :, 1::2], x02[:, :, :, 1::2]
        return torch.cat((x1 + x2 + x3 + x4, -x1 - x2 + x3 + x4, -x1 + x2 - x3 + x4, x1 - x2 - x3 + x4), 1)

    def iwt(self, x):
        r = 2
        in_batch, in_channel, in_height, in_width = x.size()
        out_channel, out_height, out_width = int(in_channel / (r**2)), r * in_height, r * in_width
        x1, x2, x3, x4 = (x[:, i * out_channel : (i + 1) * out_channel, :, :] / 2 for i in range(4))
        h = torch.zeros([in_batch, out_channel, out_height, out_width]).float().to(x.device)
        h[:, :, 0::2, 0::2] = x1 - x2 - x3 + x4
        h[:, :, 1::2, 0::2] = x1 - x2 + x3 - x4
        h[:, :, 0::2, 1::2] = x1 + x2 - x3 - x4
        h[:, :, 1::2, 1::2] = x1 + x2 + x3 + x4
        return h

    def forward(self, x):
        return self.iwt(self.tail(self.act(self.head(self.dwt(x))))) + x


class FourierConvolution(nn.Module):
    """A convolution of the spectrum, with real and imaginary parts as channels."""

    def __init__(self, nf=8):
        super().__init__()
        self.local, self.out = nn.Conv2d(3, nf, 3, padding=1, padding_mode="reflect"), nn.Conv2d(nf, 3, 1)
        self.conv_layer, self.bn = nn.Conv2d(nf * 2, nf * 2, 1, bias=False), nn.BatchNorm2d(nf * 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(self.local(x))
        batch = x.shape[0]
        ffted = torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")
        ffted = torch.stack((ffted.real, ffted.imag), dim=-1)
        ffted = ffted.permute(0, 1, 4, 2, 3).contiguous()
        ffted = ffted.view((batch, -1, *ffted.size()[3:]))
        ffted = self.relu(self.bn(self.conv_layer(ffted)))
        ffted = ffted.view((batch, -1, 2, *ffted.size()[2:])).permute(0, 1, 3, 4, 2).contiguous()
        ffted = torch.complex(ffted[..., 0], ffted[..., 1])
        output = torch.fft.irfftn(ffted, s=x.shape[-2:], dim=(-2, -1), norm="ortho")
        return torch.sigmoid(self.out(output + x))


class ZeroDCE(nn.Module):
    """Curves that are applied one after the other."""

    def __init__(self, nf=8):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.e_conv1, self.e_conv2 = nn.Conv2d(3, nf, 3, 1, 1), nn.Conv2d(nf * 2, 12, 3, 1, 1)
        self.maxpool, self.mid = nn.MaxPool2d(2, stride=2), nn.Conv2d(nf, nf, 3, 1, 1)

    def forward(self, x):
        x1 = self.relu(self.e_conv1(x))
        x2 = F.interpolate(self.relu(self.mid(self.maxpool(x1))), size=x1.shape[2:], mode="bilinear")
        x_r = F.tanh(self.e_conv2(torch.cat([x1, x2], 1)))
        curves = torch.split(x_r, 3, dim=1)
        for r in curves:
            x = x + r * (torch.pow(x, 2) - x)
        return x, torch.cat(curves, 1)


class KernelPrediction(nn.Module):
    """A kernel for each pixel, from a softmax, applied to unfolded neighborhoods."""

    def __init__(self, nf=8, ksize=3):
        super().__init__()
        self.ksize = ksize
        self.net = nn.Sequential(nn.Conv2d(3, nf, 3, 1, 1), nn.ELU(), nn.Conv2d(nf, ksize**2, 3, 1, 1))

    def forward(self, x):
        n, c, h, w = x.shape
        kernel = F.softmax(self.net(x), dim=1).unsqueeze(1)
        patches = F.unfold(F.pad(x, [self.ksize // 2] * 4, mode="replicate"), self.ksize)
        return torch.einsum("nckhw,nukhw->nchw", patches.view(n, c, self.ksize**2, h, w), kernel)


class PartialConvolution(nn.Module):
    """Convolutions that know what is missing, and keep the mask's update while the size stays."""

    class Conv(nn.Conv2d):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.weight_maskUpdater = torch.ones(1, 1, self.kernel_size[0], self.kernel_size[1])
            self.slide_winsize = self.kernel_size[0] * self.kernel_size[1]
            self.last_size = (None, None, None, None)
            self.update_mask = self.mask_ratio = None

        def forward(self, input, mask_in=None):
            assert len(input.shape) == 4
            if mask_in is not None or self.last_size != tuple(input.shape):
                self.last_size = tuple(input.shape)
                with torch.no_grad():
                    if self.weight_maskUpdater.type() != input.type():
                        self.weight_maskUpdater = self.weight_maskUpdater.to(input)
                    mask = torch.ones(1, 1, *input.shape[2:]).to(input) if mask_in is None else mask_in
                    self.update_mask = F.conv2d(mask, self.weight_maskUpdater, padding=self.padding)
                    self.mask_ratio = self.slide_winsize / (self.update_mask + 1e-8)
                    self.update_mask = torch.clamp(self.update_mask, 0, 1)
                    self.mask_ratio = torch.mul(self.mask_ratio, self.update_mask)
            raw_out = super().forward(torch.mul(input, mask_in) if mask_in is not None else input)
            bias_view = self.bias.view(1, self.out_channels, 1, 1)
            output = torch.mul(raw_out - bias_view, self.mask_ratio) + bias_view
            return torch.mul(output, self.update_mask), self.update_mask

    def __init__(self, nf=8):
        super().__init__()
        self.first, self.second, self.last = (self.Conv(i, o, 3, padding=1) for i, o in ((3, nf), (nf, nf), (nf, 3)))

    def forward(self, x, mask):
        y, mask = self.first(x, mask)
        y, mask = self.second(F.relu(y, True), mask)
        y, _ = self.last(F.relu(y, True))
        return y * (1 - mask) + x * mask
