# Flockwork · Apache-2.0 · see LICENSE
"""The models for XGBoost, LightGBM and ONNX Runtime: those of the sample, and small ones for the tests.

train.py calls this. The rows are 32-bit floats, normalised as the Swift stage does it, so that a threshold of a tree
falls on the same side here and there.
"""

import json

import lightgbm
import numpy
import onnx
import xgboost
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

OPSET = 17


def normalise(data, scaler):
    return (data.astype(numpy.float32) - scaler.mean_.astype(numpy.float32)) / scaler.scale_.astype(numpy.float32)


def onnx_bytes(model, width, rows=None, kind=FloatTensorType, **options):
    types = [("rows", kind([rows, width]))]
    converted = convert_sklearn(model, initial_types=types, target_opset=OPSET, options={id(model): options})
    return converted.SerializeToString(deterministic=True)


def boost(rows, target, rounds, **parameters):
    parameters = {"eta": 0.3, "nthread": 1, "seed": 0, **parameters}
    if parameters.get("booster") != "gblinear":
        parameters["max_depth"] = 3
    return xgboost.train(parameters, xgboost.DMatrix(rows, label=target), num_boost_round=rounds)


def sample(folder, data, scaler, names):
    """The sample's other models, and what the library that trained each predicts for every row."""
    rows = normalise(data.data, scaler)
    booster = boost(rows, data.target, 40, objective="binary:logistic")
    booster.save_model(folder / "model-xgboost.json")
    expected(folder / "expected-xgboost.csv", names, booster.inplace_predict(rows))

    network = MLPClassifier((16,), solver="lbfgs", alpha=1.0, max_iter=10_000, random_state=0)
    network.fit(rows.astype(float), data.target)
    (folder / "model.onnx").write_bytes(onnx_bytes(network, rows.shape[1], zipmap=False))
    expected(folder / "expected-onnx.csv", names, network.predict_proba(rows.astype(float))[:, 1])


def expected(path, names, probability):
    lines = ["row,label,probability"]
    for row, value in enumerate(probability):
        lines.append(f"{row},{names[int(value > 0.5)]},{float(value)!r}")
    path.write_text("\n".join(lines) + "\n")
    print(f"{path.name}: nearest to the threshold {abs(numpy.asarray(probability) - 0.5).min():.3g}")


def scores(folder, name, rows, values):
    """A missing value, which JSON does not have, becomes null."""
    rows = [[None if numpy.isnan(value) else float(value) for value in row] for row in rows]
    values = numpy.asarray(values, dtype=float).reshape(len(rows), -1).tolist()
    (folder / f"{name}-expected.json").write_text(json.dumps({"rows": rows, "scores": values}, indent=1) + "\n")


def fixtures(folder):
    folder.mkdir(parents=True, exist_ok=True)
    iris, diabetes = load_iris(), load_diabetes()
    flowers = iris.data.astype(numpy.float32)
    some = flowers[::5].copy()

    logistic = LogisticRegression(max_iter=10_000).fit(flowers.astype(float), iris.target)
    for name, model in {
        "iris-zipmap": onnx_bytes(logistic, 4),
        "iris-tensor": onnx_bytes(logistic, 4, zipmap=False),
        "iris-four": onnx_bytes(logistic, 4, rows=4, zipmap=False),
        "iris-double": onnx_bytes(logistic, 4, kind=DoubleTensorType, zipmap=False),
    }.items():
        (folder / f"{name}.onnx").write_bytes(model)
    scores(folder, "iris-onnx", some, logistic.predict_proba(some.astype(float)))
    (folder / "sum.onnx").write_bytes(addition())

    holes = some.copy()
    holes[::3, 1] = numpy.nan
    softprob = boost(flowers, iris.target, 8, objective="multi:softprob", num_class=3)
    softprob.save_model(folder / "iris-softprob.ubj")
    scores(folder, "iris-softprob", holes, softprob.inplace_predict(holes))

    body = diabetes.data.astype(numpy.float32)
    linear = boost(body, diabetes.target, 20, booster="gblinear", updater="coord_descent")
    linear.save_model(folder / "diabetes-gblinear.json")
    scores(folder, "diabetes-gblinear", body[::9], linear.predict(xgboost.DMatrix(body[::9])))
    dart = boost(body, diabetes.target, 8, booster="dart", rate_drop=0.2)
    dart.save_model(folder / "diabetes-dart.ubj")
    scores(folder, "diabetes-dart", body[::9], dart.inplace_predict(body[::9]))

    parameters = {"objective": "multiclass", "num_class": 3, "num_leaves": 5, "verbosity": -1, "num_threads": 1}
    parameters |= {"deterministic": True, "force_row_wise": True, "seed": 0}
    trees = lightgbm.train(parameters, lightgbm.Dataset(flowers, iris.target), num_boost_round=6)
    trees.save_model(folder / "iris-lightgbm.txt")
    scores(folder, "iris-lightgbm", holes, trees.predict(holes))


def addition():
    """Two inputs, which are no rows of one."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("a", "b", "sum")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["sum"])], "sum", ports[:2], ports[2:])
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString(deterministic=True)


def readable(path):
    """A binary model as numbers and texts that can be compared."""
    if path.suffix == ".ubj":
        return json.loads(bytes(xgboost.Booster(model_file=path).save_raw("json")))
    graph = onnx.load(path).graph
    nodes = [
        [node.op_type]
        + [[*attribute.floats, *attribute.ints] for attribute in node.attribute]
        for node in graph.node
    ]
    return nodes + [numpy_helper.to_array(tensor).tolist() for tensor in graph.initializer]
