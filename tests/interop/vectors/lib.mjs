// What every sender's vectors share: the fixed clock and URL, the refused variants of an accepted request, and the check
// of each case against the sender's own verifier.

import { createHmac } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";

export const NOW = 1795341600; // 2026-11-22T10:00:00Z
export const HOUR = 3600;
export const PUBLIC_URL = "https://hooks.example.com";
export const PATH = "/api/v1/webhooks/wh_00000000000000000000000000000000";
export const URL_OF_HOOK = PUBLIC_URL + PATH;
export const JSON_TYPE = ["Content-Type", "application/json"];

export const hmac = (hash, key, data, encoding) => createHmac(hash, key).update(data).digest(encoding);
export const rfc3339 = (seconds) => new Date(seconds * 1000).toISOString().replace(".000Z", "Z");

/// A case as it is recorded; `confirm` gets one of these.
export const request = (name, expect, headers, body, query = null) => ({
  name, expect, method: "POST", path: PATH, query, headers, body,
});

/// The one line of a header, as an SDK would get it; undefined when it is missing.
export const header = (sent, name) =>
  sent.headers.find(([own]) => own.toLowerCase() === name.toLowerCase())?.[1];
export const headersOf = (sent) => Object.fromEntries(sent.headers.map(([name, value]) => [name.toLowerCase(), value]));
export const urlOf = (sent) => PUBLIC_URL + sent.path + (sent.query === null ? "" : `?${sent.query}`);

/// The same JSON as no serializer writes it: what is signed is the bytes, so every bit of this must survive.
export function untidy(value) {
  const loose = String.raw`"untidy" : "Zo\u00eb \/ Zoë ☕ 𝄞",	"one":1.0, "hundred" : 1E2, "long":12345678901234567890,`;
  return `${JSON.stringify(value, null, 3).replace("{", `{ ${loose}`)}\n`;
}

/// One digit is another one, so that the body stays JSON (or a form) of the same length.
export function oneByteChanged(text) {
  const at = text.search(/[0-9](?=[^0-9]*$)/);
  if (at < 0) throw new Error(`no digit to change in ${text}`);
  return text.slice(0, at) + ((Number(text[at]) + 1) % 10) + text.slice(at + 1);
}

export const without = (headers, name) => headers.filter(([own]) => own !== name);
export const replaced = (headers, name, value) => headers.map((line) => (line[0] === name ? [name, value] : line));

/// The cases of a sender whose signature is a header: those it accepts and those made from the first by spoiling it.
///
/// `sign(body, {at, secret, query})` returns the header lines of the signature and of what is signed with it.
/// `timestamp` is the header's name, or a function that returns the headers with another timestamp.
export async function cases(sender) {
  const { bodies, sign, plain = [JSON_TYPE], signature, secret, otherSecret, timestamp, tolerance, query = null } = sender;
  const [tidy] = bodies;
  const at = (seconds) => (typeof tidy === "function" ? tidy(seconds) : tidy);
  const sent = async (name, expect, body, { seconds = NOW, key = secret, change = (headers) => headers } = {}) =>
    request(name, expect, change([...plain, ...(await sign(body, { at: seconds, secret: key, query }))]), body, query);
  const body = at(NOW);

  const list = [await sent("as it is sent", "accepted", body)];
  for (const other of bodies.slice(1)) {
    const text = typeof other === "function" ? other(NOW) : other;
    const name = text.startsWith("{") || text.startsWith("[") ? "untidy JSON, signed as raw bytes" : "a form, signed as raw bytes";
    list.push(await sent(name, "accepted", text));
  }
  const genuine = list[0];
  const spoilt = (name, changes) => list.push({ ...genuine, name, expect: "bad_signature", ...changes });
  spoilt("a byte of the body is another", { body: oneByteChanged(body) });
  spoilt("a newline is appended", { body: `${body}\n` });
  list.push(await sent("signed with another secret", "bad_signature", body, { key: otherSecret }));
  spoilt("no signature header", { headers: without(genuine.headers, signature) });
  spoilt("an empty signature header", { headers: replaced(genuine.headers, signature, "") });
  if (!sender.manyLines) spoilt(TWICE, { headers: [...genuine.headers, [signature, header(genuine, signature)]] });
  if (timestamp) {
    const moved = typeof timestamp === "function" ? timestamp : (headers, text) => replaced(headers, timestamp, text);
    const later = await sent("", "", body, { seconds: NOW + 1 });
    const text = typeof timestamp === "function" ? String(NOW + 1) : header(later, timestamp);
    spoilt("a foreign timestamp beside the signature", { headers: moved(genuine.headers, text) });
    if (typeof timestamp === "string") spoilt("no timestamp header", { headers: without(genuine.headers, timestamp) });
  }
  if (tolerance) {
    list.push(await sent("signed an hour ago", "stale", at(NOW - HOUR), { seconds: NOW - HOUR }));
    list.push(await sent("signed an hour ahead", "stale", at(NOW + HOUR), { seconds: NOW + HOUR }));
  }
  return [...list, ...(sender.extra ? await sender.extra(genuine, sent) : [])];
}

/// The one case that no SDK is asked about: each is handed one value of a header.
export const TWICE = "the signature header twice";

/// Asks the sender's verifier about every case, then writes the file.
export async function record({ preset, tool, secret = null, params, pinned, confirm, differs = {} }, list) {
  const names = new Set(list.map((one) => one.name));
  if (names.size !== list.length) throw new Error(`${preset}: two cases of one name`);
  for (const name of Object.keys(differs)) if (!names.has(name)) throw new Error(`${preset}: no case "${name}"`);
  let asked = 0;
  for (const one of list) {
    if (!confirm || one.name === TWICE) continue;
    const verdict = await Promise.resolve(one).then(confirm).catch(() => false);
    const expected = (one.expect === "accepted") !== one.name in differs;
    if (Boolean(verdict) !== expected)
      throw new Error(`${preset}: "${one.name}" is ${one.expect}, the sender's verifier says ${verdict}`);
    asked += 1;
  }
  const file = {
    preset, tool, public_url: PUBLIC_URL, secret, now: rfc3339(NOW),
    ...(params && { params }), ...(pinned && { pinned }),
    cases: list,
  };
  mkdirSync(new URL("data", import.meta.url), { recursive: true });
  writeFileSync(new URL(`data/${preset}.json`, import.meta.url), `${JSON.stringify(file, null, 1)}\n`);
  const told = confirm ? `${asked} confirmed` : "no verifier asked";
  console.log(`${preset}: ${list.length} cases, ${told}`);
  for (const [name, why] of Object.entries(differs)) console.log(`    the verifier says otherwise of "${name}": ${why}`);
}

/// Both steps for a sender of the usual kind.
export const usual = async (sender) => record(sender, await cases(sender));

/// A formula against the example that its sender prints.
export function printed(what, ours, theirs) {
  if (ours !== theirs) throw new Error(`${what}: ours ${ours}, printed ${theirs}`);
}
