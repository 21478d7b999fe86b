// Senders whose proof is in the body, and those that show a secret in the clear.

import { createRequire } from "node:module";
import { Bot, webhookCallback } from "grammy";
import { HOUR, JSON_TYPE, NOW, TWICE, URL_OF_HOOK, hmac, headersOf, printed, record, request, untidy } from "../lib.mjs";

const require = createRequire(import.meta.url);
const braintree = require("braintree");
const { default: AdyenHmac } = require("@adyen/api-library/lib/src/utils/hmacValidator.js");

export async function all() {
  await mailgun();
  await adyen();
  await braintreeForm();
  await tokensInHeaders();
  await tokensInBodies();
}

const json = (name, expect, body) => request(name, expect, [JSON_TYPE], typeof body === "string" ? body : JSON.stringify(body));

async function mailgun() {
  const secret = "key-3ax6xnjp29jd6fds4gc373sgvjxteol0";
  const token = "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0";
  const signed = (at = NOW, key = secret) => ({ timestamp: String(at), token, signature: hmac("sha256", key, at + token, "hex") });
  const event = (signature, more = {}) => ({ signature, "event-data": { event: "delivered", id: "CPgfbmQMTCKtHW6uIWtuVe", timestamp: NOW, ...more } });
  const { signature, ...unsigned } = signed();
  await record(
    {
      preset: "mailgun",
      tool: "node:crypto; every case by SecurityGuard.verify_webhook of mailgun 1.10.0 (PyPI)",
      secret,
    },
    [
      json("as it is sent", "accepted", event(signed())),
      json("untidy JSON", "accepted", untidy(event(signed()))),
      json("another event under the signature, which does not cover it", "accepted", event(signed(), { event: "failed" })),
      json("a byte of the token is another", "bad_signature", event({ ...signed(), token: token.replace("a8", "a9") })),
      json("a foreign timestamp beside the signature", "bad_signature", event({ ...signed(), timestamp: String(NOW + 1) })),
      json("a byte moved from the timestamp to the token", "stale", event({ ...signed(), timestamp: String(NOW).slice(0, -1), token: String(NOW).slice(-1) + token })),
      json("signed with another secret", "bad_signature", event(signed(NOW, `${secret}0`))),
      json("no signature in the body", "bad_signature", event(unsigned)),
      json("an empty signature", "bad_signature", event({ ...unsigned, signature: "" })),
      json("the signature is null", "bad_signature", event({ ...unsigned, signature: null })),
      json("no token", "bad_signature", event({ timestamp: String(NOW), signature })),
      json("no timestamp", "bad_signature", event({ token, signature })),
      json("no signature object", "bad_signature", { "event-data": event()["event-data"] }),
      json("signed an hour ago", "stale", event(signed(NOW - HOUR))),
      json("signed an hour ahead", "stale", event(signed(NOW + HOUR))),
    ],
  );
}

