// Senders that sign with a private key: Ed25519, ECDSA, RSA with a certificate.

import { createRequire } from "node:module";
import { sign, verify } from "node:crypto";
import https from "node:https";
import { Readable } from "node:stream";
import { crc32 } from "node:zlib";
import { ed25519 as nobleEd25519 } from "@noble/curves/ed25519.js";
import { verifyKey } from "discord-interactions";
import { certificate, ecdsa, ed25519, rsa } from "../keys.mjs";
import { HOUR, JSON_TYPE, NOW, TWICE, header, oneByteChanged, record, replaced, request, rfc3339, untidy, usual, without } from "../lib.mjs";

const require = createRequire(import.meta.url);
const { EventWebhook } = require("@sendgrid/eventwebhook");
const SnsValidator = require("sns-validator");

export async function all() {
  await discord();
  await standardWebhooksV1a();
  await sendgrid();
  await sns();
  await paypal();
}

async function discord() {
  const [ours, theirs] = [ed25519("discord"), ed25519("discord, another")];
  const secret = ours.raw.toString("hex");
  const event = { version: 1, application_id: "1234560123453231555", type: 2, id: "846462639134605312", token: "A_UNIQUE_TOKEN", data: { id: "771825006014889984", name: "blep" } };
  await usual({
    preset: "discord",
    tool: "node:crypto Ed25519; every case by verifyKey of discord-interactions@4.4.0 (npm)",
    secret,
    otherSecret: theirs,
    bodies: [JSON.stringify(event), untidy(event)],
    signature: "X-Signature-Ed25519",
    sign: (body, { at, secret: own }) => [["X-Signature-Timestamp", String(at)], ["X-Signature-Ed25519", sign(null, Buffer.from(at + body), own === theirs ? theirs.key : ours.key).toString("hex")]],
    timestamp: "X-Signature-Timestamp",
    confirm: (sent) => verifyKey(sent.body, header(sent, "X-Signature-Ed25519"), header(sent, "X-Signature-Timestamp") ?? "", secret),
    extra: async (genuine, sent) => [
      { ...(await sent("signed an hour ago: there is no tolerance", "accepted", genuine.body, { seconds: NOW - HOUR })) },
      request("a signature of 63 bytes", "bad_signature", replaced(genuine.headers, "X-Signature-Ed25519", header(genuine, "X-Signature-Ed25519").slice(2)), genuine.body),
      request("a signature of zeros", "bad_signature", replaced(genuine.headers, "X-Signature-Ed25519", "0".repeat(128)), genuine.body),
    ],
  });
}

async function standardWebhooksV1a() {
  const [ours, theirs] = [ed25519("v1a"), ed25519("v1a, another")];
  const id = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W";
  const event = { type: "user.created", timestamp: "2026-11-22T10:00:00Z", data: { id: "1f81eb52-5198-4599-803e-771906343485" } };
  const line = (body, at, key) => `v1a,${sign(null, Buffer.from(`${id}.${at}.${body}`), key).toString("base64")}`;
  await usual({
    preset: "standard-webhooks-v1a",
    tool: "node:crypto Ed25519 as the specification says (its packages on npm and PyPI know v1 only); every case by ed25519.verify of @noble/curves@2.4.0 (npm)",
    secret: `whpk_${ours.raw.toString("base64")}`,
    otherSecret: theirs,
    bodies: [JSON.stringify(event), untidy(event)],
    signature: "webhook-signature",
    sign: (body, { at, secret }) => [["webhook-id", id], ["webhook-timestamp", String(at)], ["webhook-signature", line(body, at, secret === theirs ? theirs.key : ours.key)]],
    timestamp: "webhook-timestamp",
    tolerance: true,
    confirm: (sent) => {
      const at = header(sent, "webhook-timestamp");
      const message = Buffer.from(`${header(sent, "webhook-id")}.${at}.${sent.body}`);
      const entries = header(sent, "webhook-signature").split(" ").filter((one) => one.startsWith("v1a,"));
      const fits = (one) => nobleEd25519.verify(new Uint8Array(Buffer.from(one.slice(4), "base64")), new Uint8Array(message), new Uint8Array(ours.raw));
      return Math.abs(Date.now() / 1000 - Number(at)) <= 300 && entries.some(fits);
    },
    extra: (genuine) => {
      const own = header(genuine, "webhook-signature");
      const as = (what, expect, value) => request(what, expect, replaced(genuine.headers, "webhook-signature", value), genuine.body);
      return [
        as("two keys in use, ours last", "accepted", `${line(genuine.body, NOW, theirs.key)} ${own}`),
        as("beside a v1", "accepted", `v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= ${own}`),
        as("our signature named v1", "bad_signature", own.replace("v1a,", "v1,")),
        request("a foreign id beside the signature", "bad_signature", replaced(genuine.headers, "webhook-id", "msg_other"), genuine.body),
      ];
    },
  });
}

