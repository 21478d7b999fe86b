"""Asks the senders' Python packages about the recorded cases: PayPal, whose Node package verifies nothing, and a second
opinion on those that have both. A case that a package sees otherwise is named in PACKAGES, with the reason."""

import base64
import hashlib
import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs

from freezegun import freeze_time

DATA = Path(__file__).parent / "data"
NOW = "2026-11-22T10:00:00Z"
TWICE = "the signature header twice"  # a package is handed one value of a header
PAST_ONLY = {"signed an hour ahead": "it looks at the past only"}


def main():
    for preset, (tool, asks, differs) in PACKAGES.items():
        file = json.loads((DATA / f"{preset}.json").read_text())
        verdict = asks(file)
        asked = 0
        for case in file["cases"]:
            if case["name"] == TWICE:
                continue
            headers = {name.lower(): value for name, value in case["headers"]}
            url = file["public_url"] + case["path"] + (f"?{case['query']}" if case["query"] is not None else "")
            sent = SimpleNamespace(headers=headers, body=case["body"], url=url, method=case["method"])
            with redirect_stdout(StringIO()):  # PayPal's package prints what it dislikes
                try:
                    says = bool(verdict(sent))
                except Exception:
                    says = False
            expected = (case["expect"] == "accepted") != (case["name"] in differs)
            if says != expected:
                sys.exit(f"{preset}: \"{case['name']}\" is {case['expect']}, {tool} says {says}")
            asked += 1
        print(f"{preset}: {asked} confirmed by {tool}")
        for name, why in differs.items():
            print(f"    it says otherwise of \"{name}\": {why}")


def true(_):
    """For verifiers that throw at what they refuse."""
    return True


def paypal(file):
    from OpenSSL import crypto
    from paypalrestsdk.notifications import WebhookEvent

    certificates = "https://api.paypal.com/v1/notifications/certs/"
    ours = [pem for url, pem in file["pinned"].items() if url.startswith(certificates)]

    def trust():
        store = crypto.X509Store()
        for pem in ours:
            store.add_cert(crypto.load_certificate(crypto.FILETYPE_PEM, pem))
        return store

    WebhookEvent._get_certificate_store = staticmethod(trust)
    WebhookEvent._get_cert = staticmethod(lambda url: crypto.load_certificate(crypto.FILETYPE_PEM, file["pinned"][url]))
    return lambda sent: WebhookEvent.verify(
        sent.headers["paypal-transmission-id"],
        sent.headers["paypal-transmission-time"],
        file["params"]["webhook_id"],
        sent.body,
        sent.headers["paypal-cert-url"],
        sent.headers["paypal-transmission-sig"],
        sent.headers["paypal-auth-algo"],
    )


def mailgun(file):
    from mailgun.security import SecurityGuard

    def verdict(sent):
        signature = json.loads(sent.body)["signature"]
        return SecurityGuard.verify_webhook(
            file["secret"], signature["token"], signature["timestamp"], signature["signature"]
        )

    return verdict


def slack(file):
    from slack_sdk.signature import SignatureVerifier

    verifier = SignatureVerifier(file["secret"])
    return lambda sent: verifier.is_valid_request(sent.body, sent.headers)


def stripe(file):
    import stripe as package

    return lambda sent: true(package.Webhook.construct_event(sent.body, sent.headers["stripe-signature"], file["secret"]))


def standard(file):
    from standardwebhooks.webhooks import Webhook

    return lambda sent: true(Webhook(file["secret"]).verify(sent.body, sent.headers))


def svix(file):
    from svix.webhooks import Webhook

    return lambda sent: true(Webhook(file["secret"]).verify(sent.body, sent.headers))


def hubspot(version):
    from hubspot.utils.signature import Signature

    name = "x-hubspot-signature-v3" if version == "v3" else "x-hubspot-signature"
    return lambda file: lambda sent: Signature.is_valid(
        sent.headers[name], file["secret"], sent.body, sent.url, sent.method, version,
        sent.headers.get("x-hubspot-request-timestamp"),
    )


class Parameters(dict):
    """As Django hands a form to Twilio's package: every name with a list."""

    getlist = dict.get


