// Items of a batch as Python objects, and back. Strings and bytes are made one by one, which is what they cost in any case;
// an array is a view on the message, which it keeps alive.
#include <stdlib.h>
#include <string.h>

#include "protobuf.h"
#include "worker.h"

enum { most_dimensions = 8 };

static PyObject *owner_type, *frombuffer, *ascontiguous, *dtypes[6];
static const struct {
    const char *name;
    size_t size;
} elements[6] = {{"", 0}, {"float32", 4}, {"float64", 8}, {"int32", 4}, {"int64", 8}, {"uint8", 1}};

// An object that owns a message and gives out its array as a buffer.
typedef struct {
    PyObject_HEAD
    message held;
    const uint8_t *at;
    Py_ssize_t count;
} owner;

static int owner_buffer(PyObject *self, Py_buffer *view, int flags) {
    owner *o = (owner *)self;
    return PyBuffer_FillInfo(view, self, (void *)o->at, o->count, 0, flags);
}

static void owner_dealloc(PyObject *self) {
    PyObject *type = (PyObject *)Py_TYPE(self);
    message_free(&((owner *)self)->held);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot owner_slots[] = {
    {Py_bf_getbuffer, owner_buffer}, {Py_tp_dealloc, owner_dealloc}, {0, NULL}};
static PyType_Spec owner_spec = {
    .name = "flockpython.Message", .basicsize = sizeof(owner), .flags = Py_TPFLAGS_DEFAULT, .slots = owner_slots};

bool items_start(PyObject *module) {
    (void)module;
    owner_type = PyType_FromSpec(&owner_spec);
    return owner_type != NULL;
}

// NumPy, when arrays are first met: a handler of strings needs none.
static bool load_numpy(void) {
    if (frombuffer) return true;
    PyObject *numpy = PyImport_ImportModule("numpy");
    if (!numpy) return false;
    PyObject *from = PyObject_GetAttrString(numpy, "frombuffer");
    ascontiguous = PyObject_GetAttrString(numpy, "ascontiguousarray");
    bool made = from && ascontiguous;
    for (int type = 1; made && type < 6; type++) {
        dtypes[type] = PyObject_CallMethod(numpy, "dtype", "s", elements[type].name);
        made = dtypes[type] != NULL;
    }
    Py_DECREF(numpy);
    if (made) frombuffer = from;
    return made;
}

static PyObject *malformed(void) {
    PyErr_SetString(PyExc_RuntimeError, "the node sent a batch that cannot be read");
    return NULL;
}

static PyObject *decode_list(const batch *b) {
    PyObject *list = PyList_New(b->count);
    if (!list) return NULL;
    reader all = {b->at, b->end, true};
    unsigned wire;
    uint32_t filled = 0;
    while (read_tag(&all, &wire) == 1 && wire == wire_bytes && filled < b->count) {
        reader item = read_block(&all);
        if (!all.ok) break;
        Py_ssize_t count = item.end - item.at;
        PyObject *object = b->field == 3 ? PyUnicode_DecodeUTF8((const char *)item.at, count, "strict")
                                         : PyBytes_FromStringAndSize((const char *)item.at, count);
        if (!object) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, filled++, object);
    }
    if (!all.ok || all.at != all.end || filled != b->count) {
        Py_DECREF(list);
        return malformed();
    }
    return list;
}

