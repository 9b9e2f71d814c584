# Flockwork · Apache-2.0 · see LICENSE
"""Finds the weights with ../iris/rows.csv, writes weights.npz, and expected.csv with what NumPy alone makes of them."""

import pathlib

# First, since it says how PyTensor works.
from handler import NAMES, network

import numpy
import pytensor
import pytensor.tensor as pt

HERE = pathlib.Path(__file__).resolve().parent
IRIS = HERE.parent / "iris"
SPECIES = ["setosa", "versicolor", "virginica"]
SHAPES = [(4, 16), (16,), (16, 3), (3,)]


def train(rows, labels):
    """Gradient descent; PyTensor derives the gradients from the expression."""
    random = numpy.random.default_rng(7)
    weights = [pytensor.shared(random.normal(0, 0.5, shape).astype("float32")) for shape in SHAPES]
    given = pt.matrix("rows", dtype="float32")
    likely = network(given, *weights)
    cost = -pt.log(likely[numpy.arange(len(labels)), labels]).mean()
    steps = [
        (weight, weight - numpy.float32(0.1) * slope) for weight, slope in zip(weights, pytensor.grad(cost, weights))]
    descend = pytensor.function([given], cost, updates=steps)
    for _ in range(1000):
        descend(rows)
    return [weight.get_value() for weight in weights]


def plain(rows, hidden, hidden_bias, out, out_bias):
    """The same formula without PyTensor."""
    powers = numpy.exp(numpy.tanh(rows @ hidden + hidden_bias) @ out + out_bias)
    return powers / powers.sum(axis=1, keepdims=True)


def main():
    rows = numpy.loadtxt(IRIS / "rows.csv", delimiter=",", skiprows=1, dtype="float32")
    labels = numpy.array([SPECIES.index(line) for line in (IRIS / "labels.csv").read_text().split()])
    weights = train(rows, labels)
    numpy.savez(HERE / "weights.npz", **dict(zip(NAMES, weights)))
    expected = [",".join(repr(float(p)) for p in row) for row in plain(rows, *weights)]
    (HERE / "expected.csv").write_text("\n".join(expected) + "\n")


if __name__ == "__main__":
    main()
