// Senders that send a JWT.

import { createHash, createHmac, createPublicKey, sign as rsaSign } from "node:crypto";
import { Receiver } from "@upstash/qstash";
import { OAuth2Client } from "google-auth-library";
import * as jose from "jose";
import { ecdsa, rsa } from "../keys.mjs";
import { HOUR, JSON_TYPE, NOW, TWICE, URL_OF_HOOK, header, oneByteChanged, record, replaced, request, untidy, urlOf, without } from "../lib.mjs";

export async function all() {
  await plaid();
  await pubsub();
  await qstash();
}

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const digest = (body, encoding) => createHash("sha256").update(body).digest(encoding);

/// A token: `by(text)` returns the signature's bytes.
const token = (head, claims, by) => {
  const text = `${part(head)}.${part(claims)}`;
  return `${text}.${Buffer.from(by(text)).toString("base64url")}`;
};
/// Other claims under the same signature.
const claimsReplaced = (jwt, changes) => {
  const [head, claims, signature] = jwt.split(".");
  return [head, part({ ...JSON.parse(Buffer.from(claims, "base64url")), ...changes }), signature].join(".");
};
const hs256 = (key) => (text) => createHmac("sha256", key).update(text).digest();

/// What any verifier of tokens must refuse; `head` is the genuine header, `claims` the genuine claims.
function forged(as, head, claims, sign, publicKey) {
  const pem = publicKey?.export({ format: "pem", type: "spki" });
  const jwt = token(head, claims, sign);
  return [
    as("algorithm none", "bad_signature", `${part({ ...head, alg: "none" })}.${part(claims)}.`),
    as("algorithm none with the genuine signature", "bad_signature", token({ ...head, alg: "none" }, claims, () => Buffer.from(jwt.split(".")[2], "base64url"))),
    ...(pem ? [as("HS256 with the public key as secret", "bad_signature", token({ ...head, alg: "HS256" }, claims, hs256(pem)))] : []),
    as("no signature part", "bad_signature", jwt.split(".").slice(0, 2).join(".")),
    as("an empty signature part", "bad_signature", `${jwt.split(".").slice(0, 2).join(".")}.`),
    as("four parts", "bad_signature", `${jwt}.AAAA`),
    as("no token at all", "bad_signature", "not-a-token"),
  ];
}

async function plaid() {
  const [ours, second, theirs] = [ecdsa("plaid"), ecdsa("plaid, second"), ecdsa("plaid, another")];
  const url = "https://jwks.example.com/plaid.json";
  const jwk = (key, kid) => ({ alg: "ES256", kid, use: "sig", ...key.publicKey.export({ format: "jwk" }) });
  const set = { keys: [jwk(second, "e5e1b1a2-0000-4a4a-9a9a-000000000002"), jwk(ours, "bfbd5111-8e33-4643-8ced-b2e642a72f3c")] };
  const head = { alg: "ES256", kid: "bfbd5111-8e33-4643-8ced-b2e642a72f3c", typ: "JWT" };
  const by = (key) => (text) => key.sign(text, "compact");
  const event = { webhook_type: "TRANSACTIONS", webhook_code: "DEFAULT_UPDATE", item_id: "wz666MBjYWTp2PDzzggYhM6oWWmBb", error: null, new_transactions: 19 };
  // Plaid pretty-prints with two spaces; the digest is of these bytes.
  const body = JSON.stringify(event, null, 2);
  const claims = (text = body, iat = NOW) => ({ iat, request_body_sha256: digest(text, "hex") });
  const as = (name, expect, jwt, text = body) => request(name, expect, [JSON_TYPE, ["Plaid-Verification", jwt]], text);
  const genuine = as("as it is sent", "accepted", token(head, claims(), by(ours)));
  const jwt = header(genuine, "Plaid-Verification");
  const keys = jose.createLocalJWKSet(set);
  await record(
    {
      preset: "plaid",
      tool: "@noble/curves@2.4.0 (npm), ES256 with RFC 6979 (no SDK of this sender verifies); every case by the steps of Plaid's documentation with jose@6.2.17 (npm) and PyJWT 2.15.1 (PyPI)",
      params: { jwks: url },
      pinned: { [url]: JSON.stringify(set) },
      confirm: async (sent) => {
        const { payload } = await jose.jwtVerify(header(sent, "Plaid-Verification"), keys, { algorithms: ["ES256"], maxTokenAge: "5 min" });
        return payload.request_body_sha256 === digest(sent.body, "hex");
      },
    },
    [
      genuine,
      as("untidy JSON, digested as raw bytes", "accepted", token(head, claims(untidy(event)), by(ours)), untidy(event)),
      as("signed with the set's other key", "accepted", token({ ...head, kid: set.keys[0].kid }, claims(), by(second))),
      as("299 seconds old", "accepted", token(head, claims(body, NOW - 299), by(ours))),
      as("a byte of the body is another", "bad_signature", jwt, oneByteChanged(body)),
      as("a newline is appended", "bad_signature", jwt, `${body}\n`),
      as("signed with another key under our name", "bad_signature", token(head, claims(), by(theirs))),
      as("signed with one key under the other's name", "bad_signature", token(head, claims(), by(second))),
      as("a name that is not in the set", "bad_signature", token({ ...head, kid: "unknown" }, claims(), by(theirs))),
      request("no signature header", "bad_signature", without(genuine.headers, "Plaid-Verification"), body),
      as("an empty signature header", "bad_signature", ""),
      request(TWICE, "bad_signature", [...genuine.headers, genuine.headers.at(-1)], body),
      as("a foreign timestamp beside the signature", "bad_signature", claimsReplaced(jwt, { iat: NOW + 1 })),
      as("a digest replaced beside the signature", "bad_signature", claimsReplaced(jwt, claims(oneByteChanged(body))), oneByteChanged(body)),
      as("no digest claimed", "bad_signature", token(head, { iat: NOW }, by(ours))),
      as("no time claimed", "bad_signature", token(head, { request_body_sha256: digest(body, "hex") }, by(ours))),
      as("signed an hour ago", "stale", token(head, claims(body, NOW - HOUR), by(ours))),
      as("signed an hour ahead", "stale", token(head, claims(body, NOW + HOUR), by(ours))),
      ...forged(as, head, claims(), by(ours), ours.publicKey),
    ],
  );
}

