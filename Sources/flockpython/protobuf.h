// The wire format of Protos/python_worker.proto, as far as this worker needs it. Sizes are computed before anything is
// written, so that a message is built in place, in one piece.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { wire_varint = 0, wire_fixed64 = 1, wire_bytes = 2, wire_fixed32 = 5 };

// A message that is read. Every read checks its bounds; after one that failed, `ok` is false and nothing is read any more.
typedef struct {
    const uint8_t *at, *end;
    bool ok;
} reader;

static inline uint64_t read_varint(reader *r) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (r->at == r->end) break;
        uint8_t byte = *r->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return value;
    }
    r->ok = false;
    r->at = r->end;
    return 0;
}

// The next field of the message; 0 at its end.
static inline unsigned read_tag(reader *r, unsigned *wire) {
    if (r->at == r->end) return 0;
    uint64_t tag = read_varint(r);
    *wire = tag & 7;
    if (tag >> 3 == 0 || tag >> 3 > 1000) {
        r->ok = false;
        r->at = r->end;
        return 0;
    }
    return (unsigned)(tag >> 3);
}

static inline reader read_block(reader *r) {
    uint64_t count = read_varint(r);
    if (count > (uint64_t)(r->end - r->at)) {
        r->ok = false;
        r->at = r->end;
        return (reader){r->at, r->at, false};
    }
    reader block = {r->at, r->at + count, true};
    r->at += count;
    return block;
}

static inline void skip(reader *r, unsigned wire) {
    uint64_t count = 0;
    switch (wire) {
    case wire_varint: read_varint(r); return;
    case wire_bytes: read_block(r); return;
    case wire_fixed64: count = 8; break;
    case wire_fixed32: count = 4; break;
    default: r->ok = false;
    }
    if (!r->ok || count > (uint64_t)(r->end - r->at)) {
        r->ok = false;
        r->at = r->end;
    } else {
        r->at += count;
    }
}

static inline size_t varint_size(uint64_t value) {
    size_t size = 1;
    while (value >= 0x80) {
        value >>= 7;
        size++;
    }
    return size;
}

static inline uint8_t *write_varint(uint8_t *to, uint64_t value) {
    while (value >= 0x80) {
        *to++ = (uint8_t)value | 0x80;
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

// Fields below 16 only: their tags are one byte.
static inline uint8_t *write_tag(uint8_t *to, unsigned field, unsigned wire) {
    *to++ = (uint8_t)(field << 3 | wire);
    return to;
}

static inline size_t number_size(uint64_t value) { return 1 + varint_size(value); }

static inline uint8_t *write_number(uint8_t *to, unsigned field, uint64_t value) {
    return write_varint(write_tag(to, field, wire_varint), value);
}

static inline size_t block_size(size_t count) { return 1 + varint_size(count) + count; }

static inline uint8_t *write_head(uint8_t *to, unsigned field, size_t count) {
    return write_varint(write_tag(to, field, wire_bytes), count);
}

static inline uint8_t *write_block(uint8_t *to, unsigned field, const void *bytes, size_t count) {
    to = write_head(to, field, count);
    if (count > 0) memcpy(to, bytes, count);
    return to + count;
}
