"""Generates pairs of a JSONPath and a document, with what jsonpath-rfc9535 selects, in the format of cts.json."""

import argparse
import json
import random
import re

import jsonpath_rfc9535 as jsonpath

NAMES = ["a", "a", "a", "a", "b", "b", "b", "b", "c", "c", "é", "a b", "'", '"', "\\", "", "1", "☺", "length"]
TEXTS = ["", "a", "ab", "b", "aab", "é", "😀", "￮", "1", "x.y", "a\nb", "[", "true", "\\d", "a**", "a.?b", "[a-z]*"]
NUMBERS = [0, 1, -1, 2, 10, 1.0, 1.5, -0.5, 1e2, 100, 9007199254740993, 0.1]
# What is no I-Regexp stands in documents only: written in a path it is refused here, and matches nothing elsewhere.
PATTERNS = ["a", "a.*", ".", "a|b", "[a-b]+", "(ab?)*", "a{1,2}b", "\\p{L}+", "[^a]", "x\\.y", "\\P{Lu}", ".*b$", "[&-~]+", "[^\\n-\\]]", "(a|)b"]


def document(rng, depth):
    kind = rng.random()
    if depth > 0 and kind < 0.4:
        return {rng.choice(NAMES): document(rng, depth - 1) for _ in range(rng.randint(1, 6))}
    if depth > 0 and kind < 0.8:
        return [document(rng, depth - 1) for _ in range(rng.randint(0, 6))]
    return rng.choice([None, True, False, rng.choice(TEXTS), rng.choice(NUMBERS), rng.choice(TEXTS)])


def quoted(rng, text):
    written = json.dumps(text, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.5:
        return written
    return "'" + written[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"


def blank(rng):
    return rng.choice(["", "", "", " ", "\n", "\t"])


def integer(rng):
    return str(rng.choice([0, 1, 2, 3, 5, -1, -2, -3, -7]))


def step(rng):
    if rng.random() < 0.5:
        name = rng.choice(["a", "a", "b", "b", "c", "é"])
        return "." + name if rng.random() < 0.5 else "[" + quoted(rng, name) + "]"
    return "[" + (quoted(rng, rng.choice(NAMES)) if rng.random() < 0.6 else integer(rng)) + "]"


def selector(rng, depth):
    kind = rng.randint(0, 6)
    if kind <= 1:
        return quoted(rng, rng.choice(NAMES))
    if kind == 2:
        return integer(rng)
    if kind == 3:
        return "*"
    if kind == 4:
        part = lambda: rng.choice(["", integer(rng)])
        text = part() + blank(rng) + ":" + blank(rng) + part()
        return text + (":" + part() if rng.random() < 0.4 else "")
    if depth == 0:
        return "*"
    return "?" + blank(rng) + logical(rng, depth - 1)


def segment(rng, depth):
    kind = rng.random()
    if kind < 0.4:
        return blank(rng) + step(rng)
    if kind < 0.6:
        return rng.choice([".*", "[*]", "..*"])
    selectors = [selector(rng, depth) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    comma = blank(rng) + "," + blank(rng)
    bracketed = "[" + blank(rng) + comma.join(selectors) + blank(rng) + "]"
    if kind < 0.8:
        return bracketed
    return ".." + rng.choice([bracketed, "*", "a", "b"])


def nodes(rng, depth):
    # Never `@` alone: jsonpath-rfc9535 1.0.1 takes its value for the nodelist in tests, `count` and `value`.
    return rng.choice("@@@$") + segment(rng, depth) + "".join(segment(rng, depth) for _ in range(rng.choice([0, 0, 1])))


def singular(rng):
    return rng.choice("@@@$") + "".join(step(rng) for _ in range(rng.choice([0, 1, 1, 2])))


def value(rng, depth):
    kind = rng.randint(0, 7)
    if kind <= 2:
        return singular(rng)
    if kind == 3:
        return quoted(rng, rng.choice(TEXTS))
    if kind == 4:
        return rng.choice(["0", "1", "-1", "1.0", "1.5", "1e2", "-0", "100", "9007199254740993"])
    if kind == 5:
        return rng.choice(["true", "false", "null"])
    if kind == 6:
        return "length(" + blank(rng) + value(rng, depth) + ")"
    return rng.choice(["count", "value"]) + "(" + nodes(rng, max(depth - 1, 0)) + blank(rng) + ")"


def basic(rng, depth):
    kind = rng.random()
    if kind < 0.5:
        operator = rng.choice(["==", "!=", "<", "<=", ">", ">="])
        return value(rng, depth) + blank(rng) + operator + blank(rng) + value(rng, depth)
    negation = rng.choice(["", "", "!"])
    if kind < 0.7:
        return negation + nodes(rng, max(depth - 1, 0))
    if kind < 0.85:
        pattern = quoted(rng, rng.choice(PATTERNS)) if rng.random() < 0.8 else singular(rng)
        return negation + rng.choice(["match", "search"]) + "(" + value(rng, 0) + "," + blank(rng) + pattern + ")"
    return negation + "(" + logical(rng, max(depth - 1, 0)) + ")"


def logical(rng, depth):
    parts = [basic(rng, depth) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    text = parts[0]
    for part in parts[1:]:
        text += blank(rng) + rng.choice(["&&", "||"]) + blank(rng) + part
    return text


def broken(rng, path):
    """The same with one character gone, doubled or changed: most of these are no JSONPaths."""
    at = rng.randrange(1, len(path)) if len(path) > 1 else 0
    return rng.choice([path[:at] + path[at + 1:], path[:at] + path[at] + path[at:], path[:at] + rng.choice("$@.[]()?*!&|='\"\\ 0") + path[at + 1:]])


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--count", type=int, default=5000)
    arguments = arguments.parse_args()
    rng, tests = random.Random(arguments.seed), []
    while len(tests) < arguments.count:
        path = "$" + "".join(segment(rng, 2) for _ in range(rng.choice([1, 1, 2, 2, 3])))
        if rng.random() < 0.25 and "match(" not in path and "search(" not in path:
            path = broken(rng, path)
        if re.search(r"!\s*!|\d-\d", path):
            continue  # `!!@` and `[1:3-2]` are read by jsonpath-rfc9535 1.0.1, and are not in the grammar
        payload = document(rng, 4)
        while not isinstance(payload, (dict, list)) or len(payload) < 2:
            payload = document(rng, 4)
        test = {"name": f"pair {len(tests)}: {path}", "selector": path, "document": payload}
        try:
            query = jsonpath.compile(path)
        except jsonpath.JSONPathError:
            test["invalid_selector"] = True
        else:
            test["result"] = [node.value for node in query.find(payload)]
        tests.append(test)
    print(json.dumps({"tests": tests}, ensure_ascii=False))


if __name__ == "__main__":
    main()
