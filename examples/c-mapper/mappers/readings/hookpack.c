// What the host calls, and the memory into which it puts a delivery.
#include "hookpack.h"

extern char __heap_base; // wasm-ld: where data and stack end
enum { PAGE = 65536, ALIGNMENT = 8 };

static uintptr_t next = 0;

void *take(size_t bytes) {
    if (next == 0) next = ((uintptr_t)&__heap_base + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    uintptr_t taken = next;
    size_t have = __builtin_wasm_memory_size(0) * PAGE - taken;
    if (bytes > have) {
        size_t pages = (bytes - have - 1) / PAGE + 1;
        if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) __builtin_trap();
    }
    next = taken + bytes + (ALIGNMENT - bytes % ALIGNMENT) % ALIGNMENT;
    return (void *)taken;
}

// The host asks for room here before each text and list that it hands over.
__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    if (align > ALIGNMENT) __builtin_trap();
    char *taken = take(size);
    size_t kept = old_size < size ? old_size : size;
    for (size_t i = 0; i < kept; i++) taken[i] = ((const char *)old)[i];
    return taken;
}

// A delivery is 16 numbers: one address and one length for each of its eight texts and lists.
__attribute__((export_name("hookpack:mapper/mapper@1.0.0#transform"))) const answer *exported_transform(
    const char *trigger, size_t trigger_length, const char *received_at, size_t received_at_length,
    const pair *headers, size_t headers_count, const pair *query, size_t query_count,
    const char *settings, size_t settings_length, const pair *attributes, size_t attributes_count,
    const char *content_type, size_t content_type_length, const char *payload, size_t payload_length) {
    static answer given_back;
    delivery given = {
        .trigger = {trigger, trigger_length},
        .received_at = {received_at, received_at_length},
        .headers = {headers, headers_count},
        .query = {query, query_count},
        .settings = {settings, settings_length},
        .attributes = {attributes, attributes_count},
        .content_type = {content_type, content_type_length},
        .payload = {payload, payload_length},
    };
    given_back = transform(&given);
    return &given_back;
}