async function sendgrid() {
  const [ours, theirs] = [ecdsa("sendgrid"), ecdsa("sendgrid, another")];
  const secret = ours.spki.toString("base64");
  const verifier = new EventWebhook();
  const event = [{ email: "hello@world.com", event: "dropped", reason: "Bounced Address", sg_event_id: "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA", sg_message_id: "LRzXl_NHStOGhQ4kofSm_A.filterdrecv", timestamp: 1795341600 }];
  const [SIGNATURE, TIME] = ["X-Twilio-Email-Event-Webhook-Signature", "X-Twilio-Email-Event-Webhook-Timestamp"];
  await usual({
    preset: "sendgrid",
    tool: "@noble/curves@2.4.0 (npm), P-256 with RFC 6979; every case by verifySignature of @sendgrid/eventwebhook@8.0.0 (npm) and by openssl (node:crypto)",
    secret,
    otherSecret: theirs,
    // SendGrid ends its body so.
    bodies: [`${JSON.stringify(event)}\r\n`, untidy(event)],
    signature: SIGNATURE,
    sign: (body, { at, secret: own }) => [[TIME, String(at)], [SIGNATURE, (own === theirs ? theirs : ours).sign(at + body, "der").toString("base64")]],
    timestamp: TIME,
    confirm: async (sent) => {
      const [signature, at] = [header(sent, SIGNATURE), header(sent, TIME) ?? ""];
      const openssl = verify("sha256", Buffer.from(at + sent.body), ours.publicKey, Buffer.from(signature, "base64"));
      let own = false;
      try {
        own = verifier.verifySignature(verifier.convertPublicKeyToECDSA(secret), sent.body, signature, at);
      } catch {} // it throws at what is no DER
      if (own !== openssl) throw process.exit(`sendgrid: openssl says ${openssl} of "${sent.name}"`);
      return own;
    },
    extra: async (genuine, sent) => [
      await sent("signed an hour ago: there is no tolerance", "accepted", genuine.body, { seconds: NOW - HOUR }),
      request("without the last line break", "bad_signature", genuine.headers, genuine.body.trimEnd()),
      request("r and s side by side instead of DER", "bad_signature", replaced(genuine.headers, SIGNATURE, ours.sign(NOW + genuine.body, "compact").toString("base64")), genuine.body),
    ],
  });
}

const SNS_URL = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-test.pem";
/// Where a forger would like the certificate to come from; each is pinned to the forger's own.
const SNS_FORGED = {
  "a certificate of a host that ends otherwise": "https://sns.us-east-1.amazonaws.com.evil.example/SimpleNotificationService-test.pem",
  "a certificate of a host that begins otherwise": "https://evil-sns.us-east-1.amazonaws.com/SimpleNotificationService-test.pem",
  "a certificate of another service's host": "https://s3.us-east-1.amazonaws.com/bucket/test.pem",
  "a certificate by http": "http://sns.us-east-1.amazonaws.com/SimpleNotificationService-test.pem",
  "a certificate with the host as a user name": "https://sns.us-east-1.amazonaws.com@evil.example/SimpleNotificationService-test.pem",
  "a certificate with the host in a query": "https://evil.example/x.pem?https://sns.us-east-1.amazonaws.com/a.pem",
  "a certificate that is no .pem": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-test.txt",
};

