// Senders of one's own: HMAC-SHA256 of the body in hex, with or without `sha256=`, in one of two headers.

import { JSON_TYPE, hmac, replaced, request, untidy, usual, without } from "../lib.mjs";

export async function all() {
  const [own, other, secret] = ["X-Webhook-Signature", "X-Hub-Signature-256", "generic-secret-4f1c9b"];
  const event = { event: "order.paid", order: { id: 4711, total: "12.50" } };
  await usual({
    preset: "generic",
    tool: "node:crypto: HMAC-SHA256 of the body, hex",
    secret,
    otherSecret: `${secret}0`,
    bodies: [JSON.stringify(event), untidy(event)],
    plain: [JSON_TYPE],
    signature: own,
    sign: (body, { secret: key }) => [[own, `sha256=${hmac("sha256", key, body, "hex")}`]],
    extra: (genuine) => {
      const digest = hmac("sha256", secret, genuine.body, "hex");
      const bare = without(genuine.headers, own);
      const sent = (name, expect, headers) => request(name, expect, headers, genuine.body);
      return [
        sent("without the prefix", "accepted", replaced(genuine.headers, own, digest)),
        sent("in capitals", "accepted", replaced(genuine.headers, own, digest.toUpperCase())),
        sent("in the other header", "accepted", [...bare, [other, `sha256=${digest}`]]),
        sent("bare in the other header", "accepted", [...bare, [other, digest]]),
        sent("a false one, and a right one in the other header", "bad_signature", [...replaced(genuine.headers, own, "00"), [other, digest]]),
        sent("the other header twice", "bad_signature", [...bare, [other, digest], [other, digest]]),
        sent("sha1 in its place", "bad_signature", replaced(genuine.headers, own, `sha1=${hmac("sha1", secret, genuine.body, "hex")}`)),
        sent("the prefix twice", "bad_signature", replaced(genuine.headers, own, `sha256=sha256=${digest}`)),
        sent("in base64", "bad_signature", replaced(genuine.headers, own, hmac("sha256", secret, genuine.body, "base64"))),
      ];
    },
  });
}
