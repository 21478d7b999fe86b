// Senders that sign a timestamp together with the raw body.

import { createRequire } from "node:module";
import Stripe from "stripe";
import { Paddle } from "@paddle/paddle-node-sdk";
import { Webhook as StandardWebhook } from "standardwebhooks";
import { Webhook as SvixWebhook } from "svix";
import { AwsLambdaReceiver } from "@zoom/rivet/chatbot";
import { JSON_TYPE, NOW, header, headersOf, hmac, printed, replaced, request, rfc3339, untidy, usual } from "../lib.mjs";

const require = createRequire(import.meta.url);
const { verifySlackRequest } = require("@slack/bolt/dist/receivers/verify-request.js");
const { EventSubHttpBase } = require("../node_modules/@twurple/eventsub-http/lib/EventSubHttpBase.js");

const PAST_ONLY = "it looks at the past only; our rule counts both ways";

export async function all() {
  await stripe();
  await calendly();
  await paddle();
  await slack();
  await zoom();
  await standardWebhooks();
  await twitch();
  await zendesk();
}

/// `t=` among the entries of the signature's header.
const entry = (name, prefix) => (headers, text) => headers.map(([own, value]) => [own, own === name ? value.replace(new RegExp(`${prefix}\\d+`), `${prefix}${text}`) : value]);

async function stripe() {
  const { webhooks } = new Stripe("sk_test_none");
  const secret = "whsec_4f1c9b7a2ed84f1c9b7a2ed84f1c9b7a";
  const event = { id: "evt_1NG8Du2eZvKYlo2CUI79vXWy", object: "event", created: 1795341600, livemode: false, type: "invoice.paid", data: { object: { id: "in_1", amount_paid: 1099 } } };
  const line = (payload, timestamp, key) => webhooks.generateTestHeaderString({ payload, timestamp, secret: key });
  await usual({
    preset: "stripe",
    tool: "stripe@23.1.0 (npm), webhooks.generateTestHeaderString; every case by constructEvent and by stripe 16.1.0 (PyPI)",
    secret,
    otherSecret: "whsec_other",
    bodies: [JSON.stringify(event, null, 2), untidy(event)],
    signature: "Stripe-Signature",
    sign: (body, { at, secret: key }) => [["Stripe-Signature", line(body, at, key)]],
    timestamp: entry("Stripe-Signature", "t="),
    tolerance: true,
    confirm: (sent) => webhooks.constructEvent(sent.body, header(sent, "Stripe-Signature"), secret, 300),
    differs: { "signed an hour ahead": PAST_ONLY, "two t= entries": "it takes the last" },
    extra: (genuine) => {
      const ours = header(genuine, "Stripe-Signature");
      const v1 = ours.split(",")[1];
      const theirs = line(genuine.body, NOW, "whsec_old").split(",")[1];
      const as = (what, expect, value) => request(what, expect, replaced(genuine.headers, "Stripe-Signature", value), genuine.body);
      const base64 = Buffer.from("not a whsec_ of the Standard Webhooks kind").toString("base64");
      return [
        as("two secrets in use, ours last", "accepted", `t=${NOW},${theirs},${v1}`),
        as("two secrets in use, neither ours", "bad_signature", `t=${NOW},${theirs}`),
        as("beside a v0", "accepted", `t=${NOW},${v1},v0=${"0".repeat(64)}`),
        as("only a v0", "bad_signature", ours.replace("v1=", "v0=")),
        as("two t= entries", "bad_signature", `t=1,${ours}`),
        as("no t= entry", "bad_signature", v1),
        as("the secret decoded as base64", "bad_signature", `t=${NOW},v1=${hmac("sha256", Buffer.from(secret.slice(6), "base64"), `${NOW}.${genuine.body}`, "hex")}`),
        as("a signature that is no hex", "bad_signature", `t=${NOW},v1=${base64}`),
      ];
    },
  });
}

