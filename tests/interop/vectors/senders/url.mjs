// Senders that sign the URL, or digest secret and request without a key.

import { createRequire } from "node:module";
import { Signature as HubSpot } from "@hubspot/api-client/lib/src/utils/signature.js";
import { WebhooksHelper } from "square";
import { JSON_TYPE, NOW, PUBLIC_URL, URL_OF_HOOK, PATH, TWICE, header, hmac, oneByteChanged, printed, record, replaced, request, untidy, urlOf, usual, without } from "../lib.mjs";

const require = createRequire(import.meta.url);
const twilio = require("twilio/lib/webhooks/webhooks.js");

export async function all() {
  await hubspot();
  await square();
  await twilioForm();
  await twilioJson();
}

const HUBSPOT_SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy";
const hubspotSign = (version, body, { url = URL_OF_HOOK, timestamp, secret = HUBSPOT_SECRET } = {}) =>
  HubSpot.getSignature("POST", version, { clientSecret: secret, requestBody: body, url, timestamp });

async function hubspot() {
  const example = '[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,"changeSource":"CRM","changeFlag":"NEW","appId":54321}]';
  printed("hubspot v1", hubspotSign("v1", example), "232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de");
  const get = HubSpot.getSignature("GET", "v2", { clientSecret: HUBSPOT_SECRET, requestBody: "", url: "https://www.example.com/webhook_uri" });
  printed("hubspot v2", get, "eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e");
  printed("hubspot v2", hubspotSign("v2", '{"example_field":"example_value"}', { url: "https://www.example.com/webhook_uri" }), "9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900");

  const events = [{ eventId: 1, subscriptionId: 12345, portalId: 62515, appId: 54321, occurredAt: 1795341600000, subscriptionType: "contact.creation", attemptNumber: 0, objectId: 123 }];
  const is = (version) => (sent) =>
    HubSpot.isValid({
      method: sent.method, signatureVersion: version, clientSecret: HUBSPOT_SECRET, requestBody: sent.body, url: urlOf(sent),
      signature: header(sent, version === "v3" ? "X-HubSpot-Signature-v3" : "X-HubSpot-Signature"),
      timestamp: header(sent, "X-HubSpot-Request-Timestamp"),
    });
  for (const version of ["v1", "v2"]) {
    const another = version === "v1" ? "v2" : "v1";
    await usual({
      preset: `hubspot-${version}`,
      tool: "@hubspot/api-client@14.0.1 (npm), Signature.getSignature; every case by Signature.isValid and by hubspot-api-client 12.0.0 (PyPI); the examples of HubSpot's documentation",
      secret: HUBSPOT_SECRET,
      otherSecret: "zzzzzzzz-yyyy-yyyy-yyyy-yyyyyyyyyyyy",
      bodies: [version === "v1" ? example : JSON.stringify(events), untidy(events)],
      plain: [JSON_TYPE, ["X-HubSpot-Signature-Version", version]],
      signature: "X-HubSpot-Signature",
      sign: (body, { secret }) => [["X-HubSpot-Signature", hubspotSign(version, body, { secret })]],
      confirm: is(version),
      extra: (genuine) => [
        request(`a ${another} signature`, "bad_signature", replaced(genuine.headers, "X-HubSpot-Signature", hubspotSign(another, genuine.body)), genuine.body),
        request("HMAC instead of a hash", "bad_signature", replaced(genuine.headers, "X-HubSpot-Signature", hmac("sha256", HUBSPOT_SECRET, genuine.body, "hex")), genuine.body),
        ...(version === "v2" ? withQueries(genuine, (url) => [["X-HubSpot-Signature", hubspotSign("v2", genuine.body, { url })]]) : []),
      ],
    });
  }

  const signed = (body, at, secret, url = URL_OF_HOOK) => {
    const timestamp = String(at * 1000);
    return [["X-HubSpot-Request-Timestamp", timestamp], ["X-HubSpot-Signature-v3", hubspotSign("v3", body, { url, timestamp, secret })]];
  };
  const ESCAPED = "page=a%2Fb%3Ac%40d&q=x%20y%26z";
  await usual({
    preset: "hubspot",
    tool: "@hubspot/api-client@14.0.1 (npm), Signature.getSignature v3; every case by Signature.isValid and by hubspot-api-client 12.0.0 (PyPI)",
    secret: HUBSPOT_SECRET,
    otherSecret: "zzzzzzzz-yyyy-yyyy-yyyy-yyyyyyyyyyyy",
    bodies: [JSON.stringify(events), untidy(events)],
    signature: "X-HubSpot-Signature-v3",
    sign: (body, { at, secret }) => signed(body, at, secret),
    timestamp: "X-HubSpot-Request-Timestamp",
    tolerance: true,
    confirm: is("v3"),
    differs: {
      "signed an hour ahead": "it looks at the past only; our rule counts both ways",
      "a query with escapes, signed decoded as documented": "it takes the URL as it is; the documentation decodes %3A %2F %3F %40 %21 %24 %27 %28 %29 %2A %2C %3B",
    },
    extra: (genuine) => {
      const decoded = ESCAPED.replace("%2F", "/").replace("%3A", ":").replace("%40", "@");
      return [
        ...withQueries(genuine, (url) => signed(genuine.body, NOW, HUBSPOT_SECRET, url)),
        request("a query with escapes, signed decoded as documented", "accepted", [JSON_TYPE, ...signed(genuine.body, NOW, HUBSPOT_SECRET, `${URL_OF_HOOK}?${decoded}`)], genuine.body, ESCAPED),
        request("a v2 signature", "bad_signature", replaced(genuine.headers, "X-HubSpot-Signature-v3", hubspotSign("v2", genuine.body)), genuine.body),
      ];
    },
  });
}

