//! Public keys as senders publish them: PEM, certificates, base64, JSON Web Keys.

use regex::Regex;
use ring::signature::{
    self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::Value;
use x509_cert::{
    Certificate,
    der::{Decode, Encode, pem},
    spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned},
};

use super::digest::{Encoding, Hash};

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

impl PublicKey {
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
            ED25519_OID => key.try_into().ok().map(Self::Ed25519),
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
            ("OKP", Some("Ed25519")) => number("x")?.try_into().ok().map(Self::Ed25519),
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
