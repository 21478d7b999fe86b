//! The `hmac` and `hash` schemes: a digest over a template of the request, keyed, or with the secret in the template.

use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use super::{
    Seen, Signed, Unverified,
    digest::{Hash, KeyDecoding, KeyedDigest},
    signature::Signing,
};
use crate::secret::SecretValue;

/// A digest that only who knows the secret can make.
#[derive(Clone, Debug)]
pub struct Hmac {
    pub hash: Hash,
    pub keying: Keying,
    pub secret: KeyDecoding,
    pub signing: Signing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keying {
    /// HMAC.
    Keyed,
    /// A plain digest; the secret is a part of what is digested.
    Plain,
}

impl Hmac {
    /// Any pair of a secret and a received signature that fits will do.
    pub fn check(
        &self,
        seen: &Seen<'_>,
        secrets: &[SecretValue],
        now: OffsetDateTime,
    ) -> Result<(), Unverified> {
        let received = self.signing.received(seen)?;
        let mut matched = subtle::Choice::from(0);
        for secret in secrets {
            let digest = self.digest(seen, secret, received.timestamp.as_deref()).map_err(Unverified::bad)?;
            // Never one that does not fit: those were sorted out when secrets were loaded.
            let Ok(expected) = digest else { continue };
            for signature in &received.signatures {
                matched |= expected.ct_eq(signature);
            }
        }
        if !bool::from(matched) {
            return Err(Unverified::bad("the signature does not match the request under any of the secrets"));
        }
        self.signing.fresh(&received, now)
    }

    /// What is signed; `None` when the request lacks a part of it.
    pub fn message(&self, seen: &Seen<'_>) -> Option<Vec<u8>> {
        let timestamp = self.signing.received(seen).ok()?.timestamp;
        self.signing.signed.bytes(seen, timestamp.as_deref()).ok()
    }

    pub fn sign(&self, seen: &Seen<'_>, secret: &SecretValue, now: OffsetDateTime) -> Result<Signed, String> {
        self.signing.write(seen, now, |timestamp| {
            let digest = self.digest(seen, secret, timestamp)?;
            digest.map_err(|NotEncodedSo| "the secret is not encoded as the trigger declares".to_owned())
        })
    }

    /// The outer error is the request's fault, the inner one the secret's.
    fn digest(
        &self,
        seen: &Seen<'_>,
        secret: &SecretValue,
        timestamp: Option<&str>,
    ) -> Result<Result<Vec<u8>, NotEncodedSo>, String> {
        let Some(key) = self.secret.key(secret.bytes()) else { return Ok(Err(NotEncodedSo)) };
        let signed = &self.signing.signed;
        match self.keying {
            Keying::Keyed => {
                let Some(mut digest) = KeyedDigest::new(self.hash, &key) else {
                    return Ok(Err(NotEncodedSo));
                };
                signed.feed(seen, timestamp, |bytes| digest.update(bytes))?;
                Ok(Ok(digest.finish()))
            }
            Keying::Plain => {
                let mut bytes = Vec::with_capacity(seen.request.body.len() + 128);
                signed.feed_with(seen, timestamp, &key, |part| bytes.extend_from_slice(part))?;
                Ok(Ok(self.hash.digest(&bytes)))
            }
        }
    }
}

struct NotEncodedSo;

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::{
        super::{
            Scheme, Verify,
            digest::Encoding,
            signature::{Place, SignatureRule, TimestampPlace, TimestampRule, Unit},
            template::Template,
        },
        *,
    };
    use crate::{budget::Budget, model::Outcome, request::tests::post};

    fn hmac(signed: &str, header: &'static str, prefix: &str) -> Hmac {
        Hmac {
            hash: Hash::Sha256,
            keying: Keying::Keyed,
            secret: KeyDecoding::default(),
            signing: Signing {
                signed: Template::parse(signed, |_| None).unwrap(),
                signature: SignatureRule {
                    place: Place::Header(http::HeaderName::from_static(header)),
                    split: None,
                    prefixes: vec![prefix.to_owned()],
                    encoding: Encoding::Hex,
                },
                timestamp: None,
            },
        }
    }

