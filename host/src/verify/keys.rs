//! Public keys as senders publish them: PEM, certificates, base64, JSON Web Keys.

use regex::Regex;
use ring::{
    agreement,
    rand::SystemRandom,
    signature::{
        self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ED25519,
        RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
        RsaPublicKeyComponents, UnparsedPublicKey,
    },
};
use serde_json::Value;
use x509_cert::{
    Certificate,
    der::{Decode, Encode, asn1::UintRef, pem},
    spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned},
};

use super::digest::{Encoding, Hash};
use crate::weak_keys::is_weak_ed25519;

/// A key that signatures are checked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    Ed25519([u8; 32]),
    /// The uncompressed point.
    P256(Vec<u8>),
    /// PKCS #1
    Rsa(Vec<u8>),
    /// Modulus and exponent, big-endian.
    RsaNumbers(Vec<u8>, Vec<u8>),
}

/// How a P-256 signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecdsa {
    Der,
    /// Two numbers of 32 bytes, as in a JWT.
    Fixed,
}

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ED25519_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const EC_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const RSA_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Bits of an RSA key: with fewer it can be broken, and ring checks none with more.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

impl PublicKey {
    /// `None` for a key under which anyone can sign.
    pub fn ed25519(key: [u8; 32]) -> Option<Self> {
        (!is_weak_ed25519(&key)).then_some(Self::Ed25519(key))
    }

    /// Whether a signature can be checked by it, and only its owner could make one: an RSA key has 2048 to 8192 bits and
    /// an odd exponent above 1, a P-256 key is a point of its curve. Slow: for when a key is set or loaded. Signatures
    /// are never accepted under the others either; they would look as if the sender had signed wrongly.
    pub fn is_sound(&self) -> bool {
        match self {
            // Weak ones are not even made.
            Self::Ed25519(_) => true,
            Self::P256(point) => is_on_curve(point),
            Self::Rsa(der) => match Vec::<UintRef<'_>>::from_der(der).as_deref() {
                Ok([n, e]) => is_sound_rsa(n.as_bytes(), e.as_bytes()),
                _ => false,
            },
            Self::RsaNumbers(n, e) => is_sound_rsa(n, e),
        }
    }

    /// Of PEM (a public key or a certificate), or base64 of either's DER.
    pub fn parse(text: &str) -> Option<Self> {
        if !text.contains("-----BEGIN") {
            let der = Encoding::Base64.decode(&text.split_ascii_whitespace().collect::<String>())?;
            return Self::from_spki(&der).or_else(|| Self::from_certificate(&der));
        }
        let (label, der) = pem::decode_vec(first_block(text)?.as_bytes()).ok()?;
        match label {
            "CERTIFICATE" => Self::from_certificate(&der),
            "PUBLIC KEY" => Self::from_spki(&der),
            "RSA PUBLIC KEY" => Some(Self::Rsa(der)),
            _ => None,
        }
    }

    /// Of a certificate in PEM whose subject has a common name that fits.
    pub fn of_certificate(text: &str, name: &Regex) -> Option<Self> {
        let (_, der) = pem::decode_vec(first_block(text)?.as_bytes()).ok()?;
        let certificate = Certificate::from_der(&der).ok()?;
        let parts = certificate
            .tbs_certificate()
            .subject()
            .iter_rdn()
            .flat_map(x509_cert::name::RelativeDistinguishedName::iter);
        let mut names = parts.filter(|part| part.oid == COMMON_NAME);
        let (Some(own), None) = (names.next(), names.next()) else { return None };
        // Whatever kind of string it is: its bytes, which for a host's name are ASCII in each.
        let own = std::str::from_utf8(own.value.value()).ok()?;
        name.is_match(own).then(|| Self::from_certificate(&der)).flatten()
    }

    fn from_certificate(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        Self::from_spki(&certificate.tbs_certificate().subject_public_key_info().to_der().ok()?)
    }

    fn from_spki(der: &[u8]) -> Option<Self> {
        let info = SubjectPublicKeyInfoOwned::from_der(der).ok()?;
        let key = info.subject_public_key.as_bytes()?.to_vec();
        match info.algorithm.oid {
            ED25519_OID => key.try_into().ok().and_then(Self::ed25519),
            EC_OID => (key.len() == 65).then_some(Self::P256(key)),
            RSA_OID => Some(Self::Rsa(key)),
            _ => None,
        }
    }

    /// Of a JSON Web Key (RFC 7517).
    pub fn from_jwk(jwk: &Value) -> Option<Self> {
        let number = |name: &str| Encoding::Base64Url.decode(jwk[name].as_str()?);
        // Of another length they would be other numbers (RFC 7518, section 6.2.1).
        let coordinate = |name: &str| number(name).filter(|number| number.len() == 32);
        match (jwk["kty"].as_str()?, jwk["crv"].as_str()) {
            ("RSA", _) => Some(Self::RsaNumbers(number("n")?, number("e")?)),
            ("EC", Some("P-256")) => {
                Some(Self::P256([&[4][..], &coordinate("x")?, &coordinate("y")?].concat()))
            }
            ("OKP", Some("Ed25519")) => number("x")?.try_into().ok().and_then(Self::ed25519),
            _ => None,
        }
    }

    /// Whether the signature is one of `message`; `hash` matters for RSA alone.
    pub fn verifies(&self, message: &[u8], signature: &[u8], hash: Hash, ecdsa: Ecdsa) -> bool {
        let checked = match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Self::P256(key) => {
                let form: &dyn signature::VerificationAlgorithm = match ecdsa {
                    Ecdsa::Der => &ECDSA_P256_SHA256_ASN1,
                    Ecdsa::Fixed => &ECDSA_P256_SHA256_FIXED,
                };
                UnparsedPublicKey::new(form, key).verify(message, signature)
            }
            Self::Rsa(key) => UnparsedPublicKey::new(rsa(hash), key).verify(message, signature),
            Self::RsaNumbers(n, e) => RsaPublicKeyComponents { n, e }.verify(rsa(hash), message, signature),
        };
        checked.is_ok()
    }
}