async function calendly() {
  const event = { event: "invitee.created", created_at: "2026-11-22T10:00:00.000000Z", created_by: "https://api.calendly.com/users/AAA", payload: { uri: "https://api.calendly.com/scheduled_events/AAA/invitees/1", email: "test@example.com" } };
  await usual({
    preset: "calendly",
    tool: "node:crypto (no verifier of this sender's found on npm or PyPI): t=…,v1=hex HMAC-SHA256 of t.body",
    secret: "calendly-signing-key-4f1c9b",
    otherSecret: "calendly-signing-key-4f1c9b0",
    bodies: [JSON.stringify(event), untidy(event)],
    signature: "Calendly-Webhook-Signature",
    sign: (body, { at, secret }) => [["Calendly-Webhook-Signature", `t=${at},v1=${hmac("sha256", secret, `${at}.${body}`, "hex")}`]],
    timestamp: entry("Calendly-Webhook-Signature", "t="),
    tolerance: true,
  });
}

async function paddle() {
  const secret = "pdl_ntfset_01gkpjp8bkm3tm53kdgkx6sms7_6h3qd3uFSi9YCD3OLYAShQI90XTI5vEI";
  const { webhooks } = new Paddle("pdl_none", { logLevel: "none" });
  const event = { event_id: "evt_01hv8wptq8987qeep44cyrewp9", event_type: "transaction.completed", occurred_at: "2026-11-22T10:00:00.000000Z", notification_id: "ntf_01hv8wptw7a4m2jq3bq9kdzv2h", data: { id: "txn_01hv8wptq8987qeep44cyrewp1" } };
  const h1 = (body, at, key) => `h1=${hmac("sha256", key, `${at}:${body}`, "hex")}`;
  await usual({
    preset: "paddle",
    tool: "node:crypto; every case by webhooks.isSignatureValid of @paddle/paddle-node-sdk@3.10.0 (npm)",
    secret,
    otherSecret: "pdl_ntfset_other",
    bodies: [JSON.stringify(event), untidy(event)],
    signature: "Paddle-Signature",
    sign: (body, { at, secret: key }) => [["Paddle-Signature", `ts=${at};${h1(body, at, key)}`]],
    timestamp: entry("Paddle-Signature", "ts="),
    tolerance: true,
    confirm: (sent) => webhooks.isSignatureValid(sent.body, secret, header(sent, "Paddle-Signature")),
    differs: { "signed an hour ahead": PAST_ONLY, "two secrets in use, ours first": "it takes the last h1" },
    extra: (genuine) => {
      const theirs = h1(genuine.body, NOW, "the old one");
      const ours = h1(genuine.body, NOW, secret);
      const as = (what, expect, at, ...entries) => request(what, expect, [JSON_TYPE, ["Paddle-Signature", [`ts=${at}`, ...entries].join(";")]], genuine.body);
      return [
        as("two secrets in use, ours last", "accepted", NOW, theirs, ours),
        as("two secrets in use, ours first", "accepted", NOW, ours, theirs),
        as("5 seconds old", "accepted", NOW - 5, h1(genuine.body, NOW - 5, secret)),
        as("6 seconds old", "stale", NOW - 6, h1(genuine.body, NOW - 6, secret)),
      ];
    },
  });
}

async function slack() {
  const sign = (body, at, key) => `v0=${hmac("sha256", key, `v0:${at}:${body}`, "hex")}`;
  const example = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
  const secret = "8f742231b10e8888abcd99yyyzzz85a5";
  printed("slack", sign(example, 1531420618, secret), "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503");
  const event = { token: "z26uFbvR1xHJEdHE1OQiO6t8", team_id: "T061EG9RZ", type: "event_callback", event_id: "Ev0G9Z1234", event_time: 1795341600, event: { type: "app_mention", user: "U061F1EUR", text: "hi 1" } };
  await usual({
    preset: "slack",
    tool: "node:crypto; every case by verifySlackRequest of @slack/bolt@5.1.0 (npm) and by SignatureVerifier of slack_sdk 3.48.0 (PyPI); the example of Slack's documentation",
    secret,
    otherSecret: "8f742231b10e8888abcd99yyyzzz85a6",
    bodies: [JSON.stringify(event), untidy(event), example],
    signature: "X-Slack-Signature",
    sign: (body, { at, secret: key }) => [["X-Slack-Request-Timestamp", String(at)], ["X-Slack-Signature", sign(body, at, key)]],
    timestamp: "X-Slack-Request-Timestamp",
    tolerance: true,
    confirm: (sent) => {
      verifySlackRequest({ signingSecret: secret, body: sent.body, headers: headersOf(sent) });
      return true;
    },
    differs: { "signed an hour ahead": `${PAST_ONLY}; slack_sdk counts both ways too` },
    extra: (genuine) => [
      request("a v1 signature", "bad_signature", replaced(genuine.headers, "X-Slack-Signature", header(genuine, "X-Slack-Signature").replace("v0=", "v1=")), genuine.body),
    ],
  });
}