async function pubsub() {
  const [ours, theirs] = [rsa("ours"), rsa("other")];
  const url = "https://www.googleapis.com/oauth2/v3/certs";
  const publicKey = createPublicKey(ours);
  const kid = "c7e1141059a19c8b6b9b5b4a1f8a0f5c9d3e2b1a";
  const set = { keys: [{ alg: "RS256", kid, use: "sig", ...publicKey.export({ format: "jwk" }) }] };
  const head = { alg: "RS256", kid, typ: "JWT" };
  const by = (key) => (text) => rsaSign("RSA-SHA256", Buffer.from(text), key);
  const params = { jwks: url, audience: "https://hooks.example.com/pubsub", email: "push@proj.iam.gserviceaccount.com" };
  const claims = (changes = {}) => ({ aud: params.audience, azp: "113774264463038321964", email: params.email, email_verified: true, exp: NOW + HOUR, iat: NOW, iss: "https://accounts.google.com", sub: "113774264463038321964", ...changes });
  const event = { message: { attributes: { key: "value" }, data: "SGVsbG8gQ2xvdWQgUHViL1N1YiE=", messageId: "136969346945", publishTime: "2026-11-22T10:00:00.000Z" }, subscription: "projects/proj/subscriptions/sub" };
  const body = JSON.stringify(event);
  const as = (name, expect, jwt, text = body) => request(name, expect, [JSON_TYPE, ["Authorization", `Bearer ${jwt}`]], text);
  const genuine = as("as it is sent", "accepted", token(head, claims(), by(ours)));
  const jwt = header(genuine, "Authorization").slice(7);
  const client = new OAuth2Client();
  await record(
    {
      preset: "pubsub-push",
      tool: "node:crypto RS256; every case by verifySignedJwtWithCertsAsync of google-auth-library@11.3.4 (npm) and the two claims that Google's documentation says to compare, and by PyJWT 2.15.1 (PyPI)",
      params,
      pinned: { [url]: JSON.stringify(set) },
      confirm: async (sent) => {
        const [, bearer] = /^Bearer (.*)$/.exec(header(sent, "Authorization"));
        const certs = { [kid]: publicKey.export({ format: "pem", type: "spki" }) };
        const ticket = await client.verifySignedJwtWithCertsAsync(bearer, certs, params.audience, ["accounts.google.com", "https://accounts.google.com"]);
        const { email, email_verified } = ticket.getPayload();
        return email === params.email && email_verified === true;
      },
    },
    [
      genuine,
      as("untidy JSON", "accepted", jwt, untidy(event)),
      as("a changed body, which this sender does not sign", "accepted", jwt, oneByteChanged(body)),
      as("a token of 50 minutes ago, valid for an hour", "accepted", token(head, claims({ iat: NOW - 3000, exp: NOW + 600 }), by(ours))),
      as("signed with another key under our name", "bad_signature", token(head, claims(), by(theirs))),
      as("a name that is not in the set", "bad_signature", token({ ...head, kid: "unknown" }, claims(), by(theirs))),
      request("no signature header", "bad_signature", without(genuine.headers, "Authorization"), body),
      request("an empty signature header", "bad_signature", replaced(genuine.headers, "Authorization", ""), body),
      request(TWICE, "bad_signature", [...genuine.headers, genuine.headers.at(-1)], body),
      request("the token without its prefix", "bad_signature", replaced(genuine.headers, "Authorization", jwt), body),
      as("claims replaced beside the signature", "bad_signature", claimsReplaced(jwt, { exp: NOW + 2 * HOUR })),
      as("for another audience", "bad_signature", token(head, claims({ aud: "https://other.example.com/" }), by(ours))),
      as("for no audience", "bad_signature", token(head, claims({ aud: undefined }), by(ours))),
      as("by another issuer", "bad_signature", token(head, claims({ iss: "https://evil.example" }), by(ours))),
      as("of another account", "bad_signature", token(head, claims({ email: "other@proj.iam.gserviceaccount.com" }), by(ours))),
      as("of an account that is not verified", "bad_signature", token(head, claims({ email_verified: false }), by(ours))),
      as("of no account", "bad_signature", token(head, claims({ email: undefined, email_verified: undefined }), by(ours))),
      as("expired an hour ago", "stale", token(head, claims({ iat: NOW - 2 * HOUR, exp: NOW - HOUR }), by(ours))),
      ...forged(as, head, claims(), by(ours), publicKey),
    ],
  );
}