static PyObject *decode_array(const batch *b, message *m) {
    reader all = {b->at, b->end, true}, data = {NULL, NULL, false};
    unsigned wire, field;
    uint64_t type = 0, shape[most_dimensions], total = 1;
    int dimensions = 0;
    while ((field = read_tag(&all, &wire)) != 0) {
        if (field == 1 && wire == wire_varint) {
            type = read_varint(&all);
        } else if (field == 2 && wire == wire_bytes) {
            reader packed = read_block(&all);
            while (packed.at != packed.end && dimensions < most_dimensions) shape[dimensions++] = read_varint(&packed);
            if (!packed.ok || packed.at != packed.end) return malformed();
        } else if (field == 3 && wire == wire_bytes) {
            data = read_block(&all);
        } else {
            skip(&all, wire);
        }
    }
    if (!all.ok || !data.ok || type < 1 || type > 5 || dimensions < 1 || shape[0] != b->count) return malformed();
    for (int d = 0; d < dimensions; d++) {
        if (shape[d] > (uint64_t)1 << 40 || (total *= shape[d]) > (uint64_t)1 << 40) return malformed();
    }
    size_t count = (size_t)(data.end - data.at);
    if (total * elements[type].size != count) return malformed();
    if (!load_numpy()) return NULL;
    owner *o = PyObject_New(owner, (PyTypeObject *)owner_type);
    if (!o) return NULL;
    o->held.storage = NULL;
    o->at = data.at;
    o->count = (Py_ssize_t)count;
    if ((uintptr_t)data.at % elements[type].size == 0) {
        o->held = *m;
        m->storage = NULL;
    } else {
        void *storage = NULL;
        if (posix_memalign(&storage, 64, count + 1) != 0) abort();
        memcpy(storage, data.at, count);
        o->held.storage = storage;
        o->at = storage;
    }
    // frombuffer refuses an empty buffer; there are no empty batches, but rows may have no columns.
    PyObject *array = NULL;
    if (count > 0) {
        PyObject *flat = PyObject_CallFunction(frombuffer, "OO", (PyObject *)o, dtypes[type]);
        PyObject *tuple = flat ? PyTuple_New(dimensions) : NULL;
        for (int d = 0; tuple && d < dimensions; d++)
            PyTuple_SetItem(tuple, d, PyLong_FromUnsignedLongLong(shape[d]));
        if (tuple) array = PyObject_CallMethod(flat, "reshape", "O", tuple);
        Py_XDECREF(tuple);
        Py_XDECREF(flat);
    } else {
        malformed();
    }
    Py_DECREF((PyObject *)o);
    return array;
}

PyObject *items_decode(const batch *b, message *m) {
    if (b->field == 5) return decode_array(b, m);
    return decode_list(b);
}

// MARK: Results

static bool wrong_count(Py_ssize_t results, uint32_t items) {
    PyErr_Format(
        PyExc_ValueError, "the handler returned %zd results for %u items; it must return one each, in order", results,
        items);
    return false;
}

static bool over_limit(uint64_t size, uint64_t limit) {
    PyErr_Format(
        PyExc_ValueError, "the results of one batch have %llu bytes, over the limit of %llu", (unsigned long long)size,
        (unsigned long long)limit);
    return false;
}

// FromWorker { result = 2 { sequence = 1, busy = 2, items = `field` of `body` bytes } }: writes all but the body.
static uint8_t *begin(uint64_t sequence, uint64_t busy, unsigned field, size_t body) {
    size_t inner = number_size(sequence) + number_size(busy) + block_size(body);
    uint8_t *to = link_prepare(block_size(inner));
    to = write_head(to, 2, inner);
    to = write_number(to, 1, sequence);
    to = write_number(to, 2, busy);
    return write_head(to, field, body);
}

typedef struct {
    const char *bytes;
    Py_ssize_t count;
} text;

static bool is_text(PyObject *item, bool strings) {
    return strings ? PyUnicode_Check(item) : PyBytes_Check(item);
}

// Sends a list of str or bytes. False with an exception set when an item is something else.
static bool send_list(
    uint64_t sequence, uint32_t count, uint64_t busy, PyObject *list, bool strings, uint64_t limit) {
    text *texts = malloc(sizeof *texts * (count + 1));
    size_t body = 0;
    bool good = texts != NULL;
    for (uint32_t i = 0; good && i < count; i++) {
        PyObject *item = PyList_GetItem(list, i);
        if (!is_text(item, strings)) {
            PyErr_Format(
                PyExc_TypeError, "result %u is of another type than result 0, which is %s", i,
                strings ? "str" : "bytes");
            good = false;
        } else if (strings) {
            texts[i].bytes = PyUnicode_AsUTF8AndSize(item, &texts[i].count);
            good = texts[i].bytes != NULL;
        } else {
            good = PyBytes_AsStringAndSize(item, (char **)&texts[i].bytes, &texts[i].count) == 0;
        }
        if (good) body += block_size((size_t)texts[i].count);
    }
    if (good && body > limit) good = over_limit(body, limit);
    if (good) {
        uint8_t *to = begin(sequence, busy, strings ? 3 : 4, body);
        for (uint32_t i = 0; i < count; i++) to = write_block(to, 1, texts[i].bytes, (size_t)texts[i].count);
        link_send();
    }
    free(texts);
    return good;
}