async function zoom() {
  const secret = "zoom-secret-token-4f1c9b";
  const handle = new AwsLambdaReceiver({ webhooksSecretToken: secret }).start();
  const event = { event: "meeting.started", event_ts: 1795341600000, payload: { account_id: "AAAAAABBBB", object: { id: "1234567890", topic: "My Meeting", uuid: "4444AAAiAAAAAiAiAiiAii==" } } };
  await usual({
    preset: "zoom",
    tool: "node:crypto, as Zoom's documentation samples; cases of tidy JSON by AwsLambdaReceiver of @zoom/rivet@0.4.0 (npm)",
    secret,
    otherSecret: "zoom-secret-token-4f1c9b0",
    bodies: [JSON.stringify(event), untidy(event)],
    signature: "x-zm-signature",
    sign: (body, { at, secret: key }) => [["x-zm-request-timestamp", String(at)], ["x-zm-signature", `v0=${hmac("sha256", key, `v0:${at}:${body}`, "hex")}`]],
    timestamp: "x-zm-request-timestamp",
    tolerance: true,
    confirm: async (sent) => (await handle({ headers: headersOf(sent), body: sent.body, isBase64Encoded: false }, {})).statusCode === 200,
    differs: {
      "untidy JSON, signed as raw bytes": "it hashes JSON.stringify of the parsed body",
      "a newline is appended": "it hashes JSON.stringify of the parsed body",
      "signed an hour ago": "it has no tolerance",
      "signed an hour ahead": "it has no tolerance",
    },
  });
}

