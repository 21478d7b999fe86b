//! Turns a webhook of the WhatsApp Business Cloud API into one event for every message, status and call.

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
    #[serde(borrow, default)]
    field: Cow<'a, str>,
    #[serde(borrow)]
    value: Value<'a>,
}

/// Other fields than `messages` and `calls` have values of other shapes, without any of these lists.
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
    #[serde(borrow, default)]
    calls: Vec<Members<'a>>,
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
    user_id: Option<String>,
}

#[derive(Default, Deserialize)]
struct Profile {
    name: Option<String>,
}

/// A message, a status or a call: which members it has depends on its type.
#[derive(Deserialize)]
#[serde(transparent)]
struct Members<'a>(#[serde(borrow)] BTreeMap<Cow<'a, str>, &'a RawValue>);

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
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
    Call {
        id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        profile_name: Option<&'a str>,
        phone_number_id: Option<&'a str>,
        timestamp: String,
        event: String,
        content: BTreeMap<Cow<'a, str>, &'a RawValue>,
    },
    CallStatus {
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
    for Change { field, value } in webhook.entry.into_iter().flat_map(|entry| entry.changes) {
        let Value { metadata, contacts, messages, statuses, calls } = value;
        for message in messages {
            events.push(message_event(message, &metadata, &contacts)?);
        }
        for status in statuses {
            events.push(status_event(status, &field, &metadata)?);
        }
        for call in calls {
            events.push(call_event(call, &metadata, &contacts)?);
        }
    }
    if events.is_empty() { Err(skip("neither messages nor statuses in it")) } else { Ok(events) }
}

fn message_event(mut message: Members<'_>, metadata: &Metadata, contacts: &[Contact]) -> Result<Event> {
    let (id, from) = (message.text("id")?, message.sender()?);
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

/// Of a message, or of a call that the business has made.
fn status_event(mut status: Members<'_>, field: &str, metadata: &Metadata) -> Result<Event> {
    let (id, name) = (status.text("id")?, status.text("status")?);
    // A message is sent, delivered and read: three statuses with one id. In a group each participant has their own.
    let key = match status.first(&["recipient_participant_id", "recipient_participant_user_id"])? {
        Some(participant) => format!("{id}:{name}:{participant}"),
        None => format!("{id}:{name}"),
    };
    let of_a_call = field == "calls" || status.first(&["type"])?.as_deref() == Some("call");
    let to = match status.optional("recipient_id")? {
        Some(number) => Some(number),
        None => status.first(&["recipient_user_id"])?,
    };
    let phone_number_id = metadata.phone_number_id.as_deref();
    let timestamp = status.time("timestamp")?;
    let normalized = if of_a_call {
        Normalized::CallStatus { id, to, phone_number_id, timestamp, status: name, content: status.0 }
    } else {
        Normalized::Status { id, to, phone_number_id, timestamp, status: name, content: status.0 }
    };
    Ok(Event::json(&normalized)?.with_key(key))
}

fn call_event(mut call: Members<'_>, metadata: &Metadata, contacts: &[Contact]) -> Result<Event> {
    let (id, event, from) = (call.text("id")?, call.text("event")?, call.sender()?);
    // A call connects and terminates: two events with one id.
    let key = format!("{id}:{event}");
    let normalized = Normalized::Call {
        id,
        profile_name: from.as_deref().and_then(|from| profile_name(contacts, from)),
        from,
        to: call.optional("to")?,
        phone_number_id: metadata.phone_number_id.as_deref(),
        timestamp: call.time("timestamp")?,
        event,
        content: call.0,
    };
    Ok(Event::json(&normalized)?.with_key(key))
}

/// The profile name of a phone number, or of a user who shows none.
fn profile_name<'a>(contacts: &'a [Contact], sender: &str) -> Option<&'a str> {
    let is_sender = |id: &Option<String>| id.as_deref() == Some(sender);
    let contact = contacts.iter().find(|contact| is_sender(&contact.wa_id) || is_sender(&contact.user_id))?;
    contact.profile.name.as_deref()
}

