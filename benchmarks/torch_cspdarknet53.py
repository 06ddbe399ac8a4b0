"""CSPDarknet53 with its classifier tail in PyTorch, only to be timed beside ours; needs an environment with torch."""

import torch
from torch import nn

STAGES = ((32, 64, 64, 32, 1), (64, 128, 64, 64, 2), (128, 256, 128, 128, 8), (256, 512, 256, 256, 8))
STAGES += ((512, 1024, 512, 512, 4),)  # channels in, channels, branch, hidden, residual blocks


def block(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch normalisation and Mish."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.Mish())


class Residual(nn.Module):
    """Add a 1x1 and a 3x3 block to their input."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.blocks = nn.Sequential(block(channels, hidden, 1), block(hidden, channels, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.blocks(x)


class Stage(nn.Module):
    """Halve the map and join a path of residual blocks with one that bypasses them."""

    def __init__(self, in_channels: int, channels: int, branch: int, hidden: int, length: int):
        super().__init__()
        self.down, self.bypass = block(in_channels, channels, 3, 2), block(channels, branch, 1)
        residuals = [Residual(branch, hidden) for _ in range(length)]
        self.main = nn.Sequential(block(channels, branch, 1), *residuals, block(branch, branch, 1))
        self.transition = block(2 * branch, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(x)
        return self.transition(torch.cat((self.main(x), self.bypass(x)), dim=1))


class CSPDarknet53(nn.Module):
    """Turn images (B, 3, H, W) into logits (B, C)."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.features = nn.Sequential(block(3, 32, 3), *(Stage(*stage) for stage in STAGES))
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(images).mean(dim=(2, 3)))
