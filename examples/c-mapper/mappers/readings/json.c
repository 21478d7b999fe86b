#include "json.h"

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static size_t after_spaces(text json, size_t at) {
    while (at < json.length && is_space(json.at[at])) at++;
    return at;
}

// From a text's opening quote to behind its closing one.
static size_t after_text(text json, size_t at) {
    for (at++; at < json.length && json.at[at] != '"'; at++) {
        if (json.at[at] == '\\') at++;
    }
    return at < json.length ? at + 1 : json.length;
}

// From a value's first character to behind its last. Counts brackets and does not recurse, however deep they nest.
static size_t after_value(text json, size_t at) {
    size_t depth = 0;
    while (at < json.length) {
        char c = json.at[at];
        if (c == '"') {
            at = after_text(json, at);
        } else if (c == '{' || c == '[') {
            depth++, at++;
        } else if (c == '}' || c == ']') {
            if (depth == 0) return at; // of the object around a number
            depth--, at++;
        } else if (depth == 0 && (c == ',' || is_space(c))) {
            return at;
        } else {
            at++;
            if (depth == 0) continue; // within a number or a word
        }
        if (depth == 0) return at;
    }
    return json.length;
}

static bool same(text a, const char *b) {
    size_t i = 0;
    while (i < a.length && b[i] != 0 && a.at[i] == b[i]) i++;
    return i == a.length && b[i] == 0;
}

static text part(text whole, size_t from, size_t to) { return (text){whole.at + from, from < to ? to - from : 0}; }

bool json_member(text object, const char *name, text *value) {
    bool found = false;
    size_t at = after_spaces(object, 0);
    if (at == object.length || object.at[at] != '{') return false;
    at = after_spaces(object, at + 1);
    while (at < object.length && object.at[at] == '"') {
        size_t name_end = after_text(object, at);
        text member;
        bool wanted = json_text(part(object, at, name_end), &member) && same(member, name);
        at = after_spaces(object, after_spaces(object, name_end) + 1); // over the colon
        size_t end = after_value(object, at);
        if (wanted) *value = part(object, at, end), found = true;
        at = after_spaces(object, end);
        if (at == object.length || object.at[at] != ',') break;
        at = after_spaces(object, at + 1);
    }
    return found;
}

bool json_is_text(text value) { return value.length >= 2 && value.at[0] == '"'; }

// Four hexadecimal digits, or -1.
static int32_t code_unit(text json, size_t at) {
    int32_t unit = 0;
    if (at + 4 > json.length) return -1;
    for (size_t i = at; i < at + 4; i++) {
        char c = json.at[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

static size_t put_utf8(char *to, int32_t point) {
    if (point < 0x80) return to[0] = (char)point, 1;
    int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    to[0] = (char)(lead[more] | point >> 6 * more);
    for (int i = 1; i <= more; i++) to[i] = (char)(0x80 | (point >> 6 * (more - i) & 0x3f));
    return (size_t)more + 1;
}

static bool is_high(int32_t unit) { return unit >= 0xd800 && unit < 0xdc00; }
static bool is_low(int32_t unit) { return unit >= 0xdc00 && unit < 0xe000; }

bool json_text(text value, text *decoded) {
    if (!json_is_text(value)) return false;
    text inner = part(value, 1, value.length - 1);
    size_t plain = 0;
    while (plain < inner.length && inner.at[plain] != '\\') plain++;
    if (plain == inner.length) return *decoded = inner, true;

    char *to = take(inner.length); // no escape is shorter than what it stands for
    size_t length = 0;
    for (size_t at = 0; at < inner.length;) {
        if (inner.at[at] != '\\') {
            to[length++] = inner.at[at++];
            continue;
        }
        if (at + 1 == inner.length) return false;
        char c = inner.at[at + 1];
        at += 2;
        switch (c) {
        case '"': case '\\': case '/': to[length++] = c; break;
        case 'b': to[length++] = '\b'; break;
        case 'f': to[length++] = '\f'; break;
        case 'n': to[length++] = '\n'; break;
        case 'r': to[length++] = '\r'; break;
        case 't': to[length++] = '\t'; break;
        case 'u': {
            int32_t point = code_unit(inner, at);
            at += 4;
            if (is_high(point) && at + 1 < inner.length && inner.at[at] == '\\' && inner.at[at + 1] == 'u') {
                int32_t low = code_unit(inner, at + 2);
                if (!is_low(low)) return false;
                point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
                at += 6;
            }
            if (point < 0 || is_high(point) || is_low(point)) return false;
            length += put_utf8(to + length, point);
            break;
        }
        default: return false;
        }
    }
    *decoded = (text){to, length};
    return true;
}

bool json_whole(text value, int32_t *number) {
    bool negative = value.length > 0 && value.at[0] == '-';
    size_t at = negative ? 1 : 0;
    if (value.length == at || value.length - at > 9) return false;
    int32_t read = 0;
    for (; at < value.length; at++) {
        if (value.at[at] < '0' || value.at[at] > '9') return false;
        read = read * 10 + (value.at[at] - '0');
    }
    *number = negative ? -read : read;
    return true;
}

void put(writer *to, text what) {
    if (what.length > to->room - to->length) {
        to->full = true;
        return;
    }
    for (size_t i = 0; i < what.length; i++) to->at[to->length + i] = what.at[i];
    to->length += what.length;
}

void put_words(writer *to, const char *words) {
    size_t length = 0;
    while (words[length] != 0) length++;
    put(to, (text){words, length});
}

void put_plain(writer *to, const char *words) {
    put_words(to, "\"");
    put_words(to, words);
    put_words(to, "\"");
}

void put_decimal(writer *to, int32_t number, int decimals) {
    char digits[16];
    size_t at = sizeof digits;
    uint32_t left = number < 0 ? 0 - (uint32_t)number : (uint32_t)number;
    while (decimals > 0 && left % 10 == 0) left /= 10, decimals--;
    for (int place = 0; place <= decimals || left > 0; place++) {
        if (place > 0 && place == decimals) digits[--at] = '.';
        digits[--at] = (char)('0' + left % 10);
        left /= 10;
    }
    if (number < 0) digits[--at] = '-';
    put(to, (text){digits + at, sizeof digits - at});
}

text written(const writer *from) { return (text){from->at, from->length}; }
