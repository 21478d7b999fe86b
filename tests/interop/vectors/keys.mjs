// The fixed keys that the public-key senders' requests are signed with, each as ours and as somebody else's.

import { createHash, createPrivateKey, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { p256 } from "@noble/curves/nist.js";

const seed = (text) => createHash("sha256").update(`hookpack interop vectors: ${text}`).digest();
const file = (name) => readFileSync(new URL(`keys/${name}`, import.meta.url), "utf8");

/// Ed25519 from a seed; `raw` is the public key's 32 bytes.
export function ed25519(name) {
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed(name)]);
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  return { key, raw: createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32) };
}

/// P-256 from a seed. Signs as RFC 6979 says, so that a second run writes the same bytes; openssl would draw lots.
export function ecdsa(name) {
  const secret = new Uint8Array(seed(name));
  const prefix = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d030107034200", "hex");
  const spki = Buffer.concat([prefix, p256.getPublicKey(secret, false)]);
  const publicKey = createPublicKey({ key: spki, format: "der", type: "spki" });
  const sign = (data, format) => Buffer.from(p256.sign(new Uint8Array(Buffer.from(data)), secret, { format, lowS: false }));
  return { sign, spki, publicKey };
}

export const rsa = (name) => createPrivateKey(file(`rsa-${name}.key`));
export const certificate = (name) => file(`${name}.pem`);
