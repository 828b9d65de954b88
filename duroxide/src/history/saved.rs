//! An event as JSON, to keep a history in a file.

use std::fmt;
use std::sync::Arc;

use serde::de::{Error as _, Unexpected, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::{EventKind, FORMAT, HistoryEvent};
use crate::clock::Timestamp;
use crate::id::EventId;
use crate::payload::Payload;

/// The form of an event in a file. It has the fields of a stored row, and a readable time.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedEvent {
    pub(crate) id: EventId,
    pub(crate) time: Time,
    pub(crate) decision: bool,
    pub(crate) format: u16,
    pub(crate) data: Box<RawValue>,
    pub(crate) payload: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<Box<str>>,
}

/// A readable time.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Time(#[serde(with = "rfc_3339")] pub(crate) Timestamp);

/// As JSON with `serde_json`: the value keeps its text, to the last digit. Later versions of the library read it.
///
/// ```
/// # use duroxide::history::{EventKind, HistoryEvent, Input};
/// # use duroxide::{Payload, Timestamp};
/// # let (id, kind) = (duroxide::id::EventId(3), EventKind::Input(Input::raised("approval")));
/// # let event = HistoryEvent { id, time: Timestamp::from_micros(0), kind, payload: Payload::encode("Ada")?, at: None };
/// let json = serde_json::to_string(&event)?;
/// assert!(json.starts_with(r#"{"id":3,"time":"1970-01-01T00:00:00.000000Z""#));
/// assert_eq!(serde_json::from_str::<HistoryEvent>(&json)?, event);
/// # Ok::<_, duroxide::Error>(())
/// ```
impl Serialize for HistoryEvent {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (decision, format, data) = match &self.kind {
            EventKind::Input(input) => (false, input.format(), to_raw_value(input)),
            EventKind::Decision(decision) => (true, decision.format(), to_raw_value(decision)),
        };
        let payload = RawValue::from_string(self.payload.to_string());
        SavedEvent {
            id: self.id,
            time: Time(self.time),
            decision,
            format,
            data: data.map_err(S::Error::custom)?,
            payload: payload.map_err(|_| S::Error::custom("the value of the event is not JSON"))?,
            at: self.at.as_deref().map(Box::from),
        }
        .serialize(to)
    }
}

impl<'de> Deserialize<'de> for HistoryEvent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::try_from(&SavedEvent::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl TryFrom<&SavedEvent> for HistoryEvent {
    type Error = String;

    fn try_from(saved: &SavedEvent) -> Result<Self, String> {
        let SavedEvent { id, time: Time(time), decision, format, data, payload, at } = saved;
        if *format > FORMAT {
            return Err(format!("event {id} has format {format}, this version reads up to {FORMAT}"));
        }
        let kind = if *decision {
            serde_json::from_str(data.get()).map(EventKind::Decision)
        } else {
            serde_json::from_str(data.get()).map(EventKind::Input)
        };
        let kind = kind.map_err(|error| format!("event {id}: {error}"))?;
        let payload = Payload::from_json_bytes(payload.get().as_bytes().to_vec());
        Ok(Self { id: *id, time: *time, kind, payload, at: at.as_deref().map(Arc::from) })
    }
}

/// Writes a time as RFC 3339, with microseconds. Reads that, or a number of microseconds, as in a stored row.
mod rfc_3339 {
    use super::*;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{time:.6}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        from.deserialize_any(Time)
    }

    struct Time;

    impl Visitor<'_> for Time {
        type Value = Timestamp;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a time by RFC 3339, or a number of microseconds since the Unix epoch")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
            text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }

        fn visit_i64<E: serde::de::Error>(self, micros: i64) -> Result<Timestamp, E> {
            Ok(Timestamp::from_micros(micros))
        }

        fn visit_u64<E: serde::de::Error>(self, micros: u64) -> Result<Timestamp, E> {
            let signed = i64::try_from(micros).map_err(|_| E::invalid_value(Unexpected::Unsigned(micros), &self));
            signed.map(Timestamp::from_micros)
        }
    }
}
