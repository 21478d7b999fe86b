//! The `hmac` scheme: a keyed digest over a template of the request.

use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use super::{
    Seen, Signed, Unverified,
    digest::{Hash, KeyDecoding, KeyedDigest},
    signature::{SignatureRule, TimestampPlace, TimestampRule},
    template::Template,
};
use crate::secret::SecretValue;

#[derive(Clone, Debug)]
pub struct Hmac {
    pub hash: Hash,
    pub secret: KeyDecoding,
    pub signed: Template,
    pub signature: SignatureRule,
    pub timestamp: Option<TimestampRule>,
}

impl Hmac {
    /// Any pair of a secret and a received signature that fits will do; the time is looked at last, so
    /// that `stale` always means an authentic request.
    pub fn check(
        &self,
        seen: &Seen<'_>,
        secrets: &[SecretValue],
        now: OffsetDateTime,
    ) -> Result<(), Unverified> {
        let entries = self.signature.entries(seen)?;
        let timestamp = self.timestamp.as_ref().map(|rule| rule.text(seen, &entries)).transpose()?;
        let received = self.signature.received(&entries)?;
        let mut matched = subtle::Choice::from(0);
        for secret in secrets {
            let Ok(expected) = self.digest(seen, secret, timestamp.as_deref()).map_err(Unverified::bad)?
            else {
                tracing::warn!("a secret is not encoded as its trigger declares; it is skipped");
                continue;
            };
            for signature in &received {
                matched |= expected.ct_eq(signature);
            }
        }
        if !bool::from(matched) {
            return Err(Unverified::bad("the signature does not match the body under any of the secrets"));
        }
        match (&self.timestamp, &timestamp) {
            (Some(rule), Some(text)) => rule.check(text, now),
            _ => Ok(()),
        }
    }

    pub fn sign(&self, seen: &Seen<'_>, secret: &SecretValue, now: OffsetDateTime) -> Result<Signed, String> {
        let mut signed = Signed::default();
        let timestamp = self.timestamp.as_ref().map(|rule| rule.write(now));
        let digest = self.digest(seen, secret, timestamp.as_deref())?;
        let digest =
            digest.map_err(|NotEncodedSo| "the secret is not encoded as the trigger declares".to_owned())?;
        let mut text = self.signature.written(&digest);
        if let (Some(rule), Some(timestamp)) = (&self.timestamp, timestamp) {
            match &rule.place {
                TimestampPlace::At(place) => place.put(timestamp, &mut signed)?,
                TimestampPlace::Entry(prefix) => {
                    let split = self.signature.split.as_deref().unwrap_or(",");
                    text = format!("{prefix}{timestamp}{split}{text}");
                }
            }
        }
        self.signature.place.put(text, &mut signed)?;
        Ok(signed)
    }

    /// The outer error is the request's fault, the inner one the secret's.
    fn digest(
        &self,
        seen: &Seen<'_>,
        secret: &SecretValue,
        timestamp: Option<&str>,
    ) -> Result<Result<Vec<u8>, NotEncodedSo>, String> {
        let key = self.secret.key(secret.bytes());
        let Some(mut digest) = key.and_then(|key| KeyedDigest::new(self.hash, &key)) else {
            return Ok(Err(NotEncodedSo));
        };
        self.signed.feed(seen, timestamp, |bytes| digest.update(bytes))?;
        Ok(Ok(digest.finish()))
    }
}

struct NotEncodedSo;

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::{
        super::{
            Verify,
            digest::Encoding,
            signature::{Place, Unit},
        },
        *,
    };
    use crate::{model::Outcome, request::tests::post};

    fn hmac(signed: &str, header: &'static str, prefix: &str) -> Hmac {
        Hmac {
            hash: Hash::Sha256,
            secret: KeyDecoding::default(),
            signed: Template::parse(signed, |_| None).unwrap(),
            signature: SignatureRule {
                place: Place::Header(http::HeaderName::from_static(header)),
                split: None,
                prefix: Some(prefix.to_owned()),
                encoding: Encoding::Hex,
            },
            timestamp: None,
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
            outcome(hmac.check(&Seen::new(&request, ""), secrets, now))
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
            let result = hmac.check(&Seen::new(&request, ""), secrets, now);
            assert_eq!(outcome(result), "bad_signature", "{headers:?} {body}");
        }
    }

    #[test]
    fn a_late_or_early_signature_is_stale_and_a_second_timestamp_is_refused() {
        let mut hmac = hmac("{timestamp}.{body}", "stripe-signature", "v1=");
        hmac.signature.split = Some(",".to_owned());
        hmac.timestamp = Some(TimestampRule {
            place: TimestampPlace::Entry("t=".to_owned()),
            unit: Unit::Seconds,
            tolerance: Some(300),
        });
        let secret = SecretValue::new("whsec_x");
        let now = datetime!(2026-11-22 10:00 UTC);
        let mut request = post(&[], "{}");
        let signed = hmac.sign(&Seen::new(&request, ""), &secret, now).unwrap();
        request.headers = signed.headers;
        let at = |now| outcome(hmac.check(&Seen::new(&request, ""), std::slice::from_ref(&secret), now));
        assert_eq!(at(now), "accepted");
        assert_eq!(at(now + time::Duration::seconds(300)), "accepted");
        assert_eq!(at(now + time::Duration::seconds(301)), "stale");
        assert_eq!(at(now - time::Duration::seconds(301)), "stale");

        let line = request.headers["stripe-signature"].to_str().unwrap();
        let twice = post(&[("stripe-signature", &format!("t=1,{line}"))], "{}");
        let error = hmac.check(&Seen::new(&twice, ""), std::slice::from_ref(&secret), now).unwrap_err();
        assert_eq!(
            (error.outcome, error.detail.as_str()),
            (Outcome::BadSignature, "two `t=` entries beside the signature")
        );

        let another = line.replacen("t=1", "t=2", 1);
        let moved = post(&[("stripe-signature", &another)], "{}");
        assert_eq!(
            outcome(Verify::Hmac(hmac).check(&Seen::new(&moved, ""), &[secret], now)),
            "bad_signature"
        );
    }
}
