// Makes one event of a sensor's uplink: the bytes of its frame, decoded to named readings.
//
// The uplink comes from The Things Stack (https://www.thethingsindustries.com/docs/integrations/webhooks/), which leaves
// out members that are zero or empty. The frame is in Cayenne LPP: a channel, a type, the type's bytes, and so on.
#include "hookpack.h"
#include "json.h"

enum { FRAME_BYTES_MAX = 255, EVENT_BYTES_MAX = 32 << 10 };

typedef struct {
    const char *name; // null: the reading is one number
    uint8_t bytes;    // big-endian
    bool is_signed;
    uint8_t step, decimals; // the number is raw * step / 10^decimals
} number;

typedef struct {
    uint8_t code;
    const char *name, *unit;
    number numbers[3];
} type;

static const type types[] = {
    {0x00, "digital_input", 0, {{0, 1, false, 1, 0}}},
    {0x01, "digital_output", 0, {{0, 1, false, 1, 0}}},
    {0x02, "analog_input", 0, {{0, 2, true, 1, 2}}},
    {0x03, "analog_output", 0, {{0, 2, true, 1, 2}}},
    {0x65, "illuminance", "lx", {{0, 2, false, 1, 0}}},
    {0x66, "presence", 0, {{0, 1, false, 1, 0}}},
    {0x67, "temperature", "°C", {{0, 2, true, 1, 1}}},
    {0x68, "humidity", "%", {{0, 1, false, 5, 1}}},
    {0x71, "acceleration", "g", {{"x", 2, true, 1, 3}, {"y", 2, true, 1, 3}, {"z", 2, true, 1, 3}}},
    {0x73, "pressure", "hPa", {{0, 2, false, 1, 1}}},
    {0x86, "rotation", "°/s", {{"x", 2, true, 1, 2}, {"y", 2, true, 1, 2}, {"z", 2, true, 1, 2}}},
    {0x88, "position", 0, {{"latitude", 3, true, 1, 4}, {"longitude", 3, true, 1, 4}, {"altitude", 3, true, 1, 2}}},
};

typedef struct {
    uint8_t at[FRAME_BYTES_MAX];
    size_t length;
} frame;

static bool from_base64(text encoded, frame *to);
static const char *put_readings(writer *to, const frame *from, text names);
static bool key_of(text device, text uplink, text count, text *key);
static answer error(map_error kind, const char *reason);

answer transform(const delivery *given) {
    text uplink, ids, device, device_id, encoded, names = {"{}", 2}, port = {"0", 1}, wanted = {"1", 1}, count = {"0", 1};
    int32_t port_number, wanted_number, count_number;

    if (!json_member(given->payload, "uplink_message", &uplink)) return error(SKIP, "not an uplink");
    if (!json_member(given->payload, "end_device_ids", &ids) || !json_member(ids, "device_id", &device) ||
        !json_text(device, &device_id)) {
        return error(INVALID_PAYLOAD, "end_device_ids has no device_id");
    }
    json_member(uplink, "f_cnt", &count);
    json_member(uplink, "f_port", &port);
    if (!json_whole(count, &count_number) || !json_whole(port, &port_number)) {
        return error(INVALID_PAYLOAD, "f_cnt or f_port is not a whole number");
    }

    json_member(given->settings, "names", &names);
    json_member(given->settings, "port", &wanted);
    if (!json_whole(wanted, &wanted_number)) return error(FAILED, "settings: port is not a whole number");
    if (port_number != wanted_number) return error(SKIP, "not on the port that the settings name");

    static frame got;
    if (!json_member(uplink, "frm_payload", &encoded)) return error(SKIP, "an empty frame");
    if (!json_text(encoded, &encoded) || !from_base64(encoded, &got)) {
        return error(INVALID_PAYLOAD, "frm_payload is not base64 of at most 255 bytes");
    }

    writer to = {.at = take(EVENT_BYTES_MAX), .room = EVENT_BYTES_MAX};
    put_words(&to, "{\"device\":");
    put(&to, device);
    put_words(&to, ",\"count\":");
    put(&to, count);
    put_words(&to, ",\"readings\":[");
    const char *fault = put_readings(&to, &got, names);
    if (fault) return error(INVALID_PAYLOAD, fault);
    put_words(&to, "]}");
    if (to.full) return error(FAILED, "the event has more than 32 kB; are the names in the settings so long?");

    static event made;
    made.payload = written(&to);
    made.has_key = key_of(device_id, uplink, count, &made.key);
    return (answer){.events = {&made, 1}};
}

