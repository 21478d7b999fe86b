// Senders that sign the raw body and nothing else, keyed by a secret used as text.

import { createRequire } from "node:module";
import { sign as octokitSign, verify as octokitVerify } from "@octokit/webhooks-methods";
import * as notion from "@notionhq/client";
import { LinearWebhookClient } from "@linear/sdk/webhooks";
import "@shopify/shopify-api/adapters/node";
import { ApiVersion, shopifyApi } from "@shopify/shopify-api";
import { JSON_TYPE, NOW, header, headersOf, hmac, printed, replaced, request, untidy, usual, without } from "../lib.mjs";

const require = createRequire(import.meta.url);
const twitter = require("twitter-autohook");
const { default: AdyenHmac } = require("@adyen/api-library/lib/src/utils/hmacValidator.js");

export async function all() {
  await github();
  await plain();
  await lists();
  await notionAndLinear();
  await shopify();
  await adyenPlatform();
}

async function github() {
  const vector = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
  printed("github", await octokitSign("It's a Secret to Everybody", "Hello, World!"), vector);
  const event = { action: "opened", issue: { number: 7, title: "It's broken" }, repository: { full_name: "octo/hello" } };
  await usual({
    preset: "github",
    tool: "@octokit/webhooks-methods@6.0.0 (npm), sign; every case by its verify; the example of GitHub's documentation",
    secret: "It's a Secret to Everybody",
    otherSecret: "it's a secret to everybody",
    bodies: [JSON.stringify(event), untidy(event), `payload=${encodeURIComponent(JSON.stringify(event))}`],
    plain: [JSON_TYPE, ["X-GitHub-Event", "issues"], ["X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"]],
    signature: "X-Hub-Signature-256",
    sign: async (body, { secret }) => [["X-Hub-Signature-256", await octokitSign(secret, body)]],
    confirm: (sent) => octokitVerify("It's a Secret to Everybody", sent.body, header(sent, "X-Hub-Signature-256")),
    extra: (genuine) => {
      const old = ["X-Hub-Signature", `sha1=${hmac("sha1", "It's a Secret to Everybody", genuine.body, "hex")}`];
      const bare = without(genuine.headers, "X-Hub-Signature-256");
      return [
        request("the old sha1 header beside it", "accepted", [...genuine.headers, old], genuine.body),
        request("only the old sha1 header", "bad_signature", [...bare, old], genuine.body),
        request("a sha1 signature in the sha256 header", "bad_signature", [...bare, ["X-Hub-Signature-256", old[1]]], genuine.body),
      ];
    },
  });
}

const printedExample = new Set(["bitbucket", "jira"]);