async function adyen() {
  const secret = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056";
  const validator = new AdyenHmac();
  const example = { pspReference: "7914073381342284", originalReference: "", merchantAccountCode: "TestMerchant", merchantReference: "TestPayment-1407325143704", amount: { value: 1130, currency: "EUR" }, eventCode: "AUTHORISATION", success: "true" };
  printed("adyen", validator.calculateHmac(example, secret), "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0=");

  const item = (changes = {}) => ({ amount: { value: 1130, currency: "EUR" }, eventCode: "AUTHORISATION", eventDate: "2026-11-22T11:00:00+01:00", merchantAccountCode: "TestMerchant", merchantReference: "TestPayment-1407325143704", paymentMethod: "visa", pspReference: "7914073381342284", reason: "033899:1111:03/2030", success: "true", ...changes });
  const sealed = (one, key = secret) => ({ ...one, additionalData: { hmacSignature: validator.calculateHmac(one, key) } });
  const batch = (...items) => ({ live: "false", notificationItems: items.map((one) => ({ NotificationRequestItem: one })) });
  const refund = item({ eventCode: "REFUND", pspReference: "8825408195409505", originalReference: "7914073381342284", success: "false" });
  const ours = sealed(item());
  const theirs = sealed(refund);
  await record(
    {
      preset: "adyen",
      tool: "@adyen/api-library@32.1.0 (npm), HmacValidator.calculateHmac; every case, item by item, by validateHMAC; the example of Adyen's documentation",
      secret,
      confirm: (sent) => {
        const items = JSON.parse(sent.body).notificationItems;
        return items.length > 0 && items.every((one) => validator.validateHMAC(one.NotificationRequestItem, secret));
      },
    },
    [
      json("as it is sent: no originalReference", "accepted", batch(ours)),
      json("with an originalReference", "accepted", batch(theirs)),
      json("two items", "accepted", batch(ours, theirs)),
      json("untidy JSON", "accepted", untidy(batch(ours, theirs))),
      json("an empty originalReference", "accepted", batch(sealed(item({ originalReference: "" })))),
      json("colons, backslashes and unicode in a reference", "accepted", batch(sealed(item({ merchantReference: String.raw`Zoë:☕\𝄞/1` })))),
      json("an amount of nothing", "accepted", batch(sealed(item({ amount: { value: 0, currency: "EUR" } })))),
      json("a field that is not signed is another", "accepted", batch({ ...ours, reason: "changed" })),
      ...Object.entries({ pspReference: "7914073381342285", merchantAccountCode: "TestMerchant2", merchantReference: "other", eventCode: "CAPTURE", success: "false", originalReference: "1" })
        .map(([name, value]) => json(`${name} is another`, "bad_signature", batch({ ...ours, [name]: value }))),
      json("the amount is another", "bad_signature", batch({ ...ours, amount: { value: 1131, currency: "EUR" } })),
      json("the currency is another", "bad_signature", batch({ ...ours, amount: { value: 1130, currency: "USD" } })),
      json("the second of two items is changed", "bad_signature", batch(ours, { ...theirs, success: "true" })),
      json("the second of two items is not signed", "bad_signature", batch(ours, item())),
      json("the signatures of two items swapped", "bad_signature", batch({ ...ours, additionalData: theirs.additionalData }, { ...theirs, additionalData: ours.additionalData })),
      json("no items", "bad_signature", batch()),
      json("no list of items", "bad_signature", { live: "false", notificationItems: "x" }),
      json("signed with another secret", "bad_signature", batch(sealed(item(), secret.replace("4", "5")))),
      json("no signature in the item", "bad_signature", batch({ ...item(), additionalData: {} })),
      json("no additionalData in the item", "bad_signature", batch(item())),
      json("an empty signature", "bad_signature", batch({ ...item(), additionalData: { hmacSignature: "" } })),
      json("the key used as text", "bad_signature", batch({ ...item(), additionalData: { hmacSignature: hmac("sha256", secret, validator.getDataToSign(item()), "base64") } })),
    ],
  );
}

async function braintreeForm() {
  const secret = "integration_private_key";
  const publicKey = "integration_public_key";
  const gateway = (privateKey) => new braintree.BraintreeGateway({ environment: braintree.Environment.Sandbox, merchantId: "integration_merchant_id", publicKey, privateKey });
  const ours = gateway(secret);
  const { bt_signature, bt_payload } = ours.webhookTesting.sampleNotification(braintree.WebhookNotification.Kind.SubscriptionWentPastDue, "my_id");
  const wrapped = `${bt_payload.trim().match(/.{1,60}/g).join("\n")}\n`;
  const form = (name, expect, signature, payload = bt_payload) => {
    const fields = Object.entries({ bt_signature: signature, bt_payload: payload }).filter(([, value]) => value !== undefined);
    return request(name, expect, [["Content-Type", "application/x-www-form-urlencoded"]], fields.map(([field, value]) => `${field}=${encodeURIComponent(value)}`).join("&"));
  };
  const changed = bt_payload.replace("A", "B");
  const digest = bt_signature.split("|")[1];
  await record(
    {
      preset: "braintree",
      tool: "braintree@3.40.0 (npm), webhookTesting.sampleNotification; every case by webhookNotification.parse",
      secret,
      params: { public_key: publicKey },
      confirm: async (sent) => {
        const fields = new URLSearchParams(sent.body);
        return Boolean(await ours.webhookNotification.parse(fields.get("bt_signature"), fields.get("bt_payload")));
      },
      differs: { "the payload's last newline is lost": "it tries the payload with a newline added, too" },
    },
    [
      form("as it is sent", "accepted", bt_signature),
      form("a payload in lines of 60", "accepted", ours.webhookTesting.sampleSignature(wrapped), wrapped),
      form("signatures of two public keys, ours last", "accepted", `other_public_key|${"0".repeat(40)}&${bt_signature}`),
      form("signatures of two public keys, ours first", "accepted", `${bt_signature}&other_public_key|${"0".repeat(40)}`),
      form("a byte of the payload is another", "bad_signature", bt_signature, changed),
      form("the payload's last newline is lost", "bad_signature", bt_signature, bt_payload.trim()),
      form("signed with another secret", "bad_signature", gateway("another").webhookTesting.sampleSignature(bt_payload)),
      form("our signature under another public key", "bad_signature", `other_public_key|${digest}`),
      form("our signature without a public key", "bad_signature", digest),
      form("the private key used as text", "bad_signature", `${publicKey}|${hmac("sha1", secret, bt_payload, "hex")}`),
      form("no signature", "bad_signature", undefined),
      form("an empty signature", "bad_signature", ""),
      form("no payload", "bad_signature", bt_signature, ""),
    ],
  );
}