async function sns() {
  const pinned = { [SNS_URL]: certificate("sns-ours"), ...Object.fromEntries(Object.values(SNS_FORGED).map((url) => [url, certificate("sns-other")])) };
  https.get = (url, answer) => {
    answer(Object.assign(Readable.from([pinned[url] ?? ""]), { statusCode: url in pinned ? 200 : 404 }));
    return { on() {} };
  };
  const base = { Type: "Notification", MessageId: "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", TopicArn: "arn:aws:sns:us-west-2:123456789012:MyTopic", Message: "Hello world 42!", Timestamp: "2026-11-22T10:00:00.000Z", SignatureVersion: "2", SigningCertURL: SNS_URL, UnsubscribeURL: "https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe" };
  const confirmation = { ...base, Type: "SubscriptionConfirmation", Token: "2336412f37fb687f5d51e6e241d09c805a5a57b30d712f794cc5f6a988666d92", Message: "You have chosen to subscribe to the topic.", SubscribeURL: "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=2336" };
  const seal = (message, { key = "ours", hash } = {}) => {
    const names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"].filter((name) => name in message);
    const text = names.map((name) => `${name}\n${message[name]}\n`).join("");
    const by = hash ?? (message.SignatureVersion === "1" ? "RSA-SHA1" : "RSA-SHA256");
    return { ...message, Signature: sign(by, Buffer.from(text), rsa(key)).toString("base64") };
  };
  const as = (name, expect, message, text = JSON.stringify(message, null, 2)) =>
    request(name, expect, [["Content-Type", "text/plain; charset=UTF-8"], ["x-amz-sns-message-type", message.Type], ["x-amz-sns-message-id", message.MessageId], ["x-amz-sns-topic-arn", message.TopicArn]], text);
  const ours = seal({ ...base, Subject: "My First Message" });
  const { Signature: _, ...unsigned } = ours;
  await record(
    {
      preset: "sns",
      tool: "node:crypto RSA; every case by sns-validator@0.3.5 (npm, AWS), its download of the certificate answered from `pinned`; and by the strings that AWS's documentation signs, with cryptography 38.0.4 (PyPI)",
      pinned,
      confirm: (sent) => new Promise((resolve) => new SnsValidator().validate(sent.body, (error) => resolve(!error))),
      differs: { "a subscription that ended": "it leaves out the Token, which AWS's documentation signs" },
    },
    [
      as("as it is sent, version 2", "accepted", ours),
      as("version 1", "accepted", seal({ ...base, SignatureVersion: "1", Subject: "My First Message" })),
      as("no subject", "accepted", seal(base)),
      as("untidy JSON", "accepted", ours, untidy(ours)),
      as("unicode, escapes and line breaks in the message", "accepted", seal({ ...base, Message: '{"text":"Zoë ☕ 𝄞",\n\t"a":"b\\/\\u00e9"}\r\n' })),
      as("an empty message", "accepted", seal({ ...base, Message: "" })),
      as("a subscription to confirm", "accepted", seal(confirmation)),
      as("a subscription that ended", "accepted", seal({ ...confirmation, Type: "UnsubscribeConfirmation", Message: "You have chosen to deactivate subscription." })),
      as("a day old: there is no tolerance", "accepted", seal({ ...base, Timestamp: "2026-11-21T10:00:00.000Z" })),
      as("a byte of the message is another", "bad_signature", { ...ours, Message: oneByteChanged(ours.Message) }),
      as("the subject is taken away", "bad_signature", Object.fromEntries(without(Object.entries(ours), "Subject"))),
      as("a subject is added", "bad_signature", { ...seal(base), Subject: "Added" }),
      as("a foreign timestamp beside the signature", "bad_signature", { ...ours, Timestamp: "2026-11-22T10:00:01.000Z" }),
      as("another topic", "bad_signature", { ...ours, TopicArn: "arn:aws:sns:us-west-2:123456789012:Other" }),
      as("the URL to confirm is another", "bad_signature", { ...seal(confirmation), SubscribeURL: "https://evil.example/" }),
      as("signed with another key", "bad_signature", seal(base, { key: "other" })),
      as("version 2 signed with sha1", "bad_signature", seal(base, { hash: "RSA-SHA1" })),
      as("version 1 signed with sha256", "bad_signature", seal({ ...base, SignatureVersion: "1" }, { hash: "RSA-SHA256" })),
      as("an unknown version", "bad_signature", seal({ ...base, SignatureVersion: "3" })),
      as("no version", "bad_signature", seal({ ...base, SignatureVersion: undefined })),
      as("no signature", "bad_signature", unsigned),
      as("an empty signature", "bad_signature", { ...ours, Signature: "" }),
      as("no certificate", "bad_signature", { ...ours, SigningCertURL: undefined }),
      ...Object.entries(SNS_FORGED).map(([name, url]) => as(name, "bad_signature", seal({ ...base, SigningCertURL: url }, { key: "other" }))),
    ],
  );
}

const PAYPAL_URL = "https://api.paypal.com/v1/notifications/certs/CERT-test";
const PAYPAL_SANDBOX = "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-test";
const PAYPAL_WRONG_NAME = "https://api.paypal.com/v1/notifications/certs/CERT-wrong-name";
const PAYPAL_FORGED = {
  "a certificate of a host that ends otherwise": "https://api.paypal.com.evil.example/v1/notifications/certs/CERT-test",
  "a certificate of a host that begins otherwise": "https://evil-api.paypal.com/v1/notifications/certs/CERT-test",
  "a certificate of another host of PayPal's": "https://www.paypal.com/v1/notifications/certs/CERT-test",
  "a certificate by http": "http://api.paypal.com/v1/notifications/certs/CERT-test",
  "a certificate with the host as a user name": "https://api.paypal.com@evil.example/v1/notifications/certs/CERT-test",
  "a certificate of another path": "https://api.paypal.com/v1/files/CERT-test",
};