/// preset, header, hash, what stands before the signature, encoding, event, further headers, further.
async function plain() {
  const rows = [
    ["bitbucket", "X-Hub-Signature", "sha256", "sha256=", "hex",
      { push: { changes: [] }, repository: { full_name: "team/repo" }, actor: { display_name: "Emma" }, n: 1 },
      [["X-Event-Key", "repo:push"], ["X-Request-UUID", "b1c3f1a0-6d1b-4b1e-9a52-0f6f8e3c7a11"], ["X-Hook-UUID", "hook-1"]]],
    ["jira", "X-Hub-Signature", "sha256", "sha256=", "hex",
      { timestamp: 1795341600000, webhookEvent: "jira:issue_updated", issue: { id: "10002", key: "HOOK-2" } },
      [["X-Atlassian-Webhook-Identifier", "1f2e6a2c-5b0f-4f6f-8f3a-2f0f6f3f9c11"]]],
    ["meta", "X-Hub-Signature-256", "sha256", "sha256=", "hex",
      { object: "whatsapp_business_account", entry: [{ id: "102290129340398", changes: [{ field: "messages", value: { messaging_product: "whatsapp", messages: [{ id: "wamid.HBgL1", from: "16315551181", type: "text", text: { body: "hi 1" } }] } }] }] }],
    ["dropbox", "X-Dropbox-Signature", "sha256", "", "hex", { list_folder: { accounts: ["dbid:AAH4f99T0taONIb"] }, delta: { users: [12345678] } }],
    ["asana", "X-Hook-Signature", "sha256", "", "hex",
      { events: [{ action: "changed", user: { gid: "1202" }, created_at: "2026-11-22T10:00:00.000Z", resource: { gid: "1337", resource_type: "task" } }] }],
    ["sentry", "Sentry-Hook-Signature", "sha256", "", "hex",
      { action: "created", installation: { uuid: "7a485448-a9e2-4c85-8a3c-4f44175783c9" }, data: { issue: { id: "1170820242" } } },
      [["Request-ID", "8a2d5f21c2e54a0e8c1f7d6a1f3b9c55"], ["Sentry-Hook-Resource", "issue"], ["Sentry-Hook-Timestamp", "1795341600"]]],
    ["vercel", "x-vercel-signature", "sha1", "", "hex",
      { id: "uev_hTuoPnvfUjXw2Q3mZJ9kA1", type: "deployment.created", createdAt: 1795341600000, payload: { project: { id: "prj_1" } } }],
    ["intercom", "X-Hub-Signature", "sha1", "sha1=", "hex",
      { type: "notification_event", id: "notif_ccd8a4d0-f965-11e3-a367-c779cae3e1b3", topic: "conversation.user.created", data: { item: { id: "531" } } }],
    ["typeform", "Typeform-Signature", "sha256", "sha256=", "base64",
      { event_id: "01HQZ3J5J9Y7J6Q2", event_type: "form_response", form_response: { form_id: "lT4Z3j", token: "a3a12ec67a1365927098a606107fac15" } }],
    ["xero", "x-xero-signature", "sha256", "", "base64",
      { events: [{ resourceId: "717f2bfc-c6d4-41fd-b238-3f2f0c0cf777", eventType: "UPDATE", eventCategory: "INVOICE", tenantType: "ORGANISATION" }], firstEventSequence: 1, lastEventSequence: 1, entropy: "S0m3r4nd0mt3xt" }],
    ["x", "x-twitter-webhooks-signature", "sha256", "sha256=", "base64",
      { for_user_id: "2244994945", tweet_create_events: [{ id_str: "1061", text: "hello 1" }] }],
  ];
  for (const [preset, name, hash, prefix, encoding, event, more = []] of rows) {
    const secret = `${preset}-secret-4f1c9b`;
    const sign = (body, key) => prefix + hmac(hash, key, body, encoding);
    const isX = preset === "x";
    if (printedExample.has(preset))
      printed(preset, sign("Hello World!", "It's a Secret to Everybody"), "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9");
    if (isX) printed("x", sign("test=1&other_test=2", "test"), "sha256=25Cu3iwbbiqBTwQRzcKJZwisjf736V2Q8UaTlkfLSoc=");
    await usual({
      preset,
      tool: isX
        ? "node:crypto; every case by validateSignature of twitter-autohook@1.7.2 (npm, Twitter's own)"
        : `node:crypto (no verifier of this sender's found on npm or PyPI): HMAC-${hash.toUpperCase()} of the body, ${encoding}${printedExample.has(preset) ? "; the example of Atlassian's documentation" : ""}`,
      secret,
      otherSecret: `${secret}0`,
      bodies: [JSON.stringify(event), untidy(event)],
      plain: [JSON_TYPE, ...more],
      signature: name,
      sign: (body, { secret: key }) => [[name, sign(body, key)]],
      confirm: isX && ((sent) => twitter.validateSignature(headersOf(sent), { consumer_secret: secret }, sent.body)),
      extra: (genuine) => otherAlgorithm(genuine, name, hash, prefix, encoding, secret),
    });
  }
}

/// Headers named like another sender's: the declaration, not the prefix, says which hash is meant.
function otherAlgorithm(genuine, name, hash, prefix, encoding, secret) {
  const other = hash === "sha1" ? "sha256" : "sha1";
  const digest = hmac(other, secret, genuine.body, encoding);
  const swapped = prefix ? `${other}=${digest}` : digest;
  const list = [request(`signed with ${other} instead`, "bad_signature", replaced(genuine.headers, name, swapped), genuine.body)];
  if (prefix) {
    const bare = header(genuine, name).slice(prefix.length);
    list.push(request("the signature without its prefix", "bad_signature", replaced(genuine.headers, name, bare), genuine.body));
  }
  return list;
}