/// What follows from the URL being signed; `sign` returns the signature's lines for a URL.
function withQueries(genuine, sign) {
  const plain = genuine.headers.filter(([name]) => !sign(URL_OF_HOOK).some(([own]) => own === name));
  const as = (what, expect, url, query) => request(what, expect, [...plain, ...sign(url)], genuine.body, query);
  return [
    as("a query, signed with the URL", "accepted", `${URL_OF_HOOK}?b=2&a=1`, "b=2&a=1"),
    as("a query that was not signed", "bad_signature", URL_OF_HOOK, "b=2"),
    as("a signed query that is missing", "bad_signature", `${URL_OF_HOOK}?b=2`, null),
    as("a query in another order", "bad_signature", `${URL_OF_HOOK}?b=2&a=1`, "a=1&b=2"),
    as("signed for another host", "bad_signature", `https://other.example.com${PATH}`, null),
    as("signed for http", "bad_signature", URL_OF_HOOK.replace("https:", "http:"), null),
  ];
}

async function square() {
  const secret = "asdf1234";
  const event = { merchant_id: "6SSW7HV8K2ST5", type: "payment.created", event_id: "6a8f5f28-54a1-4eb0-a98a-3111513fd4fc", created_at: "2026-11-22T10:00:00Z", data: { type: "payment", id: "hYy9pRFVxpDsO1FB05SunFWUe9JZY" } };
  const sign = (body, key, url = URL_OF_HOOK) => [["x-square-hmacsha256-signature", hmac("sha256", key, url + body, "base64")]];
  await usual({
    preset: "square",
    tool: "node:crypto; every case by WebhooksHelper.verifySignature of square@46.0.0 (npm)",
    secret,
    otherSecret: "asdf1235",
    bodies: [JSON.stringify(event), untidy(event)],
    signature: "x-square-hmacsha256-signature",
    sign: (body, { secret: key }) => sign(body, key),
    confirm: (sent) => WebhooksHelper.verifySignature({ requestBody: sent.body, signatureHeader: header(sent, "x-square-hmacsha256-signature"), signatureKey: secret, notificationUrl: urlOf(sent) }),
    extra: (genuine) => [
      ...withQueries(genuine, (url) => sign(genuine.body, secret, url)),
      request("signed without the URL", "bad_signature", [JSON_TYPE, ...sign(genuine.body, secret, "")], genuine.body),
    ],
  });
}