async function tokensInHeaders() {
  const update = { update_id: 10000, message: { message_id: 1365, date: NOW, chat: { id: 1111111, type: "private", first_name: "Zoë" }, text: "hi" } };
  const bot = new Bot("1:none", { botInfo: { id: 1, is_bot: true, first_name: "none", username: "none_bot" } });
  const telegramSecret = "telegram_secret-4f1c9b";
  const grammy = webhookCallback(bot, "std/http", { secretToken: telegramSecret });
  for (const [preset, name, secret, event, more, tool, confirm] of [
    ["gitlab", "X-Gitlab-Token", "gitlab token 4f1c9b", { object_kind: "push", ref: "refs/heads/main", project: { id: 15 } },
      [["X-Gitlab-Event", "Push Hook"], ["Idempotency-Key", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"]], "a plain token, nothing is signed"],
    ["telegram", "X-Telegram-Bot-Api-Secret-Token", telegramSecret, update, [], "a plain token, nothing is signed; every case by webhookCallback of grammy@1.46.0 (npm, third party)",
      async (sent) => (await grammy(new Request(URL_OF_HOOK, { method: "POST", headers: headersOf(sent), body: sent.body }))).status === 200],
    ["okta", "Authorization", "Bearer okta-4f1c9b", { eventType: "com.okta.event_hook", eventId: "b5a188b9-5ece-4636-b041-482ffda96311", data: { events: [{ uuid: "1", eventType: "user.session.start" }] } },
      [], "a plain token, nothing is signed"],
  ]) {
    const as = (what, expect, ...values) =>
      request(what, expect, [JSON_TYPE, ...more, ...values.map((value) => [name, value])], JSON.stringify(event));
    await record({ preset, tool, secret, confirm }, [
      as("as it is sent", "accepted", secret),
      { ...as("untidy JSON", "accepted", secret), body: untidy(event) },
      as("another token", "bad_signature", `${secret.slice(0, -1)}c`),
      as("the token and a byte more", "bad_signature", `${secret}0`),
      as("the token and a byte less", "bad_signature", secret.slice(0, -1)),
      as("the token in upper case", "bad_signature", secret.toUpperCase()),
      as("no signature header", "bad_signature"),
      as("an empty signature header", "bad_signature", ""),
      as(TWICE, "bad_signature", secret, secret),
    ]);
  }
}

async function tokensInBodies() {
  const figma = (passcode) => ({ event_type: "FILE_COMMENT", file_key: "zH3wJ6yD", passcode, timestamp: "2026-11-22T10:00:00Z", webhook_id: "22" });
  const secret = "figma passcode 4f1c9b";
  await record({ preset: "figma", tool: "a plain token, nothing is signed", secret }, [
    json("as it is sent", "accepted", figma(secret)),
    json("untidy JSON", "accepted", untidy(figma(secret))),
    json("the passcode written with escapes", "accepted", JSON.stringify(figma(secret)).replace("figma", String.raw`\u0066igma`)),
    json("another passcode", "bad_signature", figma(`${secret.slice(0, -1)}c`)),
    json("the passcode and a byte more", "bad_signature", figma(`${secret}0`)),
    json("no passcode", "bad_signature", figma(undefined)),
    json("an empty passcode", "bad_signature", figma("")),
    json("the passcode is null", "bad_signature", figma(null)),
    json("the passcode in a list", "bad_signature", figma([secret])),
    json("no JSON", "bad_signature", "passcode=figma"),
  ]);

  const state = "graph client state 4f1c9b";
  const change = (clientState, id = "1") => ({ id, subscriptionId: "76222963-cc7b-42d2-882d-8aaa69cb2ba3", subscriptionExpirationDateTime: "2026-11-23T10:00:00Z", clientState, changeType: "created", resource: "Users/ddfcd489/Messages/AAMk", tenantId: "84bd8158-6d4d-4958-8b9f-9d6445542f95" });
  const batch = (...value) => ({ value });
  await record({ preset: "msgraph", tool: "a plain token in every item, nothing is signed", secret: state }, [
    json("as it is sent", "accepted", batch(change(state))),
    json("two items", "accepted", batch(change(state), change(state, "2"))),
    json("untidy JSON", "accepted", untidy(batch(change(state), change(state, "2")))),
    json("another client state", "bad_signature", batch(change(`${state.slice(0, -1)}c`))),
    json("the second of two items has another", "bad_signature", batch(change(state), change("x", "2"))),
    json("the second of two items has none", "bad_signature", batch(change(state), change(undefined, "2"))),
    json("no client state", "bad_signature", batch(change(undefined))),
    json("the client state is null", "bad_signature", batch(change(null))),
    json("no items", "bad_signature", batch()),
    json("no list of items", "bad_signature", {}),
  ]);
}