async function paypal() {
  const webhookId = "1JE4291016473214C";
  const id = "69cd13f0-d67a-11e5-baa3-778b53f4ae55";
  const event = { id: "WH-2WR32451HC0233532-67976317FL4543714", create_time: "2026-11-22T10:00:00Z", resource_type: "sale", event_type: "PAYMENT.SALE.COMPLETED", resource: { id: "80021663DE681814L", amount: { total: "42.00", currency: "USD" } } };
  const signed = (body, { at = NOW, key = "ours", url = PAYPAL_URL, webhook = webhookId } = {}) => {
    const text = `${id}|${rfc3339(at)}|${webhook}|${crc32(Buffer.from(body)) >>> 0}`;
    return [JSON_TYPE, ["PAYPAL-TRANSMISSION-ID", id], ["PAYPAL-TRANSMISSION-TIME", rfc3339(at)], ["PAYPAL-AUTH-ALGO", "SHA256withRSA"], ["PAYPAL-CERT-URL", url], ["PAYPAL-TRANSMISSION-SIG", sign("RSA-SHA256", Buffer.from(text), rsa(key)).toString("base64")]];
  };
  const body = JSON.stringify(event);
  const as = (name, expect, text, options) => request(name, expect, signed(text, options), text);
  const genuine = as("as it is sent", "accepted", body);
  const spoilt = (name, changes) => ({ ...genuine, name, expect: "bad_signature", ...changes });
  const missing = (name) => spoilt(`no ${name}`, { headers: without(genuine.headers, name) });
  await record(
    {
      preset: "paypal",
      tool: "node:crypto RSA; every case by WebhookEvent.verify of paypalrestsdk 1.13.3 (PyPI), its download answered from `pinned`, our certificates in its trust",
      params: { webhook_id: webhookId },
      pinned: {
        [PAYPAL_URL]: certificate("paypal-ours"),
        [PAYPAL_SANDBOX]: certificate("paypal-ours"),
        [PAYPAL_WRONG_NAME]: certificate("paypal-wrong-name"),
        ...Object.fromEntries(Object.values(PAYPAL_FORGED).map((url) => [url, certificate("paypal-other")])),
      },
    },
    [
      genuine,
      as("untidy JSON, signed as raw bytes", "accepted", untidy(event)),
      as("a checksum that begins with a zero or has the top bit set", "accepted", highChecksum(event)),
      as("from the sandbox", "accepted", body, { url: PAYPAL_SANDBOX }),
      as("a day old: there is no tolerance", "accepted", body, { at: NOW - 24 * HOUR }),
      spoilt("a byte of the body is another", { body: oneByteChanged(body) }),
      spoilt("a newline is appended", { body: `${body}\n` }),
      as("signed with another key", "bad_signature", body, { key: "other" }),
      as("signed for another webhook", "bad_signature", body, { webhook: "2AB4291016473214C" }),
      spoilt("a foreign timestamp beside the signature", { headers: replaced(genuine.headers, "PAYPAL-TRANSMISSION-TIME", rfc3339(NOW + 1)) }),
      spoilt("a foreign id beside the signature", { headers: replaced(genuine.headers, "PAYPAL-TRANSMISSION-ID", "another") }),
      ...["PAYPAL-TRANSMISSION-SIG", "PAYPAL-TRANSMISSION-ID", "PAYPAL-TRANSMISSION-TIME", "PAYPAL-CERT-URL"].map(missing),
      spoilt(TWICE, { headers: [...genuine.headers, genuine.headers.at(-1)] }),
      as("a certificate of another name", "bad_signature", body, { url: PAYPAL_WRONG_NAME }),
      ...Object.entries(PAYPAL_FORGED).map(([name, url]) => as(name, "bad_signature", body, { url, key: "other" })),
    ],
  );
}

/// A body whose CRC32 is above 2^31: PayPal writes it unsigned.
function highChecksum(event) {
  for (let n = 0; ; n += 1) {
    const body = JSON.stringify({ ...event, n });
    if (crc32(Buffer.from(body)) >>> 31) return body;
  }
}
