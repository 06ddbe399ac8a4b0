"""YOLOv4 in plain PyTorch; its modules have the names of our cells, so that weights fit."""

import math

import torch
from torch import nn
from torch.nn import functional as F

CLASSES = 80
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


class Block(nn.Module):
    """Convolution, batch normalisation, activation."""

    def __init__(self, inputs, outputs, kernel, act, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-5, momentum=0.03)
        self.act = nn.Mish(inplace=True) if act == "mish" else nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Residual(nn.Module):
    """A 1x1 and a 3x3 block beside the identity."""

    def __init__(self, channels, hidden):
        super().__init__()
        self.conv1 = Block(channels, hidden, 1, "mish")
        self.conv2 = Block(hidden, channels, 3, "mish")

    def forward(self, x):
        return x + self.conv2(self.conv1(x))


class Stage(nn.Module):
    """Down-sampling and a cross-stage-partial group of residuals."""

    def __init__(self, inputs, channels, branch, hidden, count):
        super().__init__()
        self.down = Block(inputs, channels, 3, "mish", 2)
        self.bypass = Block(channels, branch, 1, "mish")
        self.main_in = Block(channels, branch, 1, "mish")
        self.blocks = nn.Sequential(*(Residual(branch, hidden) for _ in range(count)))
        self.main_out = Block(branch, branch, 1, "mish")
        self.transition = Block(2 * branch, channels, 1, "mish")

    def forward(self, x):
        x = self.down(x)
        return self.transition(
            torch.cat((self.main_out(self.blocks(self.main_in(x))), self.bypass(x)), 1)
        )


def alternating(inputs, narrow, wide, count):
    """1x1 to `narrow` and 3x3 to `wide` in turn, `count` blocks."""
    sizes = [(narrow, 1) if place % 2 == 0 else (wide, 3) for place in range(count)]
    entries = [inputs] + [channels for channels, _ in sizes[:-1]]
    return nn.Sequential(
        *(Block(a, b, kernel, "leaky") for a, (b, kernel) in zip(entries, sizes, strict=True))
    )


class Backbone(nn.Module):
    """CSPDarknet53."""

    def __init__(self, c, repeat):
        super().__init__()
        self.stem = Block(3, c(32), 3, "mish")
        self.stage1 = Stage(c(32), c(64), c(64), c(32), repeat(1))
        self.stage2 = Stage(c(64), c(128), c(64), c(64), repeat(2))
        self.stage3 = Stage(c(128), c(256), c(128), c(128), repeat(8))
        self.stage4 = Stage(c(256), c(512), c(256), c(256), repeat(8))
        self.stage5 = Stage(c(512), c(1024), c(512), c(512), repeat(4))

    def forward(self, x):
        x8 = self.stage3(self.stage2(self.stage1(self.stem(x))))
        x16 = self.stage4(x8)
        return x8, x16, self.stage5(x16)


class Neck(nn.Module):
    """Spatial pyramid pooling and path aggregation."""

    def __init__(self, c):
        super().__init__()
        self.pre_spp = alternating(c(1024), c(512), c(1024), 3)
        self.post_spp = alternating(4 * c(512), c(512), c(1024), 3)
        self.reduce5 = Block(c(512), c(256), 1, "leaky")
        self.lateral4 = Block(c(512), c(256), 1, "leaky")
        self.topdown4 = alternating(2 * c(256), c(256), c(512), 5)
        self.reduce4 = Block(c(256), c(128), 1, "leaky")
        self.lateral3 = Block(c(256), c(128), 1, "leaky")
        self.topdown3 = alternating(2 * c(128), c(128), c(256), 5)
        self.down3 = Block(c(128), c(256), 3, "leaky", 2)
        self.bottomup4 = alternating(2 * c(256), c(256), c(512), 5)
        self.down4 = Block(c(256), c(512), 3, "leaky", 2)
        self.bottomup5 = alternating(2 * c(512), c(512), c(1024), 5)

    def forward(self, x8, x16, x32):
        p5 = self.pre_spp(x32)
        pools = [F.max_pool2d(p5, size, 1, size // 2) for size in (13, 9, 5)]
        p5 = self.post_spp(torch.cat((*pools, p5), 1))
        p4 = self.topdown4(
            torch.cat((self.lateral4(x16), F.interpolate(self.reduce5(p5), scale_factor=2.0)), 1)
        )
        n3 = self.topdown3(
            torch.cat((self.lateral3(x8), F.interpolate(self.reduce4(p4), scale_factor=2.0)), 1)
        )
        n4 = self.bottomup4(torch.cat((self.down3(n3), p4), 1))
        return n3, n4, self.bottomup5(torch.cat((self.down4(n4), p5), 1))


class Head(nn.Module):
    """One linear prediction per level."""

    def __init__(self, c):
        super().__init__()
        outputs = 3 * (5 + CLASSES)
        self.expand3 = Block(c(128), c(256), 3, "leaky")
        self.predict3 = nn.Conv2d(c(256), outputs, 1)
        self.expand4 = Block(c(256), c(512), 3, "leaky")
        self.predict4 = nn.Conv2d(c(512), outputs, 1)
        self.expand5 = Block(c(512), c(1024), 3, "leaky")
        self.predict5 = nn.Conv2d(c(1024), outputs, 1)

    def forward(self, n3, n4, n5):
        return (
            self.predict3(self.expand3(n3)),
            self.predict4(self.expand4(n4)),
            self.predict5(self.expand5(n5)),
        )


class YoloV4(nn.Module):
    """Images (B, 3, H, W) -> three raw maps, stride 8 first."""

    def __init__(self, width=1.0, depth=1.0):
        super().__init__()

        def channels(count):
            return 8 * math.ceil(round(count * width / 8, 6))

        self.backbone = Backbone(channels, lambda count: max(1, round(count * depth)))
        self.neck = Neck(channels)
        self.head = Head(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                # As any detector starts: objects are rare.
                nn.init.normal_(module.weight, std=0.01)
                nn.init.constant_(module.bias, -4.6)

    def forward(self, images):
        return self.head(*self.neck(*self.backbone(images)))
