# Flockwork · Apache-2.0 · see LICENSE
"""Compares results of `flockwork send iris` with what a plain call of the library said, and with the true species.

    check.py RESULTS [TIMES [FOLDER]]    # the rows were sent TIMES times over; the plain call's are in FOLDER
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
NAMES = ["setosa", "versicolor", "virginica"]


def numbers(path):
    return [[float(cell) for cell in line.split(",")] if line else [] for line in path.read_text().split("\n")[:-1]]


def main(results, times, folder):
    expected = numbers(folder / "expected.csv") * times
    labels = (HERE / "labels.csv").read_text().split() * times
    scores = numbers(pathlib.Path(results))
    if len(scores) != len(expected):
        sys.exit(f"{folder.name}: {len(scores)} results for {len(expected)} rows")
    right = 0
    for line, (score, wanted, label) in enumerate(zip(scores, expected, labels), 1):
        # The handler answers in float32.
        if len(score) != 3 or any(abs(a - b) > 1e-6 for a, b in zip(score, wanted)):
            sys.exit(f"{folder.name}: row {line} scored {score}; a plain call says {wanted}")
        right += NAMES[score.index(max(score))] == label
    accuracy = right / len(labels)
    if accuracy < 0.95:
        sys.exit(f"{folder.name}: only {accuracy:.1%} of the species are right")
    print(f"{folder.name}: {len(scores):,} results, each as of a plain call (±1e-6); {accuracy:.1%} right species")


if __name__ == "__main__":
    main(
        sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1,
        pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else HERE)
