# Flockwork · Apache-2.0 · see LICENSE
"""Trains the network on ../iris/rows.csv and writes model.pt, and expected.csv with what a plain call says."""

import pathlib

import numpy
import torch
from handler import build

HERE = pathlib.Path(__file__).resolve().parent
IRIS = HERE.parent / "iris"
NAMES = ["setosa", "versicolor", "virginica"]


def main():
    torch.manual_seed(7)
    rows = torch.from_numpy(numpy.loadtxt(IRIS / "rows.csv", delimiter=",", skiprows=1, dtype="float32"))
    labels = torch.tensor([NAMES.index(line) for line in (IRIS / "labels.csv").read_text().split()])
    network = build()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(600):
        optimizer.zero_grad()
        # The network ends with probabilities.
        torch.nn.functional.nll_loss(torch.log(network(rows)), labels).backward()
        optimizer.step()
    torch.save(network.state_dict(), HERE / "model.pt")
    with torch.inference_mode():
        expected = [",".join(repr(float(p)) for p in row) for row in network(rows)]
    (HERE / "expected.csv").write_text("\n".join(expected) + "\n")


if __name__ == "__main__":
    main()
