//! Identifiers, one newtype for each kind.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest instance id that a user may choose, in bytes.
pub const MAX_INSTANCE_ID: usize = 255;
/// The limit of a derived instance id: a child without an id of its own derives it from the parent's.
pub(crate) const MAX_DERIVED_INSTANCE_ID: usize = 2048;
/// Longest name of an orchestration, an activity or an event, in bytes.
pub const MAX_NAME: usize = 128;

/// The name of an instance: 1 to [`MAX_INSTANCE_ID`] bytes without control characters, chosen by the user.
///
/// Cheap to clone.
///
/// ```
/// use duroxide::InstanceId;
/// let id = InstanceId::new("order-17").unwrap();
/// assert_eq!(id.as_str(), "order-17");
/// assert!(InstanceId::new("").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// Checks an id that a user chose.
    ///
    /// # Errors
    /// [`InvalidId`] if it is empty, longer than [`MAX_INSTANCE_ID`] bytes, or holds a control character.
    pub fn new(id: impl AsRef<str>) -> Result<Self, InvalidId> {
        Self::checked(id.as_ref(), MAX_INSTANCE_ID)
    }

    /// Returns the default id of a child: unique for each parent execution and call.
    pub(crate) fn derived(parent: &ExecutionId, call: CallId) -> Result<Self, InvalidId> {
        let id = format!("{}:{}.{}", parent.instance, parent.number, call.0);
        Self::checked(&id, MAX_DERIVED_INSTANCE_ID)
    }

    fn checked(id: &str, max: usize) -> Result<Self, InvalidId> {
        check_text("instance id", id, max)?;
        Ok(Self(id.into()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for InstanceId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InvalidId;
    fn try_from(id: String) -> Result<Self, InvalidId> {
        Self::checked(&id, MAX_DERIVED_INSTANCE_ID)
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> String {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A name or an id that cannot be used, with the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {rule}")]
pub struct InvalidId {
    what: &'static str,
    value: String,
    rule: String,
}

/// Checks a name or an id against the rules that all of them share.
pub(crate) fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), InvalidId> {
    let rule = if text.is_empty() {
        "is empty".to_owned()
    } else if text.len() > max {
        format!("has {} bytes; the limit is {max}", text.len())
    } else if text.chars().any(char::is_control) {
        "holds a control character".to_owned()
    } else {
        return Ok(());
    };
    let value = text.chars().take(80).collect();
    Err(InvalidId { what, value, rule })
}

/// One execution of an instance. Continue-as-new starts number n + 1 under the same instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExecutionId {
    /// The instance.
    pub instance: InstanceId,
    /// The number of the execution, from 1.
    pub number: u64,
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.instance, self.number)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number! {
    /// The position of an event in the history of one execution, from 1. Zero is the position before the first event.
    EventId
}
number! {
    /// The number of a durable call within one execution, from 1: claimed when the call is *built*, so that the order
    /// of polling cannot change the number of a call.
    CallId
}
number! {
    /// A term of ownership. Every join of a node gets a new one, greater than all before it.
    Epoch
}

impl EventId {
    /// Returns the next position.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

macro_rules! random {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Creates a random id that sorts by the millisecond of its creation.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "a default would be random")]
            pub fn new() -> Self {
                Self(crate::random::sortable_id())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

random! {
    /// A node: one running `Runtime`.
    NodeId
}
random! {
    /// A message in the queue of an instance. The sender chooses the id, so that sending the message again does not
    /// duplicate it.
    MessageId
}
random! {
    /// One commit of a turn or an outcome. A commit that is sent again is recognised by its id.
    CommitId
}

/// A scheduled activity: its execution and its call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActivityId {
    /// The execution that scheduled it.
    pub execution: ExecutionId,
    /// Its call.
    pub call: CallId,
}

impl fmt::Display for ActivityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.execution, self.call)
    }
}