/// ring has no check of its own for a key alone: a key exchange with it does one first.
fn is_on_curve(point: &[u8]) -> bool {
    let own = agreement::EphemeralPrivateKey::generate(&agreement::ECDH_P256, &SystemRandom::new());
    let other = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, point);
    own.is_ok_and(|own| agreement::agree_ephemeral(own, &other, |_| ()).is_ok())
}

/// Both numbers are big-endian.
fn is_sound_rsa(n: &[u8], e: &[u8]) -> bool {
    let n = trimmed(n);
    let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    // Up to 33 bits, as ring takes them.
    let e = trimmed(e);
    let is_small = e.len() < 5 || (e.len() == 5 && e[0] == 1);
    RSA_BITS.contains(&bits) && is_odd(n) && is_odd(e) && e != [1] && is_small
}

fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// Of a chain, the certificate that comes first: the sender's own.
fn first_block(text: &str) -> Option<&str> {
    let text = &text[text.find("-----BEGIN")?..];
    let end = text.find("-----END")?;
    let end = end + text[end..].find('\n').unwrap_or(text.len() - end);
    Some(text[..end].trim_end())
}

fn rsa(hash: Hash) -> &'static signature::RsaParameters {
    match hash {
        Hash::Sha1 => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        Hash::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::public_key::private::CERTIFICATE;

    #[test]
    fn a_key_that_proves_nothing_is_not_sound() {
        let own = PublicKey::parse(CERTIFICATE).unwrap();
        let PublicKey::Rsa(der) = &own else { panic!("{own:?}") };
        let numbers = Vec::<UintRef<'_>>::from_der(der).unwrap();
        let (n, e) = (numbers[0].as_bytes().to_vec(), numbers[1].as_bytes().to_vec());
        let even = [&n[..n.len() - 1], &[n[n.len() - 1] & 0xfe]].concat();
        assert!(own.is_sound() && PublicKey::RsaNumbers(n.clone(), e.clone()).is_sound());
        for (what, n, e) in [
            ("exponent 1", n.clone(), vec![1]),
            ("exponent 0", n.clone(), vec![0]),
            ("an even exponent", n.clone(), vec![2]),
            ("a large exponent", n.clone(), vec![0xff; 5]),
            ("an even modulus", even, e.clone()),
            ("1024 bits", n[..128].iter().copied().chain([1]).skip(1).collect(), e.clone()),
            ("nothing", Vec::new(), e),
        ] {
            assert!(!PublicKey::RsaNumbers(n, e).is_sound(), "{what}");
        }
        assert!(!PublicKey::Rsa(vec![0x30, 0]).is_sound());
        assert!(!PublicKey::P256([&[4][..], &[0; 64]].concat()).is_sound());
        assert_eq!(PublicKey::ed25519([0; 32]), None);
        let jwk =
            serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": Encoding::Base64Url.encode(&[0; 32])});
        assert_eq!(PublicKey::from_jwk(&jwk), None);
    }

    #[test]
    fn of_a_chain_the_first_certificate_counts() {
        let own = PublicKey::parse(CERTIFICATE).unwrap();
        let other = CERTIFICATE.replace("MII", "MIX");
        for chain in [
            format!("{CERTIFICATE}{other}"),
            format!("subject=/CN=hookpack tests\n{CERTIFICATE}\nissuer\n{other}{other}"),
            CERTIFICATE.trim_end().to_owned(),
            CERTIFICATE.replace('\n', "\r\n"),
        ] {
            assert_eq!(PublicKey::parse(&chain), Some(own.clone()), "{chain}");
        }
        let name = |text: &str| Regex::new(text).unwrap();
        assert_eq!(PublicKey::of_certificate(CERTIFICATE, &name("^hookpack tests$")), Some(own));
        assert_eq!(PublicKey::of_certificate(CERTIFICATE, &name("^other$")), None);
        for broken in [
            "",
            "-----BEGIN CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        ] {
            assert_eq!(PublicKey::parse(broken), None);
        }
    }
}