async function standardWebhooks() {
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const example = new StandardWebhook(secret).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", new Date(1614265330000), '{"test": 2432232314}');
  printed("standard-webhooks", example, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
  const gitlab = { object_kind: "push", ref: "refs/heads/main", project_id: 15, project: { id: 15, path_with_namespace: "mike/diaspora" } };
  const user = { type: "user.created", timestamp: "2026-11-22T10:00:00Z", data: { id: "1f81eb52-5198-4599-803e-771906343485" } };
  for (const [preset, tool, Webhook, family, event, more] of [
    ["standard-webhooks", "standardwebhooks@1.1.1 (npm), Webhook.sign; every case by verify and by standardwebhooks 1.1.0 (PyPI); the example of the specification", StandardWebhook, "webhook", user, []],
    ["gitlab-signing", "standardwebhooks@1.1.1 (npm), Webhook.sign: GitLab's signing token is Standard Webhooks; every case by verify and by standardwebhooks 1.1.0 (PyPI)", StandardWebhook, "webhook", gitlab, [["X-Gitlab-Event", "Push Hook"], ["Idempotency-Key", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"]]],
    ["svix", "svix@2.5.0 (npm), Webhook.sign; every case by verify and by svix 2.9.1 (PyPI)", SvixWebhook, "svix", user, []],
  ]) {
    const id = preset === "gitlab-signing" ? "f5e5f430-f57b-4e6e-9fac-d9128cd7232f" : "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W";
    const name = `${family}-signature`;
    const sign = (body, at, key) => new Webhook(key).sign(id, new Date(at * 1000), body);
    await usual({
      preset, tool, secret,
      otherSecret: "whsec_AAAQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
      bodies: [JSON.stringify(event), untidy(event)],
      plain: [JSON_TYPE, ...more],
      signature: name,
      sign: (body, { at, secret: key }) => [[`${family}-id`, id], [`${family}-timestamp`, String(at)], [name, sign(body, at, key)]],
      timestamp: `${family}-timestamp`,
      tolerance: true,
      confirm: (sent) => {
        new Webhook(secret).verify(sent.body, headersOf(sent));
        return true;
      },
      extra: (genuine) => {
        const ours = header(genuine, name);
        const theirs = sign(genuine.body, NOW, "whsec_BBBQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        const as = (what, expect, value) => request(what, expect, replaced(genuine.headers, name, value), genuine.body);
        return [
          as("two secrets in use, ours last", "accepted", `${theirs} ${ours}`),
          as("two secrets in use, neither ours", "bad_signature", `${theirs} ${theirs}`),
          as("beside a v1a", "accepted", `v1a,${"A".repeat(86)}== ${ours}`),
          as("our signature named v1a", "bad_signature", ours.replace("v1,", "v1a,")),
          request("a foreign id beside the signature", "bad_signature", replaced(genuine.headers, `${family}-id`, "msg_other"), genuine.body),
        ];
      },
    });
  }
}

async function twitch() {
  const secret = "s3cre77890ab";
  const id = "befa7b53-d79d-478f-86b9-120f112b044e";
  const event = { subscription: { id: "f1c2a387-161a-49f9-a165-0f21d7a4e1c4", type: "channel.follow", version: "2", status: "enabled" }, event: { user_id: "1337", user_login: "awesome_user" } };
  // As Twitch writes it: nine digits of a second.
  const at9 = (at) => rfc3339(at).replace("Z", ".123456789Z");
  const plain = [JSON_TYPE, ["Twitch-Eventsub-Message-Type", "notification"], ["Twitch-Eventsub-Subscription-Type", "channel.follow"]];
  await usual({
    preset: "twitch",
    tool: "node:crypto; every case by _verifyData of @twurple/eventsub-http@8.1.4 (npm, third party)",
    secret,
    otherSecret: "s3cre77890ac",
    bodies: [JSON.stringify(event), untidy(event)],
    plain,
    signature: "Twitch-Eventsub-Message-Signature",
    sign: (body, { at, secret: key }) => [["Twitch-Eventsub-Message-Id", id], ["Twitch-Eventsub-Message-Timestamp", at9(at)], ["Twitch-Eventsub-Message-Signature", `sha256=${hmac("sha256", key, id + at9(at) + body, "hex")}`]],
    timestamp: "Twitch-Eventsub-Message-Timestamp",
    tolerance: true,
    confirm: (sent) => {
      const [own, at, signature] = ["Id", "Timestamp", "Signature"].map((part) => header(sent, `Twitch-Eventsub-Message-${part}`));
      return EventSubHttpBase.prototype._verifyData.call({ _secret: secret }, own, at, sent.body, signature);
    },
    differs: { "signed an hour ago": "it has no tolerance", "signed an hour ahead": "it has no tolerance" },
    extra: (genuine) => [
      request("a foreign id beside the signature", "bad_signature", replaced(genuine.headers, "Twitch-Eventsub-Message-Id", "another"), genuine.body),
    ],
  });
}

async function zendesk() {
  const event = { type: "zen:event-type:ticket.created", account_id: 22129848, id: "2b24ef10-19d3-4740-93cf-8f98ec4776c0", time: "2026-11-22T10:00:00.000Z", detail: { id: "1" } };
  await usual({
    preset: "zendesk",
    tool: "node:crypto, as the sample of Zendesk's documentation: base64 HMAC-SHA256 of timestamp+body",
    secret: "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==",
    otherSecret: "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ=",
    bodies: [JSON.stringify(event), untidy(event)],
    plain: [JSON_TYPE, ["X-Zendesk-Webhook-Invocation-Id", "01HJZ2Z7E0"]],
    signature: "X-Zendesk-Webhook-Signature",
    sign: (body, { at, secret }) => [["X-Zendesk-Webhook-Signature-Timestamp", rfc3339(at)], ["X-Zendesk-Webhook-Signature", hmac("sha256", secret, rfc3339(at) + body, "base64")]],
    timestamp: "X-Zendesk-Webhook-Signature-Timestamp",
    tolerance: true,
  });
}
