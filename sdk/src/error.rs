//! Why no event comes of a delivery.

use std::{
    fmt::{self, Display, Formatter},
    num::{ParseFloatError, ParseIntError},
};

/// What a mapper returns: its events, or why there are none.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why no event comes of a delivery. [`skip`], [`invalid_payload`] and [`failed`] make one.
///
/// The reason goes into the request log, for a person to read. Keep what the sender sent out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The payload is none that this mapper understands: 422, or quarantine where the trigger says so.
    InvalidPayload(String),
    /// There is nothing to store: acknowledged with a 2xx and ignored, so that the sender doesn't send it again.
    Skip(String),
    /// The mapper or its settings are at fault: 422 or quarantine, and the trigger shows it.
    Failed(String),
}

/// There is nothing to store: the delivery is acknowledged and ignored.
///
/// ```
/// # use hookpack_sdk::{skip, Result};
/// fn branch(reference: &str) -> Result<&str> {
///     reference.strip_prefix("refs/heads/").ok_or_else(|| skip("not a branch"))
/// }
/// # assert_eq!(branch("refs/tags/v1"), Err(skip("not a branch")));
/// ```
pub fn skip(reason: impl Display) -> Error {
    Error::Skip(reason.to_string())
}

/// The payload is none that this mapper understands: the delivery is refused with 422 or quarantined.
///
/// It takes any error, so that it stands well behind `map_err`:
///
/// ```
/// # use hookpack_sdk::{invalid_payload, Result};
/// fn address(text: &str) -> Result<std::net::IpAddr> {
///     text.parse().map_err(invalid_payload)
/// }
/// # assert!(address("here").is_err());
/// ```
pub fn invalid_payload(reason: impl Display) -> Error {
    Error::InvalidPayload(reason.to_string())
}

/// The mapper or its settings are at fault, whatever the payload: the trigger shows it to who runs the host.
pub fn failed(reason: impl Display) -> Error {
    Error::Failed(reason.to_string())
}

impl Error {
    /// What [`skip`], [`invalid_payload`] or [`failed`] was given.
    pub fn reason(&self) -> &str {
        match self {
            Self::InvalidPayload(reason) | Self::Skip(reason) | Self::Failed(reason) => reason,
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::InvalidPayload(_) => "invalid payload",
            Self::Skip(_) => "skipped",
            Self::Failed(_) => "failed",
        };
        write!(f, "{kind}: {}", self.reason())
    }
}

impl std::error::Error for Error {}

/// JSON within the payload: [`Delivery::settings`](crate::Delivery::settings) and
/// [`Event::json`](crate::Event::json) know better whose fault it is.
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        invalid_payload(error)
    }
}

/// A number that the payload has as text.
impl From<ParseIntError> for Error {
    fn from(error: ParseIntError) -> Self {
        invalid_payload(error)
    }
}

/// A number that the payload has as text.
impl From<ParseFloatError> for Error {
    fn from(error: ParseFloatError) -> Self {
        invalid_payload(error)
    }
}
