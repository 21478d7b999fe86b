//! Deleting stored events: one that should not be there, or everything that is about one person.

use serde_json::json;
use uuid::Uuid;

use super::{Actor, Denied, Trail};
use crate::{host::Host, store::events};

/// Deletes one event and what else is kept of its request. The audit trail gets its ids and its trigger, nothing of its
/// payload.
pub async fn delete(host: &Host, actor: &Actor, id: Uuid) -> Result<(), Denied> {
    let mut transaction = host.pool.begin().await?;
    let row = events::delete(&mut *transaction, id).await?;
    let row = row.ok_or_else(|| Denied::NotFound(format!("event {id}")))?;
    let subject = id.to_string();
    let detail = json!({"trigger_ref": row.trigger_ref, "request_id": row.request_id});
    Trail { action: "event.delete", subject: &subject, detail }.write(&mut transaction, host, actor).await?;
    transaction.commit().await?;
    Ok(())
}
