# Flockwork · Apache-2.0 · see LICENSE
"""Trains the model on ../iris/rows.csv and writes model.keras, and expected.csv with what a plain call says."""

import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy

HERE = pathlib.Path(__file__).resolve().parent
IRIS = HERE.parent / "iris"
NAMES = ["setosa", "versicolor", "virginica"]


def main():
    keras.utils.set_random_seed(7)
    rows = numpy.loadtxt(IRIS / "rows.csv", delimiter=",", skiprows=1, dtype="float32")
    labels = numpy.array([NAMES.index(line) for line in (IRIS / "labels.csv").read_text().split()])
    layers = [keras.Input((4,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(rows, labels, batch_size=150, epochs=300, verbose=0)
    model.save(HERE / "model.keras")
    expected = [",".join(repr(float(p)) for p in row) for row in model.predict_on_batch(rows)]
    (HERE / "expected.csv").write_text("\n".join(expected) + "\n")


if __name__ == "__main__":
    main()
