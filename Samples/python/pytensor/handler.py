# Flockwork · Apache-2.0 · see LICENSE
"""Scores rows of four measurements of an iris with the PyTensor expression that train.py found the weights of."""

import os

# By default PyTensor compiles with Numba, else to C with g++, and keeps what it compiled below HOME, which a worker has
# to itself: each process would compile for seconds. NumPy's functions, one after the other, need no compiler; without
# fusion, since several of them as one would be called for each element.
os.environ.setdefault("PYTENSOR_FLAGS", "linker=py,cxx=,optimizer_excluding=fusion")

import numpy
import pytensor
import pytensor.tensor as pt

NAMES = ["hidden", "hidden_bias", "out", "out_bias"]

evaluate = None


def network(rows, hidden, hidden_bias, out, out_bias):
    """What each species' likelihood is, as an expression: 4 measurements, 16 hidden units, 3 species."""
    return pt.special.softmax(pt.tanh(rows @ hidden + hidden_bias) @ out + out_bias, axis=1)


def load():
    """Once a process, before its first batch: the expression becomes a function."""
    global evaluate
    rows = pt.matrix("rows", dtype="float32")
    with numpy.load("weights.npz") as weights:
        evaluate = pytensor.function([rows], network(rows, *(weights[name] for name in NAMES)))


def score(rows):
    """A float32 array [items, 4] in, without a copy; [items, 3] out: how likely each species is."""
    return evaluate(rows)
