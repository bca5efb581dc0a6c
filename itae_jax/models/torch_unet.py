"""The same network in PyTorch: the yardstick of the parity tests and of `itae bench`.

Nothing else imports this file, and PyTorch is not a dependency.
"""

import torch
from torch import nn


class DoubleConv(nn.Sequential):
    """Twice (3x3 convolution, batch normalisation, ReLU)."""

    def __init__(self, channels: int, features: int):
        super().__init__(
            *(nn.Conv2d(channels, features, 3, padding=1), nn.BatchNorm2d(features), nn.ReLU(inplace=True)),
            *(nn.Conv2d(features, features, 3, padding=1), nn.BatchNorm2d(features), nn.ReLU(inplace=True)),
        )


class TorchUNet(nn.Module):
    """Table 10 of the paper, for B x C x H x W images whose sides are multiples of 16."""

    def __init__(self, width: int, in_channels: int, out_channels: int):
        super().__init__()
        blocks, channels = [], in_channels
        for factor in (1, 2, 4, 8, 8):
            blocks.append(DoubleConv(channels, factor * width))
            channels = factor * width
        for skip, factor in ((8, 4), (4, 2), (2, 1), (1, 1)):
            blocks.append(DoubleConv(channels + skip * width, factor * width))
            channels = factor * width
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Conv2d(width, out_channels, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)

    def forward(self, x):
        skips = [self.blocks[0](x)]
        for block in self.blocks[1:5]:
            skips.append(block(self.pool(skips[-1])))
        x = skips.pop()
        for block in self.blocks[5:]:
            x = block(torch.cat([skips.pop(), self.upsample(x)], dim=1))
        return torch.tanh(self.last(x))


def state_dict(params: dict, batch_stats: dict) -> dict[str, torch.Tensor]:
    """The weights of a `UNet` under the names that `TorchUNet.load_state_dict` takes."""
    from itae_jax.models import torch_weights as weights  # here, so that the network itself needs PyTorch alone

    named = weights.to_state_dict({"params": params, "batch_stats": batch_stats})
    return {name: torch.tensor(value) for name, value in named.items()}
