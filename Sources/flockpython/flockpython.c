// The worker of Protos/python_worker.proto as an extension module on the stable ABI, so that one binary is loaded by the
// interpreter of any environment from 3.11 on. The bootstrap (Python) finds the handler; this serves batches to it.
#include <stdlib.h>
#include <string.h>

#include "protobuf.h"
#include "worker.h"

// The strings of an exception, as the bootstrap's `describe` gives them: (type, message, traceback).
static void send_error(unsigned kind, const uint64_t *sequence, uint64_t busy, PyObject *describe) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace) PyException_SetTraceback(value, trace);
    PyObject *parts = PyObject_CallFunction(describe, "O", value ? value : Py_None);
    const char *text[3] = {"Exception", "an exception that cannot be described", ""};
    Py_ssize_t count[3];
    for (int i = 0; i < 3; i++) {
        PyObject *part = parts ? PyTuple_GetItem(parts, i) : NULL;
        const char *utf8 = part ? PyUnicode_AsUTF8AndSize(part, &count[i]) : NULL;
        if (utf8) text[i] = utf8;
        else count[i] = (Py_ssize_t)strlen(text[i]);
    }
    PyErr_Clear();
    size_t error = 0, inner;
    for (int i = 0; i < 3; i++) error += block_size((size_t)count[i]);
    inner = block_size(error);
    if (sequence) inner += number_size(*sequence) + number_size(busy);
    uint8_t *to = link_prepare(block_size(inner));
    to = write_head(to, kind, inner);
    if (sequence) {
        to = write_number(to, 1, *sequence);
        to = write_number(to, 2, busy);
    }
    to = write_head(to, sequence ? 6 : 1, error);
    for (unsigned i = 0; i < 3; i++) to = write_block(to, i + 1, text[i], (size_t)count[i]);
    link_send();
    Py_XDECREF(parts);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
}

typedef struct {
    char *folder, *module, *function;
    uint64_t form, limit;
} opening;

static char *read_text(reader *r) {
    reader block = read_block(r);
    size_t count = (size_t)(block.end - block.at);
    char *text = malloc(count + 1);
    if (!text) abort();
    memcpy(text, block.at, count);
    text[count] = 0;
    return text;
}

static bool read_open(reader all, opening *o) {
    unsigned wire, field;
    while ((field = read_tag(&all, &wire)) != 0) {
        if (field == 1 && wire == wire_bytes && !o->folder) o->folder = read_text(&all);
        else if (field == 2 && wire == wire_bytes && !o->module) o->module = read_text(&all);
        else if (field == 3 && wire == wire_bytes && !o->function) o->function = read_text(&all);
        else if (field == 4 && wire == wire_varint) o->form = read_varint(&all);
        else if (field == 5 && wire == wire_varint) o->limit = read_varint(&all);
        else skip(&all, wire);
    }
    return all.ok && o->folder && o->module && o->function;
}

static bool read_batch(reader all, batch *b) {
    unsigned wire, field;
    while ((field = read_tag(&all, &wire)) != 0) {
        if (field == 1 && wire == wire_varint) b->sequence = read_varint(&all);
        else if (field == 2 && wire == wire_varint) b->count = (uint32_t)read_varint(&all);
        else if (field >= 3 && field <= 5 && wire == wire_bytes) {
            reader items = read_block(&all);
            b->field = field;
            b->at = items.at;
            b->end = items.end;
        } else skip(&all, wire);
    }
    // An item has at least its tag and length, but for an array of rows.
    return all.ok && b->field != 0 && (b->field == 5 || b->count <= (uint64_t)(b->end - b->at) / 2);
}

// The one field of a ToWorker.
static unsigned read_kind(const message *m, reader *content) {
    reader all = {m->bytes, m->bytes + m->count, true};
    unsigned wire = 0, field = read_tag(&all, &wire);
    if (wire != wire_bytes) return 0;
    *content = read_block(&all);
    return all.ok && all.at == all.end ? field : 0;
}

