# Flockwork · Apache-2.0 · see LICENSE
"""Scores rows of four measurements of an iris with the Keras model that train.py made."""

import os

# Keras runs on one of several libraries; this one the other sample has, too.
os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

model = None


def load():
    """Once a process, before its first batch."""
    global model
    model = keras.models.load_model("model.keras")


def score(rows):
    """A float32 array [items, 4] in; [items, 3] out: how likely each species is."""
    return model.predict_on_batch(rows)