static int element_type(PyObject *array) {
    PyObject *dtype = PyObject_GetAttrString(array, "dtype");
    if (!dtype) return -1;
    int found = 0;
    for (int type = 1; type < 6 && found == 0; type++) {
        int same = PyObject_RichCompareBool(dtype, dtypes[type], Py_EQ);
        if (same < 0) found = -1;
        if (same > 0) found = type;
    }
    Py_DECREF(dtype);
    return found;
}

// An array of one of the element types that cross the link: bool as uint8, other integers as int64, other floats as float64.
static PyObject *portable(PyObject *array) {
    if (element_type(array) > 0) return Py_NewRef(array);
    PyObject *dtype = PyObject_GetAttrString(array, "dtype");
    PyObject *kind = dtype ? PyObject_GetAttrString(dtype, "kind") : NULL;
    const char *letter = kind ? PyUnicode_AsUTF8AndSize(kind, NULL) : NULL;
    PyObject *result = NULL;
    if (letter && strchr("biuf", *letter)) {
        const char *name = *letter == 'b' ? "uint8" : *letter == 'f' ? "float64" : "int64";
        result = PyObject_CallMethod(array, "astype", "s", name);
    } else if (letter) {
        PyErr_Format(PyExc_TypeError, "an array of %S cannot be a result; return numbers, str or bytes", dtype);
    }
    Py_XDECREF(kind);
    Py_XDECREF(dtype);
    return result;
}

static bool send_array(uint64_t sequence, uint32_t count, uint64_t busy, PyObject *result, uint64_t limit) {
    if (!load_numpy()) return false;
    PyObject *whole = PyObject_CallFunction(ascontiguous, "O", result);
    PyObject *array = whole ? portable(whole) : NULL;
    Py_XDECREF(whole);
    int type = array ? element_type(array) : -1;
    PyObject *shape = type > 0 ? PyObject_GetAttrString(array, "shape") : NULL;
    Py_buffer view;
    bool has_view = shape && PyObject_GetBuffer(array, &view, PyBUF_SIMPLE) == 0;
    bool good = has_view;
    uint8_t dimensions[most_dimensions * 10], *end = dimensions;
    if (good) {
        Py_ssize_t rank = PyTuple_Size(shape);
        good = rank >= 1 && rank <= most_dimensions;
        if (!good) PyErr_Format(PyExc_ValueError, "the handler returned an array of %zd dimensions", rank);
        for (Py_ssize_t d = 0; good && d < rank; d++) {
            unsigned long long size = PyLong_AsUnsignedLongLong(PyTuple_GetItem(shape, d));
            if (d == 0 && size != count) good = wrong_count((Py_ssize_t)size, count);
            end = write_varint(end, size);
        }
    }
    if (good && (uint64_t)view.len > limit) good = over_limit((uint64_t)view.len, limit);
    if (good) {
        size_t body = number_size((uint64_t)type) + block_size((size_t)(end - dimensions)) + block_size((size_t)view.len);
        uint8_t *to = begin(sequence, busy, 5, body);
        to = write_number(to, 1, (uint64_t)type);
        to = write_block(to, 2, dimensions, (size_t)(end - dimensions));
        write_block(to, 3, view.buf, (size_t)view.len);
        link_send();
    }
    if (has_view) PyBuffer_Release(&view);
    Py_XDECREF(shape);
    Py_XDECREF(array);
    return good;
}

bool items_send(uint64_t sequence, uint32_t count, uint64_t busy, PyObject *result, uint64_t limit) {
    if (PyTuple_Check(result)) {
        PyObject *list = PySequence_List(result);
        if (!list) return false;
        bool sent = items_send(sequence, count, busy, list, limit);
        Py_DECREF(list);
        return sent;
    }
    if (PyList_Check(result)) {
        Py_ssize_t results = PyList_Size(result);
        if (results != (Py_ssize_t)count) return wrong_count(results, count);
        PyObject *first = count > 0 ? PyList_GetItem(result, 0) : NULL;
        if (first && PyUnicode_Check(first)) return send_list(sequence, count, busy, result, true, limit);
        if (first && PyBytes_Check(first)) return send_list(sequence, count, busy, result, false, limit);
    } else if (PyUnicode_Check(result) || PyBytes_Check(result) || result == Py_None) {
        PyErr_Format(
            PyExc_TypeError, "the handler returned %R, not a list or an array with one result an item",
            (PyObject *)Py_TYPE(result));
        return false;
    }
    return send_array(sequence, count, busy, result, limit);
}
