//! Turns a webhook of the WhatsApp Business Cloud API into one event for every message and every status.

mod time;

use std::{borrow::Cow, collections::BTreeMap};

use hookpack_sdk::{Delivery, Event, RawValue, Result, invalid_payload, mapper, serde_json, skip};
use serde::{Deserialize, Serialize};

// https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks/payload-examples
#[derive(Deserialize)]
struct Webhook<'a> {
    object: Cow<'a, str>,
    #[serde(borrow, default)]
    entry: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    changes: Vec<Change<'a>>,
}

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    value: Value<'a>,
}

/// Other fields than `messages` have values of other shapes; none of them has messages or statuses.
#[derive(Deserialize)]
struct Value<'a> {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    contacts: Vec<Contact>,
    #[serde(borrow, default)]
    messages: Vec<Members<'a>>,
    #[serde(borrow, default)]
    statuses: Vec<Members<'a>>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    phone_number_id: Option<String>,
}

#[derive(Deserialize)]
struct Contact {
    #[serde(default)]
    profile: Profile,
    wa_id: Option<String>,
}

#[derive(Default, Deserialize)]
struct Profile {
    name: Option<String>,
}

/// A message or a status: which members it has depends on its type.
#[derive(Deserialize)]
#[serde(transparent)]
struct Members<'a>(#[serde(borrow)] BTreeMap<Cow<'a, str>, &'a RawValue>);

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Normalized<'a> {
    Message {
        id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        profile_name: Option<&'a str>,
        phone_number_id: Option<&'a str>,
        timestamp: String,
        r#type: String,
        content: BTreeMap<Cow<'a, str>, &'a RawValue>,
    },
    Status {
        id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        phone_number_id: Option<&'a str>,
        timestamp: String,
        status: String,
        content: BTreeMap<Cow<'a, str>, &'a RawValue>,
    },
}

#[mapper]
fn transform(delivery: Delivery) -> Result<Vec<Event>> {
    let webhook: Webhook = delivery.json()?;
    if webhook.object != "whatsapp_business_account" {
        return Err(invalid_payload("`object` is not whatsapp_business_account"));
    }
    let mut events = Vec::new();
    for Change { value } in webhook.entry.into_iter().flat_map(|entry| entry.changes) {
        let Value { metadata, contacts, messages, statuses } = value;
        for message in messages {
            events.push(message_event(message, &metadata, &contacts)?);
        }
        for status in statuses {
            events.push(status_event(status, &metadata)?);
        }
    }
    if events.is_empty() { Err(skip("neither messages nor statuses in it")) } else { Ok(events) }
}

fn message_event(mut message: Members<'_>, metadata: &Metadata, contacts: &[Contact]) -> Result<Event> {
    let (id, from) = (message.text("id")?, message.optional("from")?);
    let normalized = Normalized::Message {
        id: id.clone(),
        profile_name: from.as_deref().and_then(|from| profile_name(contacts, from)),
        from,
        phone_number_id: metadata.phone_number_id.as_deref(),
        timestamp: message.time("timestamp")?,
        r#type: message.text("type")?,
        content: message.0,
    };
    Ok(Event::json(&normalized)?.with_key(id))
}

fn status_event(mut status: Members<'_>, metadata: &Metadata) -> Result<Event> {
    let (id, name) = (status.text("id")?, status.text("status")?);
    // A message is sent, delivered and read: three statuses with one id.
    let key = format!("{id}:{name}");
    let normalized = Normalized::Status {
        id,
        to: status.optional("recipient_id")?,
        phone_number_id: metadata.phone_number_id.as_deref(),
        timestamp: status.time("timestamp")?,
        status: name,
        content: status.0,
    };
    Ok(Event::json(&normalized)?.with_key(key))
}

fn profile_name<'a>(contacts: &'a [Contact], number: &str) -> Option<&'a str> {
    let contact = contacts.iter().find(|contact| contact.wa_id.as_deref() == Some(number))?;
    contact.profile.name.as_deref()
}

/// Each takes a member out; what remains is content.
impl Members<'_> {
    fn text(&mut self, name: &str) -> Result<String> {
        self.optional(name)?.ok_or_else(|| invalid_payload(format_args!("`{name}` is missing")))
    }

    fn optional(&mut self, name: &str) -> Result<Option<String>> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        serde_json::from_str(text.get()).map_err(|error| invalid_payload(format_args!("`{name}`: {error}")))
    }

    fn time(&mut self, name: &str) -> Result<String> {
        let seconds = self.text(name)?.parse().ok();
        seconds
            .and_then(time::rfc3339)
            .ok_or_else(|| invalid_payload(format_args!("`{name}` is not a time in unix seconds")))
    }
}

#[cfg(test)]
mod tests {
    use hookpack_sdk::{Value, json, testing};

    use super::*;

    fn webhook(value: &Value) -> Value {
        json!({
            "object": "whatsapp_business_account",
            "entry": [{"id": "102290129340398", "changes": [{"field": "messages", "value": value}]}],
        })
    }

