# Flockwork · Apache-2.0 · see LICENSE
"""Logistic regression over 16 floats, by scikit-learn."""

model = None


def load():
    global model
    import numpy
    from sklearn.linear_model import LogisticRegression

    random = numpy.random.default_rng(1)
    rows = random.standard_normal((2000, 16)).astype("float32")
    labels = (rows @ random.standard_normal(16) + random.standard_normal(2000) > 0).astype("int64")
    model = LogisticRegression().fit(rows, labels)


def predict(rows):
    return model.predict(rows)
