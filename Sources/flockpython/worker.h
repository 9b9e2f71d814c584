// The parts of the worker: control link, message link, conversion of items.
#pragma once
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

// control.c: answers the node while Python is busy.
bool control_start(int descriptor);
void control_busy(uint64_t sequence);
void control_idle(void);
uint64_t nanoseconds_now(void);

// link.c: the stream of messages. All of it is called with the interpreter's lock held, and gives it up while it waits.
typedef struct {
    // The message, and who owns it: freed by `message_free`, or kept alive by arrays on it.
    uint8_t *storage;
    const uint8_t *bytes;
    size_t count;
} message;

bool link_start(int descriptor);
// Blocks for the next message. False at the end of the stream.
bool link_receive(message *into);
void message_free(message *m);
// `count` bytes to be filled and then sent by `link_send`, once for each message that was received. Never NULL.
uint8_t *link_prepare(size_t count);
void link_send(void);
// Waits until everything is sent and closes the stream well.
void link_finish(void);

// items.c: Python objects to and from messages.
enum form { form_strings = 0, form_bytes = 1, form_array = 2 };
typedef struct {
    uint64_t sequence;
    uint32_t count;
    unsigned field;  // 3 strings, 4 byte strings, 5 array; 0 for none
    const uint8_t *at, *end;
} batch;

bool items_start(PyObject *module);
// The list or array for the handler; NULL with an exception set. An array takes the message's storage over.
PyObject *items_decode(const batch *b, message *m);
// Sends the result of a batch. False with an exception set when the handler returned something else than it must.
bool items_send(uint64_t sequence, uint32_t count, uint64_t busy, PyObject *result, uint64_t limit);
