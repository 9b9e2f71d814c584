# Flockwork · Apache-2.0 · see LICENSE
"""Makes everything in ../Data: the data set, the parameters, the models, the reference predictions.

    python3.11 -m venv /tmp/recipe && /tmp/recipe/bin/pip install -r requirements.txt
    /tmp/recipe/bin/python train.py            # writes ../Data
    /tmp/recipe/bin/python train.py --check    # compares with what is in ../Data instead

It also writes the small models of FlockModelsTests and ModelCaseTests. All of it is scikit-learn's, except for the
models of libraries.py.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile

import libraries
import numpy
import sklearn
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler

SOURCE = f"scikit-learn {sklearn.__version__}, Samples/BreastCancer/recipe/train.py"
HERE = pathlib.Path(__file__).resolve().parent
SAMPLE = HERE.parent / "Data"
TESTS = HERE.parents[2] / "Tests"
FIXTURES = TESTS / "FlockModelsTests" / "Fixtures"
LIBRARY_FIXTURES = TESTS / "ModelCaseTests" / "Fixtures"


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")


def linear(model, link):
    """The format that LinearModel reads; `weights` has one list for each output."""
    weights = numpy.atleast_2d(model.coef_)
    return {
        "format": "flockwork-linear",
        "version": 1,
        "source": SOURCE,
        "link": link,
        "inputs": weights.shape[1],
        "outputs": weights.shape[0],
        "weights": weights.tolist(),
        "bias": numpy.atleast_1d(model.intercept_).tolist(),
    }


def breast_cancer(folder):
    data = load_breast_cancer()
    scaler = StandardScaler().fit(data.data)
    normalised = scaler.transform(data.data)
    model = LogisticRegression(C=1.0, solver="lbfgs", tol=1e-10, max_iter=10_000).fit(normalised, data.target)
    probability = model.predict_proba(normalised)[:, 1]
    label = model.predict(normalised)

    folder.mkdir(parents=True, exist_ok=True)
    original = pathlib.Path(sklearn.__file__).parent / "datasets" / "data" / "breast_cancer.csv"
    shutil.copyfile(original, folder / "breast_cancer.csv")
    write(
        folder / "normalization.json",
        {
            "format": "flockwork-normalization",
            "version": 1,
            "source": SOURCE,
            "features": data.feature_names.tolist(),
            "mean": scaler.mean_.tolist(),
            "scale": scaler.scale_.tolist(),
        },
    )
    write(folder / "model.json", linear(model, "logistic"))
    lines = ["row,label,probability"]
    for row in range(len(label)):
        lines.append(f"{row},{data.target_names[label[row]]},{float(probability[row])!r}")
    (folder / "expected.csv").write_text("\n".join(lines) + "\n")
    libraries.sample(folder, data, scaler, data.target_names)
    print(f"breast cancer: {len(label)} rows, accuracy {model.score(normalised, data.target):.4f}")
    print(f"nearest to the threshold: {abs(probability - 0.5).min():.3g}")


def fixture(folder, name, model, rows, predictions, link):
    """A model of another width or link with its inputs (as float32) and scikit-learn's own predictions."""
    write(folder / f"{name}.json", linear(model, link))
    write(
        folder / f"{name}-expected.json",
        {"source": SOURCE, "rows": rows.tolist(), "scores": numpy.asarray(predictions).reshape(len(rows), -1).tolist()},
    )


def fixtures(folder):
    iris = load_iris()
    rows = iris.data.astype(numpy.float32)[::3].astype(float)
    model = LogisticRegression(max_iter=10_000).fit(iris.data, iris.target)
    fixture(folder, "iris-softmax", model, rows, model.predict_proba(rows), "softmax")

    diabetes = load_diabetes()
    rows = diabetes.data.astype(numpy.float32)[:61].astype(float)
    model = LinearRegression().fit(diabetes.data, diabetes.target)
    fixture(folder, "diabetes-identity", model, rows, model.predict(rows), "identity")

    random = numpy.random.default_rng(16)
    rows = random.normal(size=(67, 16)).astype(numpy.float32).astype(float)
    target = (rows @ random.normal(size=16) + random.normal(size=67) > 0).astype(int)
    model = LogisticRegression().fit(rows, target)
    fixture(folder, "random16-logistic", model, rows, model.predict_proba(rows)[:, 1], "logistic")


def check(made, kept):
    """Text must be the same; numbers may differ in the last digits, as the solver's do between processors."""
    wrong = []
    for path in sorted(made.rglob("*.*")):
        other = kept / path.relative_to(made)
        if not other.exists():
            wrong.append(f"{other} is missing")
        elif not same(path, other):
            wrong.append(f"{other} is not what the recipe makes")
    return wrong


def same(path, other):
    if path.read_bytes() == other.read_bytes():
        return True
    if path.suffix == ".json":
        return close(json.loads(path.read_text()), json.loads(other.read_text()))
    if path.suffix in (".onnx", ".ubj"):
        return close(libraries.readable(path), libraries.readable(other))
    rows, others = ([line.split(",") for line in file.read_text().splitlines()] for file in (path, other))
    return len(rows) == len(others) and all(close(row, kept) for row, kept in zip(rows, others))


def close(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(close(x, y) for x, y in zip(a, b))
    try:
        return a == b or abs(float(a) - float(b)) <= 1e-8 + 1e-6 * abs(float(b))
    except ValueError:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    arguments = parser.parse_args()
    if not arguments.check:
        breast_cancer(SAMPLE)
        fixtures(FIXTURES)
        libraries.fixtures(LIBRARY_FIXTURES)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        made = pathlib.Path(scratch)
        breast_cancer(made / "Data")
        fixtures(made / "Fixtures")
        libraries.fixtures(made / "LibraryFixtures")
        wrong = check(made / "Data", SAMPLE) + check(made / "Fixtures", FIXTURES)
        wrong += check(made / "LibraryFixtures", LIBRARY_FIXTURES)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
