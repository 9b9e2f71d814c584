# Flockwork · Apache-2.0 · see LICENSE
"""The limit: a loop that calls the handler on a prepared batch. bare.py echo|logreg|import BATCH SECONDS"""

import json
import sys
import time


def rows(count):
    """Also PythonSuite makes these, from the same formula, exactly."""
    import numpy

    values = [((i * 31 + j * 17) % 64) / 64 - 0.5 for i in range(count) for j in range(16)]
    return numpy.array(values, dtype="float32").reshape(count, 16)


def main(kind, count, seconds):
    start = time.perf_counter()
    if kind == "echo":
        from handler import echo as call

        batch = ["item %d" % (1_000_000_000 + i) for i in range(count)]
        expected = None
    else:
        import logreg

        logreg.load()
        call, batch = logreg.predict, rows(count)
        expected = [float(x) for x in call(batch)]
    loaded = time.perf_counter() - start
    for _ in range(3):
        call(batch)
    items, start, processor = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        call(batch)
        items += count
    wall, processor = time.perf_counter() - start, time.process_time() - processor
    print(json.dumps({"items": items, "wall": wall, "cpu": processor, "loaded": loaded, "expected": expected}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
