//! The calls that an execution waits for, as a short text by which instances are found and counted.

use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;

/// The calls that an instance waits for. A projection of its history, for people: the turn that leaves the calls open stores
/// it, and the next turn replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waits {
    /// The calls: the text of an [`Awaited`]. A provider stores it and does not interpret it.
    pub text: String,
    /// When the call was made; if there are several, the last one of them.
    pub since: Timestamp,
    /// When the first open timer is due: the instance waits no longer than that.
    pub until: Option<Timestamp>,
}

impl Waits {
    /// Returns the calls, or `None` if a newer version has written a text that this one cannot read.
    pub fn awaited(&self) -> Option<Awaited> {
        self.text.parse().ok()
    }
}

/// The open calls of an execution: their kind, and the name if there is one call, or if all are events of one name. A timer
/// beside other calls is not counted: it is the limit of their wait ([`Waits::until`]). A request to cancel is not a call.
///
/// ```
/// use duroxide::history::Awaited;
/// assert_eq!(Awaited::Event("Approval".to_owned()).to_string(), "e:Approval");
/// assert_eq!("a*37".parse(), Ok(Awaited::Activities(37)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Awaited {
    /// One activity, by its name: `a:charge_card`.
    Activity(String),
    /// Several activities: `a*37`.
    Activities(u64),
    /// One external event, or several of one name: `e:Approval`.
    Event(String),
    /// Several external events of different names: `e*2`.
    Events(u64),
    /// One child orchestration, or detached start, by the name of the orchestration: `c:ship`.
    Child(String),
    /// Several children: `c*12`.
    Children(u64),
    /// Nothing but timers: `t`.
    Timer,
    /// Calls of several kinds: `*3`.
    Calls(u64),
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activity(name) => write!(f, "a:{name}"),
            Self::Activities(n) => write!(f, "a*{n}"),
            Self::Event(name) => write!(f, "e:{name}"),
            Self::Events(n) => write!(f, "e*{n}"),
            Self::Child(name) => write!(f, "c:{name}"),
            Self::Children(n) => write!(f, "c*{n}"),
            Self::Timer => f.write_str("t"),
            Self::Calls(n) => write!(f, "*{n}"),
        }
    }
}

impl Awaited {
    /// Returns the text of one call with this name.
    pub(crate) fn text_of_one(kind: AwaitedKind, name: &str) -> String {
        let mut text = String::with_capacity(name.len() + 2);
        text.extend([kind.prefix(), ':']);
        text.push_str(name);
        text
    }
}

/// The error of a text that is not one of an [`Awaited`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the text does not name awaited calls")]
pub struct NotAwaited;

impl FromStr for Awaited {
    type Err = NotAwaited;

    fn from_str(text: &str) -> Result<Self, NotAwaited> {
        if text == "t" {
            return Ok(Self::Timer);
        }
        if let Some((kind, name)) = text.split_once(':').filter(|(kind, _)| kind.len() == 1) {
            let name = name.to_owned();
            return match kind {
                "a" => Ok(Self::Activity(name)),
                "e" => Ok(Self::Event(name)),
                "c" => Ok(Self::Child(name)),
                _ => Err(NotAwaited),
            };
        }
        let (kind, n) = text.split_once('*').ok_or(NotAwaited)?;
        let n = n.parse().map_err(|_| NotAwaited)?;
        match kind {
            "a" => Ok(Self::Activities(n)),
            "e" => Ok(Self::Events(n)),
            "c" => Ok(Self::Children(n)),
            "" => Ok(Self::Calls(n)),
            _ => Err(NotAwaited),
        }
    }
}

/// A kind of awaited calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AwaitedKind {
    /// One or several activities.
    Activity,
    /// One or several external events.
    Event,
    /// One or several children.
    Child,
    /// Nothing but timers.
    Timer,
    /// Calls of several kinds.
    Mixed,
}

impl AwaitedKind {
    /// Returns the first character of the texts of this kind. No other kind has it.
    pub fn prefix(self) -> char {
        match self {
            Self::Activity => 'a',
            Self::Event => 'e',
            Self::Child => 'c',
            Self::Timer => 't',
            Self::Mixed => '*',
        }
    }
}

/// A condition on the calls that an instance waits for: calls of one kind, or one call with this name.
///
/// An instance that waits for several calls at once is found by their kind alone, since their names are not recorded;
/// except for several events of one name.
///
/// ```
/// use duroxide::history::{AwaitedKind, WaitsFilter};
/// assert!(WaitsFilter::event("Approval").matches("e:Approval"));
/// assert!(WaitsFilter::from(AwaitedKind::Activity).matches("a*37"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct WaitsFilter {
    /// The kind.
    pub kind: AwaitedKind,
    /// The name. Without effect on [`AwaitedKind::Timer`] and [`AwaitedKind::Mixed`], whose calls have none.
    pub name: Option<String>,
}

impl WaitsFilter {
    /// Finds the instances that wait for events of this name alone.
    pub fn event(name: impl Into<String>) -> Self {
        Self { kind: AwaitedKind::Event, name: Some(name.into()) }
    }

    /// Finds the instances that wait for the activity of this name alone.
    pub fn activity(name: impl Into<String>) -> Self {
        Self { kind: AwaitedKind::Activity, name: Some(name.into()) }
    }

    /// Finds the instances that wait for one child, whose orchestration has this name.
    pub fn child(name: impl Into<String>) -> Self {
        Self { kind: AwaitedKind::Child, name: Some(name.into()) }
    }

    /// Returns the only text that matches, if there is a name. Without one, all texts with the
    /// [`prefix`](AwaitedKind::prefix) of the kind match.
    pub fn exact(&self) -> Option<String> {
        let name = self.name.as_deref()?;
        let named = matches!(self.kind, AwaitedKind::Activity | AwaitedKind::Event | AwaitedKind::Child);
        named.then(|| format!("{}:{name}", self.kind.prefix()))
    }

    /// Returns true if a recorded text matches.
    pub fn matches(&self, text: &str) -> bool {
        match self.exact() {
            Some(exact) => text == exact,
            None => text.starts_with(self.kind.prefix()),
        }
    }
}

impl From<AwaitedKind> for WaitsFilter {
    fn from(kind: AwaitedKind) -> Self {
        Self { kind, name: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_awaited_calls_are_read_again() {
        let name = || "a:b*3".to_owned();
        for awaited in [
            Awaited::Activity(name()),
            Awaited::Activities(2),
            Awaited::Event(name()),
            Awaited::Events(10_000),
            Awaited::Child(name()),
            Awaited::Children(3),
            Awaited::Timer,
            Awaited::Calls(7),
        ] {
            assert_eq!(awaited.to_string().parse(), Ok(awaited));
        }
        for text in ["", "x", "x:y", "x*3", "a", "a*", "a*b", "tt"] {
            assert_eq!(text.parse::<Awaited>(), Err(NotAwaited), "{text:?}");
        }
    }

    #[test]
    fn filters_match_a_kind_or_one_name() {
        let events = WaitsFilter::from(AwaitedKind::Event);
        assert!(events.matches("e:Approval") && events.matches("e*2") && !events.matches("a:e"));
        let approval = WaitsFilter::event("Approval");
        assert!(approval.matches("e:Approval") && !approval.matches("e*2") && !approval.matches("e:Approval2"));
        let mixed = WaitsFilter { name: Some("x".to_owned()), ..AwaitedKind::Mixed.into() };
        assert!(mixed.matches("*3") && !mixed.matches("a*3"));
    }
}