    fn outcome(result: Result<(), Unverified>) -> &'static str {
        result.map_or_else(|unverified| unverified.outcome.word(), |()| "accepted")
    }

    /// The example of GitHub's documentation:
    /// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
    #[test]
    fn githubs_own_example_is_accepted() {
        let hmac = hmac("{body}", "x-hub-signature-256", "sha256=");
        let secret = [SecretValue::new("It's a Secret to Everybody")];
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let now = OffsetDateTime::UNIX_EPOCH;
        let check = |headers: &[(&str, &str)], body: &str, secrets: &[SecretValue]| {
            let request = post(headers, body);
            outcome(hmac.check(&Seen::new(&request, "", &Budget::default()), secrets, now))
        };
        assert_eq!(check(&[("x-hub-signature-256", signature)], "Hello, World!", &secret), "accepted");
        let old_and_new = [SecretValue::new("new"), secret[0].clone()];
        assert_eq!(check(&[("x-hub-signature-256", signature)], "Hello, World!", &old_and_new), "accepted");
        for (headers, body, secrets) in [
            (&[("x-hub-signature-256", signature)][..], "Hello, World! ", &secret[..]),
            (&[("x-hub-signature-256", signature)], "Hello, World!", &[SecretValue::new("other")]),
            (&[("x-hub-signature-256", signature)], "Hello, World!", &[]),
            (&[("x-hub-signature-256", "sha256=zz")], "Hello, World!", &secret),
            (&[("x-hub-signature-256", "sha256=")], "Hello, World!", &secret),
            (&[("x-hub-signature-256", &signature[7..])], "Hello, World!", &secret),
            (
                &[("x-hub-signature-256", signature), ("x-hub-signature-256", signature)],
                "Hello, World!",
                &secret,
            ),
            (&[], "Hello, World!", &secret),
        ] {
            let mut request = post(&headers[..headers.len().min(1)], body);
            if let [_, (name, value)] = headers {
                request.headers.append(*name, value.parse().unwrap());
            }
            let result = hmac.check(&Seen::new(&request, "", &Budget::default()), secrets, now);
            assert_eq!(outcome(result), "bad_signature", "{headers:?} {body}");
        }
    }

    #[test]
    fn a_late_or_early_signature_is_stale_and_a_second_timestamp_is_refused() {
        let mut hmac = hmac("{timestamp}.{body}", "stripe-signature", "v1=");
        hmac.signing.signature.split = Some(",".to_owned());
        hmac.signing.timestamp = Some(TimestampRule {
            place: TimestampPlace::Entry("t=".to_owned()),
            unit: Unit::Seconds,
            tolerance: Some(300),
        });
        let secret = SecretValue::new("whsec_x");
        let now = datetime!(2026-11-22 10:00 UTC);
        let mut request = post(&[], "{}");
        let signed = hmac.sign(&Seen::new(&request, "", &Budget::default()), &secret, now).unwrap();
        request.headers = signed.headers;
        let at = |now| {
            outcome(hmac.check(
                &Seen::new(&request, "", &Budget::default()),
                std::slice::from_ref(&secret),
                now,
            ))
        };
        assert_eq!(at(now), "accepted");
        assert_eq!(at(now + time::Duration::seconds(300)), "accepted");
        assert_eq!(at(now + time::Duration::seconds(301)), "stale");
        assert_eq!(at(now - time::Duration::seconds(301)), "stale");

        let line = request.headers["stripe-signature"].to_str().unwrap();
        let twice = post(&[("stripe-signature", &format!("t=1,{line}"))], "{}");
        let error = hmac
            .check(&Seen::new(&twice, "", &Budget::default()), std::slice::from_ref(&secret), now)
            .unwrap_err();
        assert_eq!(
            (error.outcome, error.detail.as_str()),
            (Outcome::BadSignature, "two `t=` entries beside the signature")
        );

        let another = line.replacen("t=1", "t=2", 1);
        let moved = post(&[("stripe-signature", &another)], "{}");
        assert_eq!(
            outcome(Verify::of(Scheme::Hmac(hmac)).check(
                &Seen::new(&moved, "", &Budget::default()),
                &[secret],
                now
            )),
            "bad_signature"
        );
    }
}
