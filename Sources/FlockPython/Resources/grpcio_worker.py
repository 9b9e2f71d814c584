# The worker of Protos/python_worker.proto in plain Python, for interpreters that cannot load libflockpython: it needs
# the package grpcio. Slower, and its control thread waits for the interpreter's lock; else it does the same.
import os
import queue
import socket
import struct
import sys
import tempfile
import threading
import time
from concurrent import futures

import grpc

NUMBER, BLOCK = 0, 2
TYPES = (None, "float32", "float64", "int32", "int64", "uint8")
LARGEST = 1 << 20
OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.bdp_probe", 0),
)


# Protocol buffers, as far as the contract goes.


def varint(value):
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def number(field, value):
    return varint(field << 3 | NUMBER) + varint(value)


def block(field, content):
    if isinstance(content, str):
        content = content.encode()
    return varint(field << 3 | BLOCK) + varint(len(content)) + content


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def fields(data):
    """(field, value) of a message: an int, or a memoryview of a block."""
    at, end = 0, len(data)
    while at < end:
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == NUMBER:
            value, at = read_varint(data, at)
        elif kind == BLOCK:
            count, at = read_varint(data, at)
            value = data[at : at + count]
            at += count
        elif kind in (1, 5):
            value, at = None, at + (8 if kind == 1 else 4)
        else:
            raise ValueError("a field of an unknown kind")
        if at > end:
            raise ValueError("a message that is cut off")
        yield tag >> 3, value


# Items of a batch as Python objects, and back.


def decode(field, content, count):
    if field == 5:
        return decode_array(content, count)
    items = [bytes(item) for tag, item in fields(content) if tag == 1]
    if len(items) != count:
        raise ValueError("a batch of another count")
    return [str(item, "utf-8") for item in items] if field == 3 else items


def decode_array(content, count):
    import numpy

    kind, shape, elements = 0, [], b""
    for field, value in fields(content):
        if field == 1:
            kind = value
        elif field == 2:
            at = 0
            while at < len(value):
                size, at = read_varint(value, at)
                shape.append(size)
        elif field == 3:
            elements = value
    if not shape or shape[0] != count or not 1 <= kind <= 5:
        raise ValueError("an array of another count")
    # A copy, that the handler may write to.
    return numpy.frombuffer(bytearray(elements), TYPES[kind]).reshape(shape)


def encode(result, count, limit):
    """The field and bytes of a batch's results; raises what the handler did wrong."""
    if isinstance(result, tuple):
        result = list(result)
    if isinstance(result, list):
        check_count(len(result), count)
        if result and isinstance(result[0], (str, bytes)):
            return encode_list(result, limit)
    elif result is None or isinstance(result, (str, bytes)):
        raise TypeError("the handler returned %r, not a list or an array with one result an item" % type(result))
    return encode_array(result, count, limit)


def check_count(results, count):
    if results != count:
        text = "the handler returned %d results for %d items; it must return one each, in order"
        raise ValueError(text % (results, count))


def check_size(size, limit):
    if size > limit:
        raise ValueError("the results of one batch have %d bytes, over the limit of %d" % (size, limit))


def encode_list(result, limit):
    kind = str if isinstance(result[0], str) else bytes
    for index, item in enumerate(result):
        if not isinstance(item, kind):
            text = "result %d is of another type than result 0, which is %s"
            raise TypeError(text % (index, kind.__name__))
    content = b"".join([block(1, item) for item in result])
    check_size(len(content), limit)
    return (3 if kind is str else 4), content


def encode_array(result, count, limit):
    import numpy

    array = numpy.ascontiguousarray(result)
    if array.dtype.name not in TYPES or not array.dtype.isnative:
        names = {"b": "uint8", "i": "int64", "u": "int64", "f": "float64"}
        if array.dtype.kind not in names:
            raise TypeError("an array of %s cannot be a result; return numbers, str or bytes" % array.dtype)
        array = array.astype(names[array.dtype.kind])
    if not 1 <= array.ndim <= 8:
        raise ValueError("the handler returned an array of %d dimensions" % array.ndim)
    check_count(array.shape[0], count)
    check_size(array.nbytes, limit)
    shape = b"".join([varint(size) for size in array.shape])
    return 5, number(1, TYPES.index(array.dtype.name)) + block(2, shape) + block(3, array.tobytes())


def failure(field, head, error, describe):
    content = b"".join([block(index + 1, clean(part)) for index, part in enumerate(describe(error))])
    return block(field, head + block(6 if field == 2 else 1, content))


def clean(text):
    return text.encode("utf-8", "replace")


# The links.


class Control:
    """Answers the node on descriptor 4, and ends the process when the node is gone."""

    def __init__(self, descriptor):
        self.busy = (0, 0)
        self.link = socket.socket(fileno=descriptor)
        self.link.setblocking(True)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        try:
            while True:
                asked = self.link.recv(8, socket.MSG_WAITALL)
                if len(asked) < 8:
                    break
                sequence, since = self.busy
                taken = time.monotonic_ns() - since if sequence else 0
                self.link.sendall(asked + struct.pack("<QQ", sequence, taken))
        except OSError:
            pass
        os._exit(0)


