"""Networks for optical flow, frames and coordinates, small, in the styles of RAFT, PWC-Net, RIFE, BasicVSR and LIIF."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

backwarp_tenGrid = {}


def warp(tenInput, tenFlow):
    """Warp by a grid that a global dictionary keeps for each device and size."""
    k = (str(tenFlow.device), str(tenFlow.size()))
    if k not in backwarp_tenGrid:
        tenHorizontal = torch.linspace(-1.0, 1.0, tenFlow.shape[3], device=tenFlow.device)
        tenHorizontal = tenHorizontal.view(1, 1, 1, tenFlow.shape[3]).expand(tenFlow.shape[0], -1, tenFlow.shape[2], -1)
        tenVertical = torch.linspace(-1.0, 1.0, tenFlow.shape[2], device=tenFlow.device)
        tenVertical = tenVertical.view(1, 1, tenFlow.shape[2], 1).expand(tenFlow.shape[0], -1, -1, tenFlow.shape[3])
        backwarp_tenGrid[k] = torch.cat([tenHorizontal, tenVertical], 1).to(tenFlow.device)
    tenFlow = torch.cat(
        [
            tenFlow[:, 0:1, :, :] / ((tenInput.shape[3] - 1.0) / 2.0),
            tenFlow[:, 1:2, :, :] / ((tenInput.shape[2] - 1.0) / 2.0),
        ],
        1,
    )
    g = (backwarp_tenGrid[k] + tenFlow).permute(0, 2, 3, 1)
    return F.grid_sample(input=tenInput, grid=g, mode="bilinear", padding_mode="border", align_corners=True)


class RIFE(nn.Module):
    """A flow that is refined from scale to scale, with a global cache of grids."""

    class Block(nn.Module):
        def __init__(self, in_planes, c=8):
            super().__init__()
            self.conv0 = nn.Sequential(nn.Conv2d(in_planes, c, 3, 2, 1), nn.PReLU(c))
            self.lastconv = nn.ConvTranspose2d(c, 5, 4, 2, 1)

        def forward(self, x, flow, scale):
            if scale != 1:
                x = F.interpolate(x, scale_factor=1.0 / scale, mode="bilinear", align_corners=False)
            if flow is not None:
                flow = F.interpolate(flow, scale_factor=1.0 / scale, mode="bilinear", align_corners=False) * 1.0 / scale
                x = torch.cat((x, flow), 1)
            tmp = self.lastconv(self.conv0(x))
            tmp = F.interpolate(tmp, scale_factor=scale, mode="bilinear", align_corners=False)
            return tmp[:, :4] * scale, tmp[:, 4:5]

    def __init__(self):
        super().__init__()
        self.block0, self.block1 = self.Block(6), self.Block(13 + 4)

    def forward(self, x, scale=(2, 1)):
        channel = x.shape[1] // 2
        img0, img1 = x[:, :channel], x[:, channel:]
        flow_list, merged, mask_list = [], [], []
        warped_img0, warped_img1, flow, mask = img0, img1, None, None
        stu = [self.block0, self.block1]
        for i in range(2):
            if flow is not None:
                flow_d, mask_d = stu[i](
                    torch.cat((img0, img1, warped_img0, warped_img1, mask), 1), flow, scale=scale[i]
                )
                flow = flow + flow_d
                mask = mask + mask_d
            else:
                flow, mask = stu[i](torch.cat((img0, img1), 1), None, scale=scale[i])
            mask_list.append(torch.sigmoid(mask))
            flow_list.append(flow)
            warped_img0, warped_img1 = warp(img0, flow[:, :2]), warp(img1, flow[:, 2:4])
            merged.append((warped_img0, warped_img1))
        for i in range(2):
            merged[i] = merged[i][0] * mask_list[i] + merged[i][1] * (1 - mask_list[i])
        return flow_list, mask_list[-1], merged


class PWCNet(nn.Module):
    """Correlations over a neighborhood, by loops, and a grid that the module keeps for one size."""

    def __init__(self, nf=6, md=1):
        super().__init__()
        self.md, self.grid = md, None
        self.conv1, self.conv2 = nn.Conv2d(3, nf, 3, 2, 1), nn.Conv2d(nf, nf, 3, 2, 1)
        nd = (2 * md + 1) ** 2
        self.predict_flow2 = nn.Conv2d(nd, 2, 3, 1, 1)
        self.deconv2 = nn.ConvTranspose2d(2, 2, 4, 2, 1)
        self.predict_flow1 = nn.Conv2d(nd + nf + 2, 2, 3, 1, 1)
        self.leakyRELU = nn.LeakyReLU(0.1)

    def corr(self, one, two):
        two = F.pad(two, [self.md] * 4)
        _, _, h, w = one.size()
        out = []
        for i in range(2 * self.md + 1):
            for j in range(2 * self.md + 1):
                out.append((one * two[:, :, i : i + h, j : j + w]).mean(1, keepdim=True))
        return torch.cat(out, 1)

    def warp(self, x, flo):
        B, _C, H, W = x.size()
        if self.grid is None or self.grid.size() != torch.Size([B, 2, H, W]):
            xx = torch.arange(0, W).view(1, -1).repeat(H, 1).view(1, 1, H, W).repeat(B, 1, 1, 1)
            yy = torch.arange(0, H).view(-1, 1).repeat(1, W).view(1, 1, H, W).repeat(B, 1, 1, 1)
            self.grid = torch.cat((xx, yy), 1).float()
        vgrid = self.grid.to(x.device) + flo
        vgrid[:, 0, :, :] = 2.0 * vgrid[:, 0, :, :].clone() / max(W - 1, 1) - 1.0
        vgrid[:, 1, :, :] = 2.0 * vgrid[:, 1, :, :].clone() / max(H - 1, 1) - 1.0
        vgrid = vgrid.permute(0, 2, 3, 1)
        output = F.grid_sample(x, vgrid, align_corners=True)
        mask = F.grid_sample(torch.ones(x.size(), device=x.device), vgrid, align_corners=True)
        mask[mask < 0.9999] = 0
        mask[mask > 0] = 1
        return output * mask

    def forward(self, im1, im2):
        c11, c21 = self.leakyRELU(self.conv1(im1)), self.leakyRELU(self.conv1(im2))
        c12, c22 = self.leakyRELU(self.conv2(c11)), self.leakyRELU(self.conv2(c21))
        flow2 = self.predict_flow2(self.leakyRELU(self.corr(c12, c22)))
        up_flow2 = self.deconv2(flow2)
        warp1 = self.warp(c21, up_flow2 * 0.625)
        corr1 = self.leakyRELU(self.corr(c11, warp1))
        flow1 = self.predict_flow1(torch.cat((corr1, c11, up_flow2), 1))
        if self.training:
            return flow1, flow2
        return flow1


class RAFT(nn.Module):
    """A pyramid of all correlations, looked up in each turn of a recurrent update."""

    def __init__(self, dim=8, radius=1, levels=2):
        super().__init__()
        self.radius, self.levels, self.dim = radius, levels, dim
        self.fnet = nn.Sequential(
            nn.Conv2d(3, dim, 3, 2, 1), nn.InstanceNorm2d(dim), nn.ReLU(), nn.Conv2d(dim, dim, 3, 2, 1)
        )
        self.cnet = nn.Sequential(
            nn.Conv2d(3, dim, 3, 2, 1), nn.BatchNorm2d(dim), nn.ReLU(), nn.Conv2d(dim, dim * 2, 3, 2, 1)
        )
        planes = levels * (2 * radius + 1) ** 2
        self.convc, self.convz = nn.Conv2d(planes + 2, dim, 1), nn.Conv2d(dim * 3, dim, 3, padding=1)
        self.convq, self.flow_head = nn.Conv2d(dim * 3, dim, 3, padding=1), nn.Conv2d(dim, 2, 3, padding=1)

    def coords_grid(self, batch, ht, wd):
        coords = torch.meshgrid(torch.arange(ht), torch.arange(wd), indexing="ij")
        coords = torch.stack(coords[::-1], dim=0).float()
        return coords[None].repeat(batch, 1, 1, 1)

    def bilinear_sampler(self, img, coords):
        H, W = img.shape[-2:]
        xgrid, ygrid = coords.split([1, 1], dim=-1)
        grid = torch.cat([2 * xgrid / (W - 1) - 1, 2 * ygrid / (H - 1) - 1], dim=-1)
        return F.grid_sample(img, grid, align_corners=True)

    def lookup(self, pyramid, coords):
        r = self.radius
        coords = coords.permute(0, 2, 3, 1)
        batch, h1, w1, _ = coords.shape
        out_pyramid = []
        for i in range(self.levels):
            d = torch.linspace(-r, r, 2 * r + 1, device=coords.device)
            delta = torch.stack(torch.meshgrid(d, d, indexing="ij"), axis=-1)
            centroid_lvl = coords.reshape(batch * h1 * w1, 1, 1, 2) / 2**i
            coords_lvl = centroid_lvl + delta.view(1, 2 * r + 1, 2 * r + 1, 2)
            out_pyramid.append(self.bilinear_sampler(pyramid[i], coords_lvl).view(batch, h1, w1, -1))
        return torch.cat(out_pyramid, dim=-1).permute(0, 3, 1, 2).contiguous().float()

    def forward(self, image1, image2, iters=3):
        image1, image2 = 2 * (image1 / 255.0) - 1.0, 2 * (image2 / 255.0) - 1.0
        with torch.autocast("cpu", enabled=False):
            fmap1, fmap2 = torch.split(self.fnet(torch.cat([image1, image2], dim=0)), [image1.shape[0]] * 2, dim=0)
        batch, dim, ht, wd = fmap1.shape
        corr = torch.matmul(fmap1.view(batch, dim, -1).transpose(1, 2), fmap2.view(batch, dim, -1))
        corr = corr.view(batch * ht * wd, 1, ht, wd) / torch.sqrt(torch.tensor(dim).float())
        pyramid = [corr, F.avg_pool2d(corr, 2, stride=2)]
        net, inp = torch.split(self.cnet(image1), [self.dim, self.dim], dim=1)
        net, inp = torch.tanh(net), torch.relu(inp)
        coords0, coords1 = (self.coords_grid(batch, ht, wd).to(image1.device) for _ in range(2))
        flow_predictions = []
        for _itr in range(iters):
            coords1 = coords1.detach()
            flow = coords1 - coords0
            motion = F.relu(self.convc(torch.cat([self.lookup(pyramid, coords1), flow], 1)))
            hx = torch.cat([net, inp, motion], dim=1)
            z = torch.sigmoid(self.convz(hx))
            net = (1 - z) * net + z * torch.tanh(self.convq(hx))
            coords1 = coords1 + self.flow_head(net)
            flow = coords1 - coords0
            flow_predictions.append(4 * F.interpolate(flow, size=(4 * ht, 4 * wd), mode="bilinear", align_corners=True))
        return flow_predictions


class BasicVSR(nn.Module):
    """Features that travel back and forth through frames, warped by a flow."""

    def __init__(self, nf=6):
        super().__init__()
        self.nf = nf
        self.flow = nn.Sequential(nn.Conv2d(6, nf, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(nf, 2, 3, 1, 1))
        self.backward_trunk, self.forward_trunk = (nn.Conv2d(nf + 3, nf, 3, 1, 1) for _ in range(2))
        self.fusion, self.upconv = nn.Conv2d(nf * 2, nf, 1), nn.Conv2d(nf, 3 * 4, 3, 1, 1)
        self.lrelu, self.pixel_shuffle = nn.LeakyReLU(negative_slope=0.1, inplace=True), nn.PixelShuffle(2)

    def flow_warp(self, x, flow):
        assert x.size()[-2:] == flow.size()[1:3]
        _, _, h, w = x.size()
        grid_y, grid_x = torch.meshgrid(torch.arange(0, h).type_as(x), torch.arange(0, w).type_as(x), indexing="ij")
        grid = torch.stack((grid_x, grid_y), 2).float()
        grid.requires_grad = False
        vgrid = grid + flow
        vgrid_x = 2.0 * vgrid[:, :, :, 0] / max(w - 1, 1) - 1.0
        vgrid_y = 2.0 * vgrid[:, :, :, 1] / max(h - 1, 1) - 1.0
        return F.grid_sample(x, torch.stack((vgrid_x, vgrid_y), dim=3), align_corners=True)

    def get_flow(self, x):
        b, n, c, h, w = x.size()
        x_1, x_2 = x[:, :-1, :, :, :].reshape(-1, c, h, w), x[:, 1:, :, :, :].reshape(-1, c, h, w)
        flows_backward = self.flow(torch.cat([x_1, x_2], 1)).view(b, n - 1, 2, h, w)
        flows_forward = self.flow(torch.cat([x_2, x_1], 1)).view(b, n - 1, 2, h, w)
        return flows_forward, flows_backward

    def forward(self, x):
        flows_forward, flows_backward = self.get_flow(x)
        b, n, _, h, w = x.size()
        out_l = []
        feat_prop = x.new_zeros(b, self.nf, h, w)
        for i in range(n - 1, -1, -1):
            x_i = x[:, i, :, :, :]
            if i < n - 1:
                feat_prop = self.flow_warp(feat_prop, flows_backward[:, i, :, :, :].permute(0, 2, 3, 1))
            feat_prop = self.lrelu(self.backward_trunk(torch.cat([x_i, feat_prop], dim=1)))
            out_l.insert(0, feat_prop)
        feat_prop = torch.zeros_like(feat_prop)
        for i in range(n):
            x_i = x[:, i, :, :, :]
            if i > 0:
                feat_prop = self.flow_warp(feat_prop, flows_forward[:, i - 1, :, :, :].permute(0, 2, 3, 1))
            feat_prop = self.lrelu(self.forward_trunk(torch.cat([x_i, feat_prop], dim=1)))
            out = self.lrelu(self.fusion(torch.cat([out_l[i], feat_prop], dim=1)))
            out = self.pixel_shuffle(self.upconv(out))
            base = F.interpolate(x_i, scale_factor=2, mode="bilinear", align_corners=False)
            out += base
            out_l[i] = out
        return torch.stack(out_l, dim=1)


class LIIF(nn.Module):
    """Colors at coordinates, from the four features around each."""

    def __init__(self, nf=4):
        super().__init__()
        self.encoder = nn.Conv2d(3, nf, 3, padding=1)
        self.imnet = nn.Sequential(nn.Linear(nf * 9 + 4, 16), nn.ReLU(), nn.Linear(16, 3))

    def make_coord(self, shape, ranges=None, flatten=True):
        coord_seqs = []
        for i, n in enumerate(shape):
            v0, v1 = (-1, 1) if ranges is None else ranges[i]
            r = (v1 - v0) / (2 * n)
            coord_seqs.append(v0 + r + (2 * r) * torch.arange(n).float())
        ret = torch.stack(torch.meshgrid(*coord_seqs, indexing="ij"), dim=-1)
        return ret.view(-1, ret.shape[-1]) if flatten else ret

    def forward(self, inp, coord, cell):
        feat = self.encoder(inp)
        feat = F.unfold(feat, 3, padding=1).view(feat.shape[0], feat.shape[1] * 9, feat.shape[2], feat.shape[3])
        rx, ry = 2 / feat.shape[-2] / 2, 2 / feat.shape[-1] / 2
        feat_coord = self.make_coord(feat.shape[-2:], flatten=False).to(feat.device).permute(2, 0, 1)
        feat_coord = feat_coord.unsqueeze(0).expand(feat.shape[0], 2, *feat.shape[-2:])
        preds, areas = [], []
        for vx in [-1, 1]:
            for vy in [-1, 1]:
                coord_ = coord.clone()
                coord_[:, :, 0] += vx * rx + 1e-6
                coord_[:, :, 1] += vy * ry + 1e-6
                coord_.clamp_(-1 + 1e-6, 1 - 1e-6)
                grid = coord_.flip(-1).unsqueeze(1)
                q_feat, q_coord = (
                    F.grid_sample(one, grid, mode="nearest", align_corners=False)[:, :, 0, :].permute(0, 2, 1)
                    for one in (feat, feat_coord)
                )
                rel_coord = coord - q_coord
                rel_coord[:, :, 0] *= feat.shape[-2]
                rel_coord[:, :, 1] *= feat.shape[-1]
                bs, q = coord.shape[:2]
                inp_ = torch.cat([q_feat, rel_coord, cell * feat.shape[-1]], dim=-1)
                preds.append(self.imnet(inp_.view(bs * q, -1)).view(bs, q, -1))
                areas.append(torch.abs(rel_coord[:, :, 0] * rel_coord[:, :, 1]) + 1e-9)
        tot_area = torch.stack(areas).sum(dim=0)
        areas[0], areas[3] = areas[3], areas[0]
        areas[1], areas[2] = areas[2], areas[1]
        ret = 0
        for pred, area in zip(preds, areas, strict=True):
            ret = ret + pred * (area / tot_area).unsqueeze(-1)
        return ret
