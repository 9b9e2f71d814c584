# Flockwork · Apache-2.0 · see LICENSE
"""A worker as Hazelcast Jet's is built, for comparison: grpcio, TCP on loopback, one thread, one bidirectional stream,
lists as `repeated string`; arrays as raw bytes, which Jet has not. Own code, after the structure.

    grpcio_worker.py echo|logreg BATCH SECONDS        as many batches as go, 4 under way
    grpcio_worker.py low BATCH SECONDS                one at a time, 100 a second
"""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

OPTIONS = [("grpc.max_send_message_length", 100 << 20), ("grpc.max_receive_message_length", 100 << 20)]


def list_message():
    file = descriptor_pb2.FileDescriptorProto(name="worker.proto", package="worker", syntax="proto3")
    field = file.message_type.add(name="List").field.add(name="value", number=1)
    field.type, field.label = field.TYPE_STRING, field.LABEL_REPEATED
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("worker.List"))


def serve(kind):
    List = list_message()
    if kind == "logreg":
        import logreg
        import numpy

        logreg.load()
        coding = {}

        def run(requests, context):
            for data in requests:
                rows = numpy.frombuffer(data, dtype="float32").reshape(-1, 16)
                yield logreg.predict(rows).astype("float32").tobytes()
    else:
        from handler import echo

        coding = {"request_deserializer": List.FromString, "response_serializer": List.SerializeToString}

        def run(requests, context):
            for request in requests:
                yield List(value=echo(list(request.value)))

    method = grpc.stream_stream_rpc_method_handler(run, **coding)
    handler = grpc.method_handlers_generic_handler("Worker", {"Run": method})
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=OPTIONS)
    server.add_generic_rpc_handlers((handler,))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


def processor(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(kind, count, seconds):
    worker = subprocess.Popen(
        [sys.executable, __file__, "serve", kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    port = int(worker.stdout.readline())
    if kind == "logreg":
        from bare import rows

        message = rows(count).tobytes()
    else:
        message = list_message()(value=["item %d" % (1_000_000_000 + i) for i in range(count)]).SerializeToString()
    window = threading.Semaphore(1 if kind == "low" else 4)
    sent, end = [], [float("inf")]

    def requests():
        while True:
            window.acquire()
            if kind == "low":
                time.sleep(0.01)
            if time.perf_counter() > end[0]:
                return
            sent.append(time.perf_counter())
            yield message

    with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        answers = channel.stream_stream("/Worker/Run")(requests())
        items, times = 0, []
        for index, _ in enumerate(answers):
            times.append(time.perf_counter() - sent[index])
            if index == 8:
                start, before, items, times = time.perf_counter(), processor(worker.pid), -count, []
                end[0] = start + seconds
            items += count
            window.release()
        wall, cpu = time.perf_counter() - start, processor(worker.pid) - before
    worker.stdin.close()
    worker.wait()
    p50 = sorted(times)[len(times) // 2]
    print(json.dumps({"items": items, "wall": wall, "cpu": cpu, "p50": p50}))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