class Relay:
    """grpcio serves no socket that it is given. So it listens on one of its own, in a folder that only this user can
    enter, and what comes on descriptor 3 is passed on to it."""

    def __init__(self, descriptor, server):
        self.folder = tempfile.mkdtemp(prefix="w-")
        path = os.path.join(self.folder, "s")
        if len(path) > 100:
            os.rmdir(self.folder)
            self.folder = tempfile.mkdtemp(prefix="w-", dir="/tmp")
            path = os.path.join(self.folder, "s")
        server.add_insecure_port("unix:" + path)
        server.start()
        self.node = socket.socket(fileno=descriptor)
        self.node.setblocking(True)
        self.inner = socket.socket(socket.AF_UNIX)
        self.inner.connect(path)
        # Nobody else is to connect.
        os.unlink(path)
        os.rmdir(self.folder)
        self.inward = self.begin(self.node, self.inner)
        self.outward = self.begin(self.inner, self.node)

    def begin(self, source, target):
        thread = threading.Thread(target=self.move, args=(source, target), daemon=True)
        thread.start()
        return thread

    @staticmethod
    def move(source, target):
        room = memoryview(bytearray(LARGEST))
        try:
            while True:
                count = source.recv_into(room)
                if count == 0:
                    break
                target.sendall(room[:count])
        except OSError:
            pass
        try:
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Messages:
    """The one call: messages in, and answers out. The thread that runs the handler is the main one."""

    def __init__(self):
        self.incoming = queue.SimpleQueue()
        self.outgoing = queue.SimpleQueue()

    def service(self, details):
        if details.method != "/flockwork.python.v1.Worker/Run":
            return None
        return grpc.stream_stream_rpc_method_handler(self.run)

    def run(self, requests, context):
        threading.Thread(target=self.read, args=(requests,), daemon=True).start()
        while True:
            answer = self.outgoing.get()
            if answer is None:
                return
            yield answer

    def read(self, requests):
        try:
            for request in requests:
                self.incoming.put(request)
        except Exception:
            # A call that was cancelled: the node does not want this worker any more.
            pass
        self.incoming.put(None)


class Service(grpc.GenericRpcHandler):
    def __init__(self, messages):
        self.messages = messages

    def service(self, details):
        return self.messages.service(details)


def run(link, control, load, describe):
    """Serves batches until the node ends the stream."""
    control = Control(control)
    messages = Messages()
    pool = futures.ThreadPoolExecutor(max_workers=1)
    server = grpc.server(pool, handlers=(Service(messages),), options=OPTIONS)
    relay = Relay(link, server)
    serve(messages, control, load, describe)
    messages.outgoing.put(None)
    server.stop(10).wait()
    relay.outward.join(10)


def serve(messages, control, load, describe):
    handler, limit = None, 1 << 30
    while True:
        message = messages.incoming.get()
        if message is None:
            return
        for field, content in fields(memoryview(message)):
            if field == 1 and handler is None:
                handler, limit, answer = opened(content, load, describe)
                messages.outgoing.put(answer)
                if handler is None:
                    return
            elif field == 2 and handler is not None:
                messages.outgoing.put(answered(content, handler, limit, control, describe))
            else:
                raise RuntimeError("the node sent a message that cannot be read")


def opened(content, load, describe):
    texts, form, limit = ["", "", ""], 0, 1 << 30
    for field, value in fields(content):
        if 1 <= field <= 3:
            texts[field - 1] = str(value, "utf-8")
        elif field == 4:
            form = value
        elif field == 5:
            limit = value
    begun = time.monotonic_ns()
    try:
        handler, version, packages, process = load(texts[0], texts[1], texts[2], form)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        return None, limit, failure(3, b"", error, describe)
    taken = time.monotonic_ns() - begun
    ready = block(1, version) + number(2, process) + number(3, taken) + block(4, clean(packages))
    return handler, limit, block(1, ready)


def answered(content, handler, limit, control, describe):
    sequence = count = taken = kind = 0
    items = b""
    for field, value in fields(content):
        if field == 1:
            sequence = value
        elif field == 2:
            count = value
        elif 3 <= field <= 5:
            kind, items = field, value
    try:
        batch = decode(kind, items, count)
        begun = time.monotonic_ns()
        control.busy = (sequence + 1, begun)
        result = handler(batch)
        taken = time.monotonic_ns() - begun
        field, results = encode(result, count, limit)
        return block(2, number(1, sequence) + number(2, taken) + block(field, results))
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        return failure(2, number(1, sequence) + number(2, taken), error, describe)
    finally:
        control.busy = (0, 0)
