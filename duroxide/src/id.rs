//! Identifiers: one type for each kind of object, so that they cannot be confused.
//!
//! A provider needs most of them; a program that only starts and reads instances needs [`InstanceId`]. The page
//! [Architecture] defines the objects.
//!
//! [Architecture]: https://github.com/duroxide/duroxide/blob/main/docs/architecture.md#words

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use semver::Version;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The limit of the name of an orchestration, an activity or an event, and of a tag, in bytes.
pub const MAX_NAME_LEN: usize = 128;

/// The name of an instance: 1 to [`MAX_LEN`](Self::MAX_LEN) bytes without control characters.
///
/// A user may choose any id that does not begin with `~`, which is reserved for the derived ids of children.
///
/// Cheap to clone.
///
/// ```
/// use duroxide::InstanceId;
/// let id = InstanceId::new("order-17").unwrap();
/// assert_eq!(id.as_str(), "order-17");
/// assert!(InstanceId::new("").is_err());
/// assert!(InstanceId::new("~order-17").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// The limit of an instance id, in bytes.
    pub const MAX_LEN: usize = 255;
    /// The first character of each derived id.
    const DERIVED: char = '~';
    /// The number of bytes of its ancestor's id that a derived id shows, for readers.
    const SHOWN: usize = 64;

    /// Checks an id that a user chose.
    ///
    /// # Errors
    /// [`InvalidId`] if it is empty, longer than [`MAX_LEN`](Self::MAX_LEN) bytes, begins with `~`, or holds a control
    /// character.
    pub fn new(id: impl AsRef<str>) -> Result<Self, InvalidId> {
        let id = id.as_ref();
        if id.starts_with(Self::DERIVED) {
            let rule = "begins with `~`, which is reserved for derived ids of children".to_owned();
            return Err(InvalidId::new("instance id", id, rule));
        }
        Self::checked(id)
    }

    /// Returns the default id of a child: `~order-17.<identity of the parent>.<execution>.<call>`, with the identity in
    /// 22 characters of base64, since the id is stored several times per child.
    ///
    /// It is unique because the identity is, it cannot be chosen, and it does not grow with the depth of the family:
    /// the readable part is that of the nearest ancestor with an id of its own.
    pub(crate) fn derived(parent: &ExecutionId, call: CallId) -> Self {
        let ExecutionId { instance, identity, number } = parent;
        let shown = match instance.0.strip_prefix(Self::DERIVED) {
            // Behind the readable part come the identity, the number of the execution and the call.
            Some(derived) => derived.rsplitn(4, '.').nth(3).unwrap_or(derived),
            None => &instance.0,
        };
        let mut end = shown.len().min(Self::SHOWN);
        while !shown.is_char_boundary(end) {
            end -= 1;
        }
        let shown = &shown[..end];
        let identity = BASE64_URL_SAFE_NO_PAD.encode(identity.0);
        Self(format!("{}{shown}.{identity}.{number}.{call}", Self::DERIVED).into())
    }

    /// Returns true if this is a derived id of a child that was started by this call.
    ///
    /// Neither the identity nor the number of the execution is compared: histories are also replayed under others, as in a
    /// test, or after a reset.
    pub(crate) fn is_derived_for(&self, call: CallId) -> bool {
        let Some((before, last)) = self.0.rsplit_once('.') else { return false };
        // Before identities existed, a derived id was `parent:execution.call`.
        let is_old = || before.rsplit_once(':').is_some_and(|(_, number)| number.parse::<u64>().is_ok());
        last == call.to_string() && (before.starts_with(Self::DERIVED) || is_old())
    }

    fn checked(id: &str) -> Result<Self, InvalidId> {
        check_text("instance id", id, Self::MAX_LEN)?;
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
        Self::checked(&id)
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
#[error("{subject} {value:?} {rule}")]
pub struct InvalidId {
    subject: &'static str,
    value: String,
    rule: String,
}

impl InvalidId {
    fn new(subject: &'static str, text: &str, rule: String) -> Self {
        Self { subject, value: text.chars().take(80).collect(), rule }
    }
}

/// Checks a name or an id against the rules that all of them share. `subject` names it in the error.
pub(crate) fn check_text(subject: &'static str, text: &str, max: usize) -> Result<(), InvalidId> {
    let rule = if text.is_empty() {
        "is empty".to_owned()
    } else if text.len() > max {
        format!("has {} bytes; the limit is {max}", text.len())
    } else if text.chars().any(char::is_control) {
        "holds a control character".to_owned()
    } else {
        return Ok(());
    };
    Err(InvalidId::new(subject, text, rule))
}

/// Parses a version, whose length semver does not limit.
pub(crate) fn parse_version(text: &str) -> Result<Version, InvalidId> {
    check_text("version", text, MAX_NAME_LEN)?;
    let not_semver = |error| InvalidId::new("version", text, format!("is not semver (like 1.2.0): {error}"));
    Version::parse(text).map_err(not_semver)
}

/// One execution of an instance. Continue-as-new starts number n + 1 under the same instance.
///
/// It carries the identity of the instance, so that leftovers of a removed instance (a running activity, a child, an
/// idempotency key) are not mistaken for those of a later instance with the same id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionId {
    /// The id of the instance.
    pub instance: InstanceId,
    /// The identity of the instance.
    #[serde(default, skip_serializing_if = "Identity::is_unknown")]
    pub identity: Identity,
    /// The number of the execution, from 1.
    pub number: u64,
}

impl ExecutionId {
    /// Returns the execution that continues this one.
    #[must_use]
    pub fn next(&self) -> Self {
        Self { number: self.number + 1, ..self.clone() }
    }
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
            #[allow(clippy::new_without_default, reason = "a default would be random; `Identity` has another")]
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

random! {
    /// An entry of the audit.
    AuditId
}
random! {
    /// A batch of actions: all entries of the audit that belong to it name it.
    BatchId
}

random! {
    /// The identity of an instance. It is never reused, although the id of the instance may be. It equals the id of the
    /// message that started the instance.
    Identity
}

impl Identity {
    /// Replaces the identity of an instance in a history that was recorded before identities existed.
    pub const UNKNOWN: Self = Self(Uuid::nil());

    /// Returns true if the identity was not recorded.
    pub fn is_unknown(&self) -> bool {
        *self == Self::UNKNOWN
    }

    /// Returns true if both name one instance, or one of them is unknown.
    pub fn matches(self, other: Self) -> bool {
        self == other || self.is_unknown() || other.is_unknown()
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl From<MessageId> for Identity {
    fn from(start: MessageId) -> Self {
        Self(start.0)
    }
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