async function qstash() {
  const [secret, next] = ["sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r", "sig_5ZB6DVzB1wjE8S6rZ7eenA8Pdnhs"];
  const head = { alg: "HS256", typ: "JWT" };
  const padded = (text) => digest(text, "base64").replaceAll("+", "-").replaceAll("/", "_");
  const claims = (changes = {}, text = body) => ({ iss: "Upstash", sub: URL_OF_HOOK, exp: NOW + 300, nbf: NOW, iat: NOW, jti: "jwt_67kxXD6UBAk7DqU6hzuHMDdXFXfP", body: padded(text), ...changes });
  const event = { hello: "world", n: 42 };
  const body = JSON.stringify(event);
  const receiver = new Receiver({ currentSigningKey: secret, nextSigningKey: secret });
  const as = (name, expect, jwt, text = body, query = null) => request(name, expect, [JSON_TYPE, ["Upstash-Message-Id", "msg_26hZCxZCuWyyTWPmSVBrNB882AMRP7TsR"], ["Upstash-Signature", jwt]], text, query);
  const made = (changes, text, key = secret) => token(head, claims(changes, text), hs256(key));
  const jwt = made();
  const genuine = as("as it is sent: the digest padded with =", "accepted", jwt);
  const withoutBody = claims();
  delete withoutBody.body;
  await record(
    {
      preset: "qstash",
      tool: "node:crypto HS256 with the claims of QStash's documentation; every case by Receiver.verify of @upstash/qstash@2.12.0 (npm) and of qstash 3.4.0 (PyPI)",
      secret,
      confirm: (sent) => receiver.verify({ signature: header(sent, "Upstash-Signature"), body: sent.body, url: urlOf(sent) }),
      differs: { "signed with HS512": "it lets the token choose among the HMACs" },
    },
    [
      genuine,
      as("the digest without padding", "accepted", made({ body: digest(body, "base64url") })),
      as("untidy JSON, digested as raw bytes", "accepted", made({}, untidy(event)), untidy(event)),
      as("an empty body", "accepted", made({}, ""), ""),
      as("a query, in the token as well", "accepted", made({ sub: `${URL_OF_HOOK}?a=b` }), body, "a=b"),
      as("a byte of the body is another", "bad_signature", jwt, oneByteChanged(body)),
      as("a newline is appended", "bad_signature", jwt, `${body}\n`),
      as("signed with another secret", "bad_signature", made({}, body, next)),
      as("signed with HS512", "bad_signature", token({ ...head, alg: "HS512" }, claims(), (text) => createHmac("sha512", secret).update(text).digest())),
      request("no signature header", "bad_signature", without(genuine.headers, "Upstash-Signature"), body),
      as("an empty signature header", "bad_signature", ""),
      request(TWICE, "bad_signature", [...genuine.headers, genuine.headers.at(-1)], body),
      as("a foreign timestamp beside the signature", "bad_signature", claimsReplaced(jwt, { exp: NOW + 301 })),
      as("by another issuer", "bad_signature", made({ iss: "Downstash" })),
      as("for another URL", "bad_signature", made({ sub: `https://other.example.com/` })),
      as("a query that is not in the token", "bad_signature", jwt, body, "a=b"),
      as("the digest in hex", "bad_signature", made({ body: digest(body, "hex") })),
      as("no digest claimed", "bad_signature", token(head, withoutBody, hs256(secret))),
      as("expired an hour ago", "stale", made({ exp: NOW - HOUR, nbf: NOW - HOUR - 300, iat: NOW - HOUR - 300 })),
      as("not valid for another hour", "stale", made({ exp: NOW + HOUR + 300, nbf: NOW + HOUR, iat: NOW + HOUR })),
      ...forged(as, head, claims(), hs256(secret)),
    ],
  );
}