/// Each but `first` takes a member out; what remains is content.
impl Members<'_> {
    /// The sender's phone number, or the id of a user who shows none.
    fn sender(&mut self) -> Result<Option<String>> {
        match self.optional("from")? {
            Some(number) => Ok(Some(number)),
            None => self.first(&["from_user_id"]),
        }
    }

    /// The text of the first of these members that is there; it stays in.
    fn first(&self, names: &[&str]) -> Result<Option<String>> {
        for name in names {
            if let Some(text) = self.0.get(*name).map_or(Ok(None), |text| read(name, text))? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    fn text(&mut self, name: &str) -> Result<String> {
        self.optional(name)?.ok_or_else(|| invalid_payload(format_args!("`{name}` is missing")))
    }

    fn optional(&mut self, name: &str) -> Result<Option<String>> {
        self.0.remove(name).map_or(Ok(None), |text| read(name, text))
    }

    fn time(&mut self, name: &str) -> Result<String> {
        let seconds = self.text(name)?.parse().ok();
        seconds
            .and_then(time::rfc3339)
            .ok_or_else(|| invalid_payload(format_args!("`{name}` is not a time in unix seconds")))
    }
}

fn read(name: &str, text: &RawValue) -> Result<Option<String>> {
    serde_json::from_str(text.get()).map_err(|error| invalid_payload(format_args!("`{name}`: {error}")))
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
    fn each_reader_of_a_group_message_has_a_status_of_its_own() {
        let read = |participant: &str| {
            json!({
                "id": "wamid.G", "status": "read", "timestamp": "1749416383", "recipient_id": "HBgLgroup",
                "recipient_type": "group", "recipient_participant_id": participant,
            })
        };
        let statuses = json!([read("16505551234"), read("16505559876")]);
        let events = transformed(&webhook(&value("statuses", &statuses))).unwrap();
        assert_eq!(
            events.iter().map(Event::key).collect::<Vec<_>>(),
            [Some("wamid.G:read:16505551234"), Some("wamid.G:read:16505559876")]
        );
        let event = events[1].value();
        assert_eq!((&event["kind"], &event["to"]), (&json!("status"), &json!("HBgLgroup")));
        assert_eq!(event["content"]["recipient_participant_id"], "16505559876");
    }

    #[test]
    fn a_call_and_its_status_are_not_messages() {
        let mut payload = webhook(&value(
            "statuses",
            &json!([{"id": "wacid.C", "timestamp": "1749416383", "type": "call", "status": "RINGING", "recipient_id": "16505551234"}]),
        ));
        payload["entry"][0]["changes"][0]["field"] = json!("calls");
        payload["entry"][0]["changes"][0]["value"]["calls"] = json!([{
            "id": "wacid.D", "from": "16505551234", "to": "15550783881", "event": "connect", "timestamp": "1749416390",
            "direction": "USER_INITIATED", "session": {"sdp_type": "offer", "sdp": "v=0"},
        }]);
        let events = transformed(&payload).unwrap();
        let keys: Vec<_> = events.iter().map(Event::key).collect();
        assert_eq!(keys, [Some("wacid.C:RINGING"), Some("wacid.D:connect")]);
        let (status, call) = (events[0].value(), events[1].value());
        assert_eq!((&status["kind"], &status["to"]), (&json!("call_status"), &json!("16505551234")));
        assert_eq!((&call["kind"], &call["profile_name"]), (&json!("call"), &json!("Sheena Nelson")));
        assert_eq!(call["content"]["session"], json!({"sdp_type": "offer", "sdp": "v=0"}));
    }

    #[test]
    fn a_sender_without_a_number_keeps_id_and_name() {
        let payload = webhook(&json!({
            "metadata": {"phone_number_id": "106540352242922"},
            "contacts": [{"profile": {"name": "Sheena Nelson", "username": "sheena"}, "user_id": "US.13491208655302741918"}],
            "messages": [{
                "from_user_id": "US.13491208655302741918", "id": "wamid.U", "timestamp": "1749416383", "type": "text",
                "text": {"body": "Hello"},
            }],
        }));
        let event = transformed(&payload).unwrap()[0].value();
        assert_eq!(event["from"], "US.13491208655302741918");
        assert_eq!(event["profile_name"], "Sheena Nelson");
        assert_eq!(event["content"]["from_user_id"], "US.13491208655302741918");
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
