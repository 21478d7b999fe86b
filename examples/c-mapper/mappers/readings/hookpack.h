// The mapper interface in C: what wit/mapper.wit says, as the canonical ABI lays it out in a 32-bit memory.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// UTF-8, not ended by a zero byte.
typedef struct {
    const char *at;
    size_t length;
} text;

typedef struct {
    text name, value;
} pair;

typedef struct {
    const pair *at;
    size_t count;
} pairs;

typedef struct {
    text trigger, received_at;
    pairs headers, query;
    text settings;
    pairs attributes;
    text content_type, payload;
} delivery;

typedef struct {
    text payload;
    bool has_key;
    text key;
} event;

typedef enum { INVALID_PAYLOAD, SKIP, FAILED } map_error;

// result<list<event>, map-error>: a tag, and what belongs to it.
typedef struct {
    bool is_error;
    union {
        struct {
            const event *at;
            size_t count;
        } events;
        struct {
            uint8_t kind;
            text reason;
        } error;
    };
} answer;

_Static_assert(sizeof(event) == 20 && offsetof(event, key) == 12, "as the ABI has it");
_Static_assert(sizeof(answer) == 16 && offsetof(answer, error.reason) == 8, "as the ABI has it");

// Yours to write.
answer transform(const delivery *given);

// Memory that is never given back: the whole instance goes after one delivery. Traps when there is none left.
void *take(size_t bytes);
