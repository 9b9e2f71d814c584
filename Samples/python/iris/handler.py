# Flockwork · Apache-2.0 · see LICENSE
"""Scores rows of four measurements of an iris with the model that train.py made."""

import joblib

model = None


def load():
    """Once a process, before its first batch."""
    global model
    model = joblib.load("model.joblib")


def score(rows):
    """A float32 array [items, 4] in; [items, 3] out: how likely each species is."""
    return model.predict_proba(rows).astype("float32")