static void send_ready(const char *version, uint64_t load, const char *packages, Py_ssize_t count, uint32_t process) {
    size_t inner = block_size(strlen(version)) + number_size(process) + number_size(load) + block_size((size_t)count);
    uint8_t *to = link_prepare(block_size(inner));
    to = write_head(to, 1, inner);
    to = write_block(to, 1, version, strlen(version));
    to = write_number(to, 2, process);
    to = write_number(to, 3, load);
    write_block(to, 4, packages, (size_t)count);
    link_send();
}

// Calls `load(folder, module, function, form)`, which gives (handler, version, packages, process). NULL when it failed, of
// which the node has been told.
static PyObject *load_handler(PyObject *load, PyObject *describe, opening *o) {
    uint64_t begun = nanoseconds_now();
    PyObject *loaded = PyObject_CallFunction(load, "sssK", o->folder, o->module, o->function, (unsigned long long)o->form);
    PyObject *handler = NULL;
    const char *version, *packages;
    Py_ssize_t count;
    unsigned process;
    if (loaded && PyArg_ParseTuple(loaded, "Oss#I", &handler, &version, &packages, &count, &process)) {
        Py_INCREF(handler);
        send_ready(version, nanoseconds_now() - begun, packages, count, process);
    } else {
        send_error(3, NULL, 0, describe);
    }
    Py_XDECREF(loaded);
    return handler;
}

// Whether the exception is to end the process.
static bool wants_exit(void) { return PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt); }

// Serves one batch. False, with an exception set, when the process is to end.
static bool serve(PyObject *handler, PyObject *describe, const batch *b, message *m, uint64_t limit) {
    uint64_t busy = 0;
    bool sent = false;
    PyObject *items = items_decode(b, m);
    if (items) {
        control_busy(b->sequence);
        uint64_t begun = nanoseconds_now();
        PyObject *result = PyObject_CallFunctionObjArgs(handler, items, NULL);
        Py_DECREF(items);
        busy = nanoseconds_now() - begun;
        if (!result && wants_exit()) return false;
        if (result) sent = items_send(b->sequence, b->count, busy, result, limit);
        Py_XDECREF(result);
        control_idle();
    }
    if (!sent) send_error(2, &b->sequence, busy, describe);
    return true;
}

static PyObject *run(PyObject *module, PyObject *arguments) {
    (void)module;
    int link, control;
    PyObject *load, *describe, *handler = NULL;
    opening o = {NULL, NULL, NULL, 0, 1 << 30};
    if (!PyArg_ParseTuple(arguments, "iiOO", &link, &control, &load, &describe)) return NULL;
    if (!control_start(control) || !link_start(link)) {
        PyErr_SetString(PyExc_RuntimeError, "the worker cannot serve on its descriptors");
        return NULL;
    }
    message m = {NULL, NULL, 0};
    bool goes_on = true;
    while (goes_on && link_receive(&m)) {
        reader content = {NULL, NULL, false};
        batch b = {0, 0, 0, NULL, NULL};
        unsigned kind = read_kind(&m, &content);
        if (kind == 1 && !handler && read_open(content, &o)) {
            handler = load_handler(load, describe, &o);
            goes_on = handler != NULL;
        } else if (kind == 2 && handler && read_batch(content, &b)) {
            goes_on = serve(handler, describe, &b, &m, o.limit);
        } else {
            PyErr_SetString(PyExc_RuntimeError, "the node sent a message that cannot be read");
            goes_on = false;
        }
        message_free(&m);
    }
    free(o.folder);
    free(o.module);
    free(o.function);
    if (PyErr_Occurred()) {
        Py_XDECREF(handler);
        return NULL;
    }
    link_finish();
    Py_XDECREF(handler);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"run", run, METH_VARARGS, "run(link, control, load, describe): serves batches until the node ends the stream."},
    {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "flockpython", .m_doc = "A worker process of a Flockwork node.", .m_size = -1,
    .m_methods = methods};

PyMODINIT_FUNC PyInit_flockpython(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module && !items_start(module)) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