    fn value(member: &str, items: &Value) -> Value {
        json!({
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "15550783881", "phone_number_id": "106540352242922"},
            "contacts": [{"profile": {"name": "Sheena Nelson"}, "wa_id": "16505551234"}],
            member: items,
        })
    }

    fn transformed(payload: &Value) -> Result<Vec<Event>> {
        transform(testing::delivery("whatsapp.messages").json(payload).build())
    }

    #[test]
    fn a_text_becomes_an_event_under_its_own_id() {
        let events = transformed(&webhook(&value(
            "messages",
            &json!([{
                "from": "16505551234",
                "id": "wamid.HBgLMTY1MDU1NTEyMzQ",
                "timestamp": "1749416383",
                "type": "text",
                "text": {"body": "Does it come in \"another\" colour? 🍐"},
                "context": {"from": "15550783881", "id": "wamid.EARLIER"},
            }]),
        )))
        .unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].key(), Some("wamid.HBgLMTY1MDU1NTEyMzQ"));
        assert_eq!(
            events[0].value(),
            json!({
                "kind": "message",
                "id": "wamid.HBgLMTY1MDU1NTEyMzQ",
                "from": "16505551234",
                "profile_name": "Sheena Nelson",
                "phone_number_id": "106540352242922",
                "timestamp": "2025-06-08T20:59:43Z",
                "type": "text",
                "content": {
                    "text": {"body": "Does it come in \"another\" colour? 🍐"},
                    "context": {"from": "15550783881", "id": "wamid.EARLIER"},
                },
            })
        );
    }

    #[test]
    fn each_status_of_a_message_has_its_own_key() {
        let status = |status: &str| {
            json!({
                "id": "wamid.A", "status": status, "timestamp": "1749416383", "recipient_id": "16505551234",
                "pricing": {"billable": true, "category": "service"},
            })
        };
        let events =
            transformed(&webhook(&value("statuses", &json!([status("sent"), status("delivered")])))).unwrap();
        assert_eq!(
            events.iter().map(Event::key).collect::<Vec<_>>(),
            [Some("wamid.A:sent"), Some("wamid.A:delivered")]
        );
        assert_eq!(
            events[1].value(),
            json!({
                "kind": "status",
                "id": "wamid.A",
                "to": "16505551234",
                "phone_number_id": "106540352242922",
                "timestamp": "2025-06-08T20:59:43Z",
                "status": "delivered",
                "content": {"pricing": {"billable": true, "category": "service"}},
            })
        );
    }

    #[test]
    fn a_type_that_nobody_knows_passes_through_to_the_last_digit() {
        let payload = r#"{"object": "whatsapp_business_account", "entry": [{"changes": [{"value": {
            "metadata": {"phone_number_id": "1"},
            "messages": [{"id": "wamid.N", "timestamp": "0", "type": "hologram",
                          "hologram": {"depth": 1.10, "big": 12345678901234567890123}}]}}]}]}"#;
        let events = transform(testing::delivery("whatsapp.messages").payload(payload).build()).unwrap();
        let untouched = r#"{"depth": 1.10, "big": 12345678901234567890123}"#;
        assert!(events[0].payload().contains(untouched), "{}", events[0].payload());
        assert_eq!(events[0].value()["timestamp"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn all_entries_and_changes_are_read_in_their_order() {
        let message = |id: &str| json!([{"id": id, "timestamp": "1", "type": "image", "image": {"id": "9"}}]);
        let payload = json!({
            "object": "whatsapp_business_account",
            "entry": [
                {"changes": [{"value": value("messages", &message("a"))}, {"value": {"event": "VERIFIED"}}]},
                {"changes": [{"value": value("messages", &message("b"))}]},
            ],
        });
        let events = transformed(&payload).unwrap();
        assert_eq!(events.iter().map(Event::key).collect::<Vec<_>>(), [Some("a"), Some("b")]);
        assert_eq!(events[0].value()["content"], json!({"image": {"id": "9"}}));
    }

    #[test]
    fn a_webhook_without_messages_and_statuses_is_skipped() {
        let nothing = Err(skip("neither messages nor statuses in it"));
        assert_eq!(transformed(&webhook(&json!({"event": "VERIFIED_ACCOUNT"}))), nothing);
        assert_eq!(transformed(&json!({"object": "whatsapp_business_account", "entry": []})), nothing);
    }

    #[test]
    fn what_is_not_of_whatsapp_or_not_whole_is_refused() {
        let message = |message: Value| webhook(&value("messages", &json!([message])));
        let cases = [
            (json!({"object": "page", "entry": []}), "`object` is not whatsapp_business_account"),
            (message(json!({"timestamp": "1", "type": "text"})), "`id` is missing"),
            (
                message(json!({"id": "a", "timestamp": "soon", "type": "text"})),
                "`timestamp` is not a time in unix seconds",
            ),
        ];
        for (payload, reason) in cases {
            assert_eq!(transformed(&payload), Err(invalid_payload(reason)));
        }
    }
}