/// Senders that list several signatures, one for each secret that is in use.
async function lists() {
  const circle = (body, secret) => `v1=${hmac("sha256", secret, body, "hex")}`;
  for (const [body, secret, digest] of [
    ["hello world", "secret", "734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a"],
    ["lalala", "another-secret", "daa220016c8f29a8b214fbfc3671aeec2145cfb1e6790184ffb38b6d0425fa00"],
    ["an-important-request-payload", "hunter123", "9be2242094a9a8c00c64306f382a7f9d691de910b4a266f67bd314ef18ac49fa"],
  ]) printed("circleci", circle(body, secret), `v1=${digest}`);

  for (const [preset, name, event, more, tool] of [
    ["pagerduty", "X-PagerDuty-Signature",
      { event: { id: "01CHA6XIX10QKXJ4VJ1IZ2WPBK", event_type: "incident.triggered", resource_type: "incident", occurred_at: "2026-11-22T10:00:00.000Z", data: { id: "PGR0VU2" } } },
      [["X-Webhook-Subscription", "PY1OL64"]], "node:crypto, as the Node sample of PagerDuty's documentation; the example of its Go SDK's test was recomputed by hand"],
    ["circleci", "circleci-signature",
      { id: "3888f21b-eaa7-38e3-8f3d-75a63bba8895", type: "workflow-completed", happened_at: "2026-11-22T10:00:00Z", webhook: { id: "cf8c4fdd-0587-4da1-b4ca-4846e9640af9" } },
      [["circleci-event-type", "workflow-completed"]], "node:crypto; the three examples of CircleCI's documentation"],
  ]) {
    const secret = `${preset}-secret-4f1c9b`;
    await usual({
      preset, tool, secret,
      otherSecret: `${secret}0`,
      bodies: [JSON.stringify(event), untidy(event)],
      plain: [JSON_TYPE, ...more],
      signature: name,
      sign: (body, { secret: key }) => [[name, circle(body, key)]],
      extra: (genuine) => {
        const ours = header(genuine, name);
        const theirs = circle(genuine.body, "a secret rolled out yesterday");
        const as = (what, expect, value) => request(what, expect, replaced(genuine.headers, name, value), genuine.body);
        return [
          as("two secrets in use, ours last", "accepted", `${theirs},${ours}`),
          as("two secrets in use, ours first", "accepted", `${ours},${theirs}`),
          as("two secrets in use, neither ours", "bad_signature", `${theirs},${circle(genuine.body, "a third")}`),
          as("beside an unknown version", "accepted", `v2=${"0".repeat(64)},${ours}`),
          as("only an unknown version", "bad_signature", ours.replace("v1=", "v2=")),
        ];
      },
    });
  }

  const event = { event: "envelope-completed", apiVersion: "v2.1", generatedDateTime: "2026-11-22T10:00:00.0000000Z", data: { envelopeId: "8b57a8b9-5e4b-4e8a-a3f1-0a1f5a1c2d31" } };
  const sign = (body, key) => hmac("sha256", key, body, "base64");
  await usual({
    preset: "docusign",
    tool: "node:crypto (no verifier of this sender's found on npm or PyPI): HMAC-SHA256 of the body, base64, one numbered header a key",
    secret: "docusign-secret-4f1c9b",
    otherSecret: "docusign-secret-4f1c9b0",
    bodies: [JSON.stringify(event), untidy(event)],
    signature: "X-DocuSign-Signature-1",
    manyLines: true,
    sign: (body, { secret }) => [["X-DocuSign-Signature-1", sign(body, secret)]],
    extra: (genuine) => {
      const theirs = sign(genuine.body, "the key of another listener");
      const as = (what, expect, ...lines) => request(what, expect, [JSON_TYPE, ...lines], genuine.body);
      const ours = header(genuine, "X-DocuSign-Signature-1");
      return [
        as("two keys, ours second", "accepted", ["X-DocuSign-Signature-1", theirs], ["X-DocuSign-Signature-2", ours]),
        as("only a second key, ours", "accepted", ["X-DocuSign-Signature-2", ours]),
        as("two keys, neither ours", "bad_signature", ["X-DocuSign-Signature-1", theirs], ["X-DocuSign-Signature-2", sign(genuine.body, "x")]),
      ];
    },
  });
}