const TWILIO_TOKEN = "12345";
const FORM = ["Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"];
const IDEMPOTENCY = ["I-Twilio-Idempotency-Token", "8d5f1c4e-0b3a-4f1e-9a52-0f6f8e3c7a11"];
const encoded = (pairs) => pairs.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value).replaceAll("%20", "+")}`).join("&");

/// The parameters as a web framework hands them to Twilio's SDK: a list where a name repeats.
function parameters(form) {
  const params = {};
  for (const [name, value] of new URLSearchParams(form))
    params[name] = name in params ? [params[name], value].flat() : value;
  return params;
}

async function twilioForm() {
  const example = { CallSid: "CA1234567890ABCDE", Caller: "+14158675310", Digits: "1234", From: "+14158675310", To: "+18005551212" };
  printed("twilio", twilio.getExpectedTwilioSignature("12345", "https://mycompany.com/myapp.php?foo=1&bar=2", example), "GvWf1cFY/Q7PnoempGyD5oXAezc=");
  const sign = (form, token = TWILIO_TOKEN, url = URL_OF_HOOK) => twilio.getExpectedTwilioSignature(token, url, parameters(form));
  const body = encoded(Object.entries({ ToCountry: "US", MessageSid: "SM1f0e8ae6ade43cb3c0ce4525424e404f", Body: "Hello 42", From: "+14158675310", To: "+18005551212" }));
  const at = (name, expect, form, { token, url, query = null, signature } = {}) =>
    request(name, expect, [FORM, IDEMPOTENCY, ["X-Twilio-Signature", signature ?? sign(form, token, url ?? URL_OF_HOOK + (query === null ? "" : `?${query}`))]], form, query);
  const genuine = at("as it is sent", "accepted", body);
  const spoilt = (name, changes) => ({ ...genuine, name, expect: "bad_signature", ...changes });
  const withPort = (port) => URL_OF_HOOK.replace(".com", `.com:${port}`);
  await record(
    {
      preset: "twilio",
      tool: "twilio@6.2.0 (npm), getExpectedTwilioSignature; every case by validateRequest and by twilio 9.13.0 (PyPI); the example of Twilio's documentation",
      secret: TWILIO_TOKEN,
      confirm: (sent) => twilio.validateRequest(TWILIO_TOKEN, header(sent, "X-Twilio-Signature"), urlOf(sent), parameters(sent.body)),
      differs: {},
    },
    [
      genuine,
      at("unicode, spaces, an empty value and names that sort by code point", "accepted", encoded([["body", "Zoë ☕ 𝄞 a+b&c=d%"], ["Body", "x"], ["BODY", ""], ["_x", "1"], ["A1", "2"], ["A", "3"]])),
      at("a name repeated: its values once each and sorted", "accepted", encoded([["MediaUrl", "https://b.example/2"], ["MediaUrl", "https://a.example/1"], ["MediaUrl", "https://b.example/2"], ["A", "1"]])),
      at("no parameters", "accepted", ""),
      at("a query, signed with the URL", "accepted", body, { query: "foo=1&bar=2" }),
      at("signed with the port in the URL", "accepted", body, { url: withPort(443) }),
      spoilt("the same parameters in another order", { expect: "accepted", body: body.split("&").reverse().join("&") }),
      spoilt("a byte of the body is another", { body: oneByteChanged(body) }),
      spoilt("a parameter is added", { body: `${body}&Extra=1` }),
      spoilt("a parameter is taken away", { body: body.split("&").slice(1).join("&") }),
      at("signed with another secret", "bad_signature", body, { token: "12346" }),
      spoilt("no signature header", { headers: without(genuine.headers, "X-Twilio-Signature") }),
      spoilt("an empty signature header", { headers: replaced(genuine.headers, "X-Twilio-Signature", "") }),
      spoilt(TWICE, { headers: [...genuine.headers, genuine.headers.at(-1)] }),
      at("a query that was not signed", "bad_signature", body, { query: "foo=1", url: URL_OF_HOOK }),
      at("signed with another port in the URL", "bad_signature", body, { url: withPort(8443) }),
      at("signed for another host", "bad_signature", body, { url: `https://other.example.com${PATH}` }),
      at("signed for http", "bad_signature", body, { url: URL_OF_HOOK.replace("https:", "http:") }),
      at("signed over the raw form", "bad_signature", body, { signature: hmac("sha1", TWILIO_TOKEN, URL_OF_HOOK + body, "base64") }),
    ],
  );
}

async function twilioJson() {
  const event = { specversion: "1.0", type: "com.twilio.messaging.message.delivered", id: "EZ1", data: { messageSid: "SM1", n: 42 } };
  const body = JSON.stringify(event);
  const digest = (text) => `bodySHA256=${twilio.getExpectedBodyHash(text)}`;
  const sign = (query, token = TWILIO_TOKEN, base = URL_OF_HOOK) => twilio.getExpectedTwilioSignature(token, `${base}${query === null ? "" : `?${query}`}`, {});
  const at = (name, expect, text, query = digest(text), signature = sign(query)) =>
    request(name, expect, [JSON_TYPE, IDEMPOTENCY, ["X-Twilio-Signature", signature]], text, query);
  const genuine = at("as it is sent", "accepted", body);
  const spoilt = (name, changes) => ({ ...genuine, name, expect: "bad_signature", ...changes });
  const changed = oneByteChanged(body);
  await record(
    {
      preset: "twilio-json",
      tool: "twilio@6.2.0 (npm), getExpectedTwilioSignature and getExpectedBodyHash; every case by validateRequestWithBody and by twilio 9.13.0 (PyPI)",
      secret: TWILIO_TOKEN,
      confirm: (sent) => twilio.validateRequestWithBody(TWILIO_TOKEN, header(sent, "X-Twilio-Signature"), urlOf(sent), sent.body),
    },
    [
      genuine,
      at("untidy JSON, signed as raw bytes", "accepted", untidy(event)),
      at("a further query parameter", "accepted", body, `foo=1&${digest(body)}`),
      at("signed with the port in the URL", "accepted", body, digest(body), sign(digest(body), TWILIO_TOKEN, URL_OF_HOOK.replace(PUBLIC_URL, `${PUBLIC_URL}:443`))),
      spoilt("a byte of the body is another", { body: changed }),
      spoilt("a newline is appended", { body: `${body}\n` }),
      spoilt("a changed body with its own digest", { body: changed, query: digest(changed) }),
      at("signed with another secret", "bad_signature", body, digest(body), sign(digest(body), "12346")),
      spoilt("no signature header", { headers: without(genuine.headers, "X-Twilio-Signature") }),
      spoilt("an empty signature header", { headers: replaced(genuine.headers, "X-Twilio-Signature", "") }),
      spoilt(TWICE, { headers: [...genuine.headers, genuine.headers.at(-1)] }),
      at("no digest in the query, the URL signed", "bad_signature", body, null),
      at("another digest in the query, the URL signed", "bad_signature", body, digest("{}")),
      at("an empty digest in the query, the URL signed", "bad_signature", body, "bodySHA256="),
      at("two digests in the query, ours second, the URL signed", "bad_signature", body, `${digest("{}")}&${digest(body)}`),
    ],
  );
}
