# Flockwork · Apache-2.0 · see LICENSE
"""What the rows of the suite `python` call; bare.py and grpcio_worker.py call the same functions."""

def echo(items):
    return ["reply-" + x for x in items]
