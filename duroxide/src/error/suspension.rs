//! The reason why an instance is suspended.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ErrorCode, shortened};
use crate::clock::Timestamp;
use crate::id::{EventId, MessageId};

/// The reason why an instance is suspended, or one of its activities is parked. Stored as JSON with the instance.
///
/// `Display` shows each known detail on a line, with the recorded decision directly above the decision of the code:
///
/// ```text
/// DUR0001 (nondeterminism): call 3 has changed
///   event:    7
///   recorded: activity `charge`
///   asked:    activity `ship`
///   place:    src/checkout.rs:12:9
///   remedy:   deploy code that decides as recorded, or give the change a new version; then resume the instance
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// The code of the problem.
    pub code: ErrorCode,
    /// The problem, in one sentence.
    pub message: String,
    /// The event at which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventId>,
    /// The decision in the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
    /// The decision of the code, which differs from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The place in the source: file, line and column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The message that cannot be read, if it can be removed: see [`Handle::drop_message`](crate::Handle::drop_message).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<UnreadMessage>,
    /// The build of the node that suspended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Set if a client has paused it: then `message` is the reason that it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// The pause of an instance, from [`Handle::suspend`](crate::Handle::suspend).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The actor that the client acted for: see [`Client::with_note`](crate::Client::with_note).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The time of the request.
    pub since: Timestamp,
    /// The time at which it ends. `None`: it lasts until the instance is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Suspension {
    /// Creates a reason with only a code and a message.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            event: None,
            recorded: None,
            asked: None,
            place: None,
            unread: None,
            build: None,
            pause: None,
        }
    }

    /// Cuts the texts that exceed the limit of a message.
    pub(crate) fn shortened(mut self) -> Self {
        let details = [&mut self.recorded, &mut self.asked, &mut self.place, &mut self.build];
        for text in details.into_iter().flatten().chain([&mut self.message]) {
            *text = shortened(text);
        }
        self
    }
}

impl fmt::Display for Suspension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.code.name(), self.message)?;
        let event = self.event.map(|event| event.to_string());
        let unread = self.unread.map(|unread| unread.to_string());
        let pause = self.pause.as_ref();
        let (since, until) = (pause.map(|p| p.since.to_string()), pause.and_then(|p| p.until).map(|u| u.to_string()));
        let lines = [
            ("event:", event.as_deref()),
            ("recorded:", self.recorded.as_deref()),
            ("asked:", self.asked.as_deref()),
            ("place:", self.place.as_deref()),
            ("unread:", unread.as_deref()),
            ("build:", self.build.as_deref()),
            ("by:", pause.and_then(|pause| pause.by.as_deref())),
            ("since:", since.as_deref()),
            ("until:", until.as_deref()),
            ("remedy:", Some(self.code.remedy())),
        ];
        for (label, text) in lines {
            let Some(text) = text else { continue };
            // Further lines of a text are indented to its column.
            write!(f, "\n  {label:<9} {}", text.replace('\n', "\n            "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Suspension {}

/// Names a message of an instance that its function has not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnreadMessage {
    /// A message that no turn has delivered.
    Queued(MessageId),
    /// An external event that is recorded in the history of the current execution, and that no wait has consumed.
    Recorded(EventId),
}

impl fmt::Display for UnreadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queued(message) => write!(f, "message {message}"),
            Self::Recorded(event) => write!(f, "event {event}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Suspension {
        Suspension {
            event: Some(EventId(7)),
            recorded: Some("activity `charge`\ninput {..}".to_owned()),
            asked: Some("activity `ship`".to_owned()),
            place: Some("src/checkout.rs:12:9".to_owned()),
            unread: Some(UnreadMessage::Recorded(EventId(7))),
            build: Some("b1".to_owned()),
            ..Suspension::new(ErrorCode::Nondeterminism, "call 3 has changed")
        }
    }

    #[test]
    fn recorded_and_asked_for_are_aligned_in_the_text() {
        assert_eq!(
            full().to_string(),
            format!(
                "DUR0001 (nondeterminism): call 3 has changed\n  \
                   event:    7\n  \
                   recorded: activity `charge`\n            input {{..}}\n  \
                   asked:    activity `ship`\n  \
                   place:    src/checkout.rs:12:9\n  \
                   unread:   event 7\n  \
                   build:    b1\n  \
                   remedy:   {}",
                ErrorCode::Nondeterminism.remedy()
            )
        );
    }

    #[test]
    fn long_details_are_cut_visibly() {
        let long = || "x".repeat(1 << 20);
        let (recorded, asked) = (Some(long()), Some("short".to_owned()));
        let suspension = Suspension::new(ErrorCode::Nondeterminism, long());
        let suspension = Suspension { recorded, asked, place: Some(long()), build: Some(long()), ..suspension };
        let shown = suspension.shortened().to_string();
        assert!(shown.len() < 5 * super::super::MAX_MESSAGE, "{} bytes", shown.len());
        assert_eq!(shown.matches("bytes are left out]").count(), 4);
        assert_eq!(full().shortened(), full());
    }

    #[test]
    fn suspension_survives_serialization() {
        for suspension in [full(), Suspension::new(ErrorCode::CrashLoop, "3 crashes")] {
            let json = serde_json::to_string(&suspension).unwrap();
            assert_eq!(serde_json::from_str::<Suspension>(&json).unwrap(), suspension);
        }
        let bare = serde_json::to_value(Suspension::new(ErrorCode::CrashLoop, "a")).unwrap();
        assert_eq!(bare, serde_json::json!({"code": "DUR0007", "message": "a"}));
    }
}