static const type *type_of(uint8_t code) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].code == code) return &types[i];
    }
    return 0;
}

static bool has(const type *of, int i) { return i < 3 && of->numbers[i].bytes > 0; }

static int32_t read(const number *of, const uint8_t *bytes) {
    uint32_t raw = 0;
    for (int i = 0; i < of->bytes; i++) raw = raw << 8 | bytes[i];
    int above = 32 - 8 * of->bytes;
    return (of->is_signed ? (int32_t)(raw << above) >> above : (int32_t)raw) * of->step;
}

// One reading: {"channel":3,"name":"greenhouse","type":"temperature","value":27.2,"unit":"°C"}
static void put_reading(writer *to, uint8_t channel, const type *of, const uint8_t *bytes, text names) {
    put_words(to, "{\"channel\":");
    writer name = {.at = (char[4]){0}, .room = 3};
    put_decimal(&name, channel, 0);
    put(to, written(&name));
    text given;
    if (json_member(names, name.at, &given)) {
        put_words(to, ",\"name\":");
        put(to, given);
    }
    put_words(to, ",\"type\":");
    put_plain(to, of->name);
    put_words(to, ",\"value\":");
    for (int i = 0; has(of, i); i++) {
        const number *one = &of->numbers[i];
        if (one->name) {
            put_words(to, i == 0 ? "{" : ",");
            put_plain(to, one->name);
            put_words(to, ":");
        }
        put_decimal(to, read(one, bytes), one->decimals);
        bytes += one->bytes;
    }
    if (of->numbers[0].name) put_words(to, "}");
    if (of->unit) {
        put_words(to, ",\"unit\":");
        put_plain(to, of->unit);
    }
    put_words(to, "}");
}

// Null, or what is wrong with the frame.
static const char *put_readings(writer *to, const frame *from, text names) {
    for (size_t at = 0; at < from->length;) {
        if (from->length - at < 2) return "the frame ends within a reading";
        const type *of = type_of(from->at[at + 1]);
        if (!of) return "the frame has a type that Cayenne LPP doesn't";
        size_t bytes = 0;
        for (int i = 0; has(of, i); i++) bytes += of->numbers[i].bytes;
        if (from->length - at - 2 < bytes) return "the frame ends within a reading";
        if (at > 0) put_words(to, ",");
        put_reading(to, from->at[at], of, from->at + at + 2, names);
        at += 2 + bytes;
    }
    return 0;
}

static int sextet(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool from_base64(text encoded, frame *to) {
    size_t length = encoded.length;
    while (length > 0 && encoded.length - length < 2 && encoded.at[length - 1] == '=') length--;
    if (encoded.length % 4 != 0 || length * 3 / 4 > FRAME_BYTES_MAX) return false;
    uint32_t bits = 0;
    int have = 0;
    to->length = 0;
    for (size_t i = 0; i < length; i++) {
        int six = sextet(encoded.at[i]);
        if (six < 0) return false;
        bits = (bits << 6 | (uint32_t)six) & 0xffff;
        have += 6;
        if (have >= 8) have -= 8, to->at[to->length++] = (uint8_t)(bits >> have);
    }
    return true;
}

// A device counts its frames anew in each session; without the session's id a count says nothing.
static bool key_of(text device, text uplink, text count, text *key) {
    text session;
    if (!json_member(uplink, "session_key_id", &session) || !json_text(session, &session)) return false;
    size_t room = device.length + session.length + count.length + 2;
    writer to = {.at = take(room), .room = room};
    put(&to, device);
    put_words(&to, " ");
    put(&to, session);
    put_words(&to, " ");
    put(&to, count);
    *key = written(&to);
    return true;
}

static answer error(map_error kind, const char *reason) {
    size_t length = 0;
    while (reason[length] != 0) length++;
    return (answer){.is_error = true, .error = {(uint8_t)kind, {reason, length}}};
}
