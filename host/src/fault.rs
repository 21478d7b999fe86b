//! Why the database does not store: one word for metrics, one sentence for readiness and the log.

/// What keeps writes from working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    DiskFull,
    ReadOnly,
    TooManyConnections,
    /// The role may not connect, or not write.
    Denied,
    Away,
}

impl Fault {
    pub const ALL: [Self; 5] =
        [Self::DiskFull, Self::ReadOnly, Self::TooManyConnections, Self::Denied, Self::Away];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk_full",
            Self::ReadOnly => "read_only",
            Self::TooManyConnections => "too_many_connections",
            Self::Denied => "denied",
            Self::Away => "away",
        }
    }

    pub const fn message(self) -> &'static str {
        match self {
            Self::DiskFull => "disk full: the database has no room for more",
            Self::ReadOnly => "read-only: the database takes no writes",
            Self::TooManyConnections => "too many connections: the database takes no more",
            Self::Denied => "denied: the database does not let this host's role write",
            Self::Away => "the database is away",
        }
    }
}