async function notionAndLinear() {
  const secret = "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl";
  const event = { id: "367cba44-b6f3-4c92-81e7-6a2e9659efd4", timestamp: "2026-11-22T10:00:00.000Z", type: "page.content_updated", entity: { id: "153104cd-477e-809d-8dc4-ff2d96ae3090", type: "page" } };
  await usual({
    preset: "notion",
    tool: "@notionhq/client@5.26.0 (npm), signWebhookPayload; every case by verifyWebhookSignature",
    secret,
    otherSecret: "secret_another",
    bodies: [JSON.stringify(event), untidy(event)],
    signature: "X-Notion-Signature",
    sign: async (body, { secret: key }) => [["X-Notion-Signature", await notion.signWebhookPayload({ body, verificationToken: key })]],
    confirm: (sent) => notion.verifyWebhookSignature({ body: sent.body, signature: header(sent, "X-Notion-Signature"), verificationToken: secret }),
  });

  const key = "lin_wh_4f1c9b";
  const issue = (seconds) => ({ action: "create", type: "Issue", data: { id: "2174add1-f7c8-44e3-bbf3-2d60b5ea8bc9", number: 71 }, webhookTimestamp: seconds * 1000, webhookId: "0-1" });
  const sign = (body, secret) => [["Linear-Signature", hmac("sha256", secret, body, "hex")]];
  const plain = [JSON_TYPE, ["Linear-Delivery", "234d1a4e-b617-4388-90fe-adc3633d6b72"], ["Linear-Event", "Issue"]];
  await usual({
    preset: "linear",
    tool: "node:crypto; every case by LinearWebhookClient.verify of @linear/sdk@98.0.0 (npm)",
    secret: key,
    otherSecret: "lin_wh_other",
    bodies: [(at) => JSON.stringify(issue(at)), (at) => untidy(issue(at))],
    plain,
    signature: "Linear-Signature",
    sign: (body, { secret: own }) => sign(body, own),
    tolerance: true,
    confirm: (sent) => new LinearWebhookClient(key).verify(Buffer.from(sent.body), header(sent, "Linear-Signature")),
    extra: (genuine) => {
      const { webhookTimestamp: _, ...timeless } = issue(NOW);
      const signed = (what, expect, body) => request(what, expect, [...plain, ...sign(body, key)], body);
      return [
        request("a foreign timestamp in the body", "bad_signature", genuine.headers, JSON.stringify(issue(NOW + 1))),
        signed("59 seconds old", "accepted", JSON.stringify(issue(NOW - 59))),
        signed("61 seconds old", "stale", JSON.stringify(issue(NOW - 61))),
        signed("no timestamp in the body", "bad_signature", JSON.stringify(timeless)),
      ];
    },
  });
}

async function shopify() {
  const secret = "shpss_4f1c9b7a2e";
  const api = shopifyApi({ apiKey: "key", apiSecretKey: secret, hostName: "hooks.example.com", apiVersion: ApiVersion.Unstable, isEmbeddedApp: false, logger: { level: 0 } });
  const order = { id: 820982911946154508, email: "jon@example.com", total_price: "398.00", name: "#9999" };
  await usual({
    preset: "shopify",
    tool: "node:crypto; every case by webhooks.validate of @shopify/shopify-api@15.0.0 (npm)",
    secret,
    otherSecret: "shpss_other",
    bodies: [JSON.stringify(order), untidy(order)],
    plain: [JSON_TYPE, ["X-Shopify-Topic", "orders/create"], ["X-Shopify-Shop-Domain", "hookpack.myshopify.com"], ["X-Shopify-API-Version", "2026-10"], ["X-Shopify-Webhook-Id", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"], ["X-Shopify-Event-Id", "98880550-7158-44d4-b7cd-2c97c8a091b5"]],
    signature: "X-Shopify-Hmac-Sha256",
    sign: (body, { secret: key }) => [["X-Shopify-Hmac-Sha256", hmac("sha256", key, body, "base64")]],
    confirm: async (sent) => (await api.webhooks.validate({ rawBody: sent.body, rawRequest: { method: "POST", url: sent.path, headers: headersOf(sent) } })).valid,
  });
}

async function adyenPlatform() {
  const secret = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056";
  const adyen = new AdyenHmac();
  const event = { type: "balancePlatform.accountHolder.created", environment: "test", timestamp: "2026-11-22T10:00:00+01:00", data: { balancePlatform: "YOUR_PLATFORM", accountHolder: { id: "AH32272223222B5CTBMZT6W2V" } } };
  const sign = (body, key) => adyen.calculateHmac(body, key);
  await usual({
    preset: "adyen-platform",
    tool: "@adyen/api-library@32.1.0 (npm), HmacValidator.calculateHmac; every case by validateHMACSignature",
    secret,
    otherSecret: secret.replace("4", "5"),
    bodies: [JSON.stringify(event), untidy(event)],
    plain: [JSON_TYPE, ["protocol", "HmacSHA256"]],
    signature: "hmacsignature",
    sign: (body, { secret: key }) => [["hmacsignature", sign(body, key)]],
    confirm: (sent) => adyen.validateHMACSignature(secret, header(sent, "hmacsignature"), sent.body),
    extra: (genuine) => [
      request("the key used as text", "bad_signature", replaced(genuine.headers, "hmacsignature", hmac("sha256", secret, genuine.body, "base64")), genuine.body),
    ],
  });
}
