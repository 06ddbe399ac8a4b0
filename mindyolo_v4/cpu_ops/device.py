"""The device that the network is built for."""

import mindspore as ms


def on_cpu() -> bool:
    """Tell whether cells constructed now will run on MindSpore's CPU backend."""
    return ms.get_context("device_target") == "CPU"
