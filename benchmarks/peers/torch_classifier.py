"""Training steps of CSPDarknet53 as a classifier in PyTorch, run by its own environment."""

import argparse
import json
import resource

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.common.clock import time_calls
from benchmarks.peers.torch_network import LAYOUTS, Backbone


class Classifier(nn.Module):
    """Images (B, 3, H, W) -> logits (B, C)."""

    def __init__(self, num_classes):
        super().__init__()
        self.backbone = Backbone(int, int)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, images):
        return self.fc(self.backbone(images)[-1].mean((2, 3)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", choices=LAYOUTS, required=True)
    for name in ("img_size", "batch", "classes", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    layout = LAYOUTS[options.layout]
    network = Classifier(options.classes).to(memory_format=layout).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    shape = (options.batch, 3, options.img_size, options.img_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    labels = torch.randint(0, options.classes, (options.batch,))

    def call():
        optimizer.zero_grad(set_to_none=True)
        inputs = (images.float() / 255).contiguous(memory_format=layout)
        loss = F.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()
        return float(loss)

    timed = time_calls(call, options.steps)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    about = {"parameters": parameters, "version": torch.__version__, "peak_gb": peak_gb}
    print(json.dumps({**timed, **about}))


if __name__ == "__main__":
    main()
