# Flockwork · Apache-2.0 · see LICENSE
"""Trains the model on rows.csv and labels.csv, and writes model.joblib and expected.csv beside this file.

    ../../../.venv-python/bin/python3 train.py          # make demo-python does that
    ../../../.venv-python/bin/python3 train.py --data   # writes rows.csv and labels.csv, from scikit-learn's copy
"""

import pathlib
import sys

import joblib
import numpy
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

HERE = pathlib.Path(__file__).resolve().parent


def write_data():
    iris = load_iris()
    names = ",".join(name.removesuffix(" (cm)").replace(" ", "_") for name in iris.feature_names)
    rows = [",".join(f"{value:g}" for value in row) for row in iris.data]
    (HERE / "rows.csv").write_text("\n".join([names, *rows]) + "\n")
    (HERE / "labels.csv").write_text("\n".join(str(iris.target_names[label]) for label in iris.target) + "\n")


def train():
    rows = numpy.loadtxt(HERE / "rows.csv", delimiter=",", skiprows=1, dtype="float32")
    names = ["setosa", "versicolor", "virginica"]
    labels = [names.index(line) for line in (HERE / "labels.csv").read_text().split()]
    model = LogisticRegression(max_iter=1000).fit(rows, labels)
    joblib.dump(model, HERE / "model.joblib")
    # What a plain call of scikit-learn says, for check.py.
    expected = [",".join(repr(float(p)) for p in row) for row in model.predict_proba(rows)]
    (HERE / "expected.csv").write_text("\n".join(expected) + "\n")


if __name__ == "__main__":
    write_data() if sys.argv[1:] == ["--data"] else train()
