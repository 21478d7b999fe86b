// Enough JSON for a mapper: find members, read texts and whole numbers, write a document.
//
// The host hands over valid JSON only, so a value is found by where it begins and ends and is not checked again. A
// value's own text can be put into an event as it stands: numbers keep their digits, texts their escapes.
#pragma once

#include "hookpack.h"

// The value of an object's member; of several with that name the last, as the host has it. False: there is none.
bool json_member(text object, const char *name, text *value);
bool json_is_text(text value);
// A JSON text without quotes and escapes. False: it is none, or half a surrogate pair.
bool json_text(text value, text *decoded);
// A whole number without fraction or exponent, up to nine digits. False: it is none.
bool json_whole(text value, int32_t *number);

// A document that is being written into room of fixed size. What no longer fits sets `full`.
typedef struct {
    char *at;
    size_t length, room;
    bool full;
} writer;

void put(writer *to, text what);
void put_words(writer *to, const char *words);
// `number` / 10^`decimals`, exactly and without idle zeros.
void put_decimal(writer *to, int32_t number, int decimals);
// The name of a member or a text that needs no escapes, in quotes.
void put_plain(writer *to, const char *words);
text written(const writer *from);