def twilio(file):
    from twilio.request_validator import RequestValidator

    validator = RequestValidator(file["secret"])

    def verdict(sent):
        form = sent.headers["content-type"].startswith("application/x-www-form-urlencoded")
        params = Parameters(parse_qs(sent.body, keep_blank_values=True)) if form else sent.body
        return validator.validate(sent.url, params, sent.headers["x-twilio-signature"])

    return verdict


def qstash(file):
    from qstash import Receiver

    receiver = Receiver(file["secret"], file["secret"])
    return lambda sent: true(receiver.verify(signature=sent.headers["upstash-signature"], body=sent.body, url=sent.url))


def plaid(file):
    """The steps of Plaid's documentation."""
    import jwt
    from datetime import datetime, timezone

    keys = {key["kid"]: jwt.PyJWK(key) for key in json.loads(file["pinned"][file["params"]["jwks"]])["keys"]}

    def verdict(sent):
        token = sent.headers["plaid-verification"]
        key = keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, algorithms=["ES256"], options={"require": ["iat"]})
        fresh = datetime.now(timezone.utc).timestamp() - claims["iat"] <= 300
        return fresh and claims["request_body_sha256"] == hashlib.sha256(sent.body.encode()).hexdigest()

    return verdict


def pubsub(file):
    import jwt

    params = file["params"]
    keys = {key["kid"]: jwt.PyJWK(key) for key in json.loads(file["pinned"][params["jwks"]])["keys"]}

    def verdict(sent):
        scheme, token = sent.headers["authorization"].split(" ")
        key = keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(token, key, algorithms=["RS256"], audience=params["audience"], issuer="https://accounts.google.com")
        return scheme == "Bearer" and claims["email"] == params["email"] and claims["email_verified"] is True

    return verdict


def sns(file):
    """The strings to sign of AWS's documentation, by Python's cryptography."""
    import re

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA1, SHA256

    notification = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    confirmation = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]

    def verdict(sent):
        message = json.loads(sent.body)
        if not re.fullmatch(r"https://sns\.[a-z0-9-]{3,}\.amazonaws\.com(\.cn)?/[^?#]*\.pem", message["SigningCertURL"]):
            return False
        names = notification if message["Type"] == "Notification" else confirmation
        text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
        key = x509.load_pem_x509_certificate(file["pinned"][message["SigningCertURL"]].encode()).public_key()
        by = {"1": SHA1(), "2": SHA256()}[message["SignatureVersion"]]
        key.verify(base64.b64decode(message["Signature"]), text.encode(), PKCS1v15(), by)
        return True

    return verdict


PACKAGES = {
    "paypal": ("paypalrestsdk 1.13.3, WebhookEvent.verify", paypal, {}),
    "mailgun": ("mailgun 1.10.0, SecurityGuard.verify_webhook", mailgun, {}),
    "slack": ("slack_sdk 3.48.0, SignatureVerifier", slack, {}),
    "stripe": ("stripe 16.1.0, Webhook.construct_event", stripe, PAST_ONLY),
    "standard-webhooks": ("standardwebhooks 1.1.0, Webhook.verify", standard, {}),
    "gitlab-signing": ("standardwebhooks 1.1.0, Webhook.verify", standard, {}),
    "svix": ("svix 2.9.1, Webhook.verify", svix, {}),
    "hubspot-v1": ("hubspot-api-client 12.0.0, Signature.is_valid", hubspot("v1"), {}),
    "hubspot-v2": ("hubspot-api-client 12.0.0, Signature.is_valid", hubspot("v2"), {}),
    "hubspot": ("hubspot-api-client 12.0.0, Signature.is_valid", hubspot("v3"), {
        **PAST_ONLY, "a query with escapes, signed decoded as documented": "it takes the URL as it is"}),
    "twilio": ("twilio 9.13.0, RequestValidator", twilio, {}),
    "twilio-json": ("twilio 9.13.0, RequestValidator", twilio, {}),
    "qstash": ("qstash 3.4.0, Receiver.verify", qstash, {}),
    "plaid": ("PyJWT 2.15.1, as Plaid's documentation does", plaid, {}),
    "pubsub-push": ("PyJWT 2.15.1", pubsub, {}),
    "sns": ("cryptography 38.0.4, as AWS's documentation says", sns, {}),
}

if __name__ == "__main__":
    with freeze_time(NOW):
        main()
