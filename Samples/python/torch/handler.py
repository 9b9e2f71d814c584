# Flockwork · Apache-2.0 · see LICENSE
"""Scores rows of four measurements of an iris with the PyTorch network that train.py made."""

import torch

network = None


def build():
    """What train.py trains: 4 measurements, 16 hidden units, 3 species."""
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3), torch.nn.Softmax(dim=1))


def load():
    """Once a process, before its first batch."""
    global network
    network = build()
    network.load_state_dict(torch.load("model.pt", weights_only=True))
    network.eval()


def score(rows):
    """A float32 array [items, 4] in, without a copy; [items, 3] out: how likely each species is."""
    with torch.inference_mode():
        return network(torch.from_numpy(rows)).numpy()
