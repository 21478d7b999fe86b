//! Which fault an error of the database stands for.

use crate::fault::Fault;

impl Fault {
    /// By the SQLSTATE; an error without one is a connection that was not made or is lost.
    pub fn of(error: &sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        match code.as_deref() {
            Some("53100") => Self::DiskFull,
            Some("25006") => Self::ReadOnly,
            Some("53300") => Self::TooManyConnections,
            // Invalid authorization, insufficient privilege.
            Some("28000" | "28P01" | "42501") => Self::Denied,
            _ => Self::Away,
        }
    }
}
