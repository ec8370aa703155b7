"""Networks with attention, codebooks, split channels and fused scales, small."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parameter import Parameter


class VQGAN(nn.Module):
    """The nearest of a codebook, with the gradient passed straight through."""

    def __init__(self, ch=8, n_e=16):
        super().__init__()
        self.norm = torch.nn.GroupNorm(num_groups=4, num_channels=ch, eps=1e-6, affine=True)
        self.conv_in, self.q, self.k, self.v = nn.Conv2d(3, ch, 3, 2, 1), *(nn.Conv2d(ch, ch, 1) for _ in range(3))
        self.embedding, self.n_e, self.e_dim, self.beta = nn.Embedding(n_e, ch), n_e, ch, 0.25
        self.conv_out = nn.Conv2d(ch, 3, 3, padding=1)

    def nonlinearity(self, x):
        return x * torch.sigmoid(x)

    def attend(self, x):
        h_ = self.norm(x)
        q, k, v = self.q(h_), self.k(h_), self.v(h_)
        b, c, h, w = q.shape
        w_ = torch.bmm(q.reshape(b, c, h * w).permute(0, 2, 1), k.reshape(b, c, h * w))
        w_ = torch.nn.functional.softmax(w_ * (int(c) ** (-0.5)), dim=2)
        h_ = torch.bmm(v.reshape(b, c, h * w), w_.permute(0, 2, 1))
        return x + h_.reshape(b, c, h, w)

    def quantize(self, z):
        z = z.permute(0, 2, 3, 1).contiguous()
        z_flattened = z.view(-1, self.e_dim)
        d = (
            torch.sum(z_flattened**2, dim=1, keepdim=True)
            + torch.sum(self.embedding.weight**2, dim=1)
            - 2 * torch.matmul(z_flattened, self.embedding.weight.t())
        )
        min_encoding_indices = torch.argmin(d, dim=1).unsqueeze(1)
        min_encodings = torch.zeros(min_encoding_indices.shape[0], self.n_e).to(z)
        min_encodings.scatter_(1, min_encoding_indices, 1)
        z_q = torch.matmul(min_encodings, self.embedding.weight).view(z.shape)
        loss = torch.mean((z_q.detach() - z) ** 2) + self.beta * torch.mean((z_q - z.detach()) ** 2)
        z_q = z + (z_q - z).detach()
        e_mean = torch.mean(min_encodings, dim=0)
        perplexity = torch.exp(-torch.sum(e_mean * torch.log(e_mean + 1e-10)))
        return z_q.permute(0, 3, 1, 2).contiguous(), loss, (perplexity, min_encodings, min_encoding_indices)

    def forward(self, x):
        z_q, loss, info = self.quantize(self.attend(self.nonlinearity(self.conv_in(x))))
        return self.conv_out(F.interpolate(z_q, scale_factor=2.0, mode="nearest")), loss, info


class BigGAN(nn.Module):
    """Parts of the noise for each block, norms by class, and attention with a gain that begins at zero."""

    class Norm(nn.Module):
        def __init__(self, num_features, cond):
            super().__init__()
            self.bn = nn.BatchNorm2d(num_features, affine=False)
            self.gain, self.bias = nn.Linear(cond, num_features, bias=False), nn.Linear(cond, num_features, bias=False)

        def forward(self, x, y):
            gain = (1 + self.gain(y)).view(y.size(0), -1, 1, 1)
            return self.bn(x) * gain + self.bias(y).view(y.size(0), -1, 1, 1)

    def __init__(self, ch=8, dim_z=12, n_classes=5):
        super().__init__()
        self.num_slots, self.ch = 3, ch
        self.z_chunk_size = dim_z // self.num_slots
        self.shared = nn.Embedding(n_classes, 4)
        self.linear = nn.Linear(self.z_chunk_size, 16 * ch)
        self.blocks = [[nn.Conv2d(ch, ch, 3, padding=1), self.Norm(ch, 4 + self.z_chunk_size)] for _ in range(2)]
        self.blocks = nn.ModuleList([nn.ModuleList(block) for block in self.blocks])
        self.theta, self.phi, self.g = (nn.Conv2d(ch, n, 1, bias=False) for n in (ch // 4, ch // 4, ch // 2))
        self.o, self.gamma = nn.Conv2d(ch // 2, ch, 1, bias=False), Parameter(torch.tensor(0.0), requires_grad=True)

    def attention(self, x):
        theta, phi, g = self.theta(x), F.max_pool2d(self.phi(x), [2, 2]), F.max_pool2d(self.g(x), [2, 2])
        theta = theta.view(-1, self.ch // 4, x.shape[2] * x.shape[3])
        phi = phi.view(-1, self.ch // 4, x.shape[2] * x.shape[3] // 4)
        g = g.view(-1, self.ch // 2, x.shape[2] * x.shape[3] // 4)
        beta = F.softmax(torch.bmm(theta.transpose(1, 2), phi), -1)
        o = self.o(torch.bmm(g, beta.transpose(1, 2)).view(-1, self.ch // 2, x.shape[2], x.shape[3]))
        return self.gamma * o + x

    def forward(self, z, y):
        y = self.shared(y)
        zs = torch.split(z, self.z_chunk_size, 1)
        z = zs[0]
        ys = [torch.cat([y, item], 1) for item in zs[1:]]
        h = self.linear(z)
        h = h.view(h.size(0), -1, 4, 4)
        for index, blocklist in enumerate(self.blocks):
            h = blocklist[1](F.interpolate(blocklist[0](h), scale_factor=2), ys[index])
            h = F.relu(h, inplace=True)
        return torch.tanh(self.attention(h))


class IMDN(nn.Module):
    """Channels that are split off from layer to layer, and a contrast of each channel."""

    def __init__(self, nf=8):
        super().__init__()
        self.distilled_channels = int(nf * 0.25)
        self.remaining_channels = int(nf - self.distilled_channels)
        self.head, self.c1 = nn.Conv2d(3, nf, 3, 1, 1), nn.Conv2d(nf, nf, 3, 1, 1)
        self.c2 = nn.Conv2d(self.remaining_channels, nf, 3, 1, 1)
        self.c3 = nn.Conv2d(self.remaining_channels, self.distilled_channels, 3, 1, 1)
        self.act = nn.LeakyReLU(negative_slope=0.05, inplace=True)
        width = self.distilled_channels * 3
        self.conv_du = nn.Sequential(
            nn.Conv2d(width, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, width, 1), nn.Sigmoid()
        )
        self.c5, self.tail = nn.Conv2d(width, nf, 1), nn.Sequential(nn.Conv2d(nf, 12, 3, 1, 1), nn.PixelShuffle(2))

    def stdv_channels(self, F):
        assert F.dim() == 4
        F_mean = F.sum(3, keepdim=True).sum(2, keepdim=True) / (F.size(2) * F.size(3))
        F_variance = (F - F_mean).pow(2).sum(3, keepdim=True).sum(2, keepdim=True) / (F.size(2) * F.size(3))
        return F_variance.pow(0.5)

    def forward(self, x):
        input = self.head(x)
        out_c1 = self.act(self.c1(input))
        distilled_c1, remaining_c1 = torch.split(out_c1, (self.distilled_channels, self.remaining_channels), dim=1)
        out_c2 = self.act(self.c2(remaining_c1))
        distilled_c2, remaining_c2 = torch.split(out_c2, (self.distilled_channels, self.remaining_channels), dim=1)
        out = torch.cat([distilled_c1, distilled_c2, self.c3(remaining_c2)], dim=1)
        out = out * self.conv_du(self.stdv_channels(out) + out.mean((2, 3), keepdim=True))
        return self.tail(self.c5(out) + input)


class U2Net(nn.Module):
    """Side outputs, each brought to the size of the first."""

    class Block(nn.Module):
        def __init__(self, i, o, dirate=1):
            super().__init__()
            self.conv_s1, self.bn_s1 = nn.Conv2d(i, o, 3, padding=dirate, dilation=dirate), nn.BatchNorm2d(o)
            self.relu_s1 = nn.ReLU(inplace=True)

        def forward(self, x):
            hx = x
            xout = self.relu_s1(self.bn_s1(self.conv_s1(hx)))
            return xout

    def __init__(self, c=6):
        super().__init__()
        self.stages = nn.ModuleList([self.Block(3, c), self.Block(c, c), self.Block(c, c, 2)])
        self.pool = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.decoders = nn.ModuleList([self.Block(c * 2, c), self.Block(c * 2, c)])
        self.sides, self.outconv = nn.ModuleList(nn.Conv2d(c, 1, 3, padding=1) for _ in range(3)), nn.Conv2d(3, 1, 1)

    def _upsample_like(self, src, tar):
        return F.interpolate(src, size=tar.shape[2:], mode="bilinear", align_corners=False)

    def forward(self, x):
        hx, features = x, []
        for i, stage in enumerate(self.stages):
            hx = stage(hx if i == 0 else self.pool(hx))
            features.append(hx)
        outs = [features[-1]]
        for i, decoder in enumerate(self.decoders):
            skip = features[-2 - i]
            outs.append(decoder(torch.cat((self._upsample_like(outs[-1], skip), skip), 1)))
        d1 = self.sides[0](outs[-1])
        d = [d1] + [self._upsample_like(side(out), d1) for side, out in zip(self.sides[1:], outs[-2::-1], strict=True)]
        d0 = self.outconv(torch.cat(d, 1))
        return tuple(torch.sigmoid(one) for one in (d0, *d))


class HandSpectralNorm(nn.Module):
    """A spectral norm by hand: each run moves u and v, and sets the weight of the module inside."""

    class Norm(nn.Module):
        def __init__(self, module, name="weight", power_iterations=1):
            super().__init__()
            self.module, self.name, self.power_iterations = module, name, power_iterations
            w = getattr(module, name)
            height, width = w.data.shape[0], w.view(w.data.shape[0], -1).data.shape[1]
            u, v = (Parameter(w.data.new(n).normal_(0, 1), requires_grad=False) for n in (height, width))
            u.data, v.data = self.l2normalize(u.data), self.l2normalize(v.data)
            del module._parameters[name]
            module.register_parameter(name + "_u", u)
            module.register_parameter(name + "_v", v)
            module.register_parameter(name + "_bar", Parameter(w.data))

        def l2normalize(self, v, eps=1e-12):
            return v / (v.norm() + eps)

        def _update_u_v(self):
            u, v = getattr(self.module, self.name + "_u"), getattr(self.module, self.name + "_v")
            w = getattr(self.module, self.name + "_bar")
            height = w.data.shape[0]
            for _ in range(self.power_iterations):
                v.data = self.l2normalize(torch.mv(torch.t(w.view(height, -1).data), u.data))
                u.data = self.l2normalize(torch.mv(w.view(height, -1).data, v.data))
            sigma = u.dot(w.view(height, -1).mv(v))
            setattr(self.module, self.name, w / sigma.expand_as(w))

        def forward(self, *args):
            self._update_u_v()
            return self.module.forward(*args)

    def __init__(self, nf=6):
        super().__init__()
        self.conv1, self.conv2 = self.Norm(nn.Conv2d(3, nf, 3, 2, 1)), self.Norm(nn.Conv2d(nf, 1, 3, 1, 1))

    def forward(self, x):
        m = nn.LeakyReLU(0.1)(self.conv1(x))
        return self.conv2(m)
