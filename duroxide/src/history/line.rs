//! An event as one line for people.

use std::fmt::{self, Display, Formatter, Write};

use super::{ActivityScheduled, ChildScheduled, Decision, EventKind, Failure, HistoryEvent, Input};

/// The longest part of a value that is shown, in bytes.
const SHOWN: usize = 1_000;

/// One line: the number of the event, its time, `<-` for an input or `->` for a decision, its description, and its value.
/// It shows the value, which may hold secrets: [`Debug`] does not. A value of more than 1,000 bytes is cut off.
///
/// ```
/// # use duroxide::history::{EventKind, HistoryEvent, Input};
/// # use duroxide::{Payload, Timestamp};
/// let event = HistoryEvent {
///     id: duroxide::id::EventId(3),
///     time: Timestamp::from_micros(0),
///     kind: EventKind::Input(Input::raised("approval")),
///     payload: Payload::encode("Ada")?,
///     at: None,
/// };
/// assert_eq!(event.to_string(), r#"3 1970-01-01T00:00:00.000Z <- event `approval`: "Ada""#);
/// # Ok::<_, duroxide::payload::PayloadError>(())
/// ```
impl Display for HistoryEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.id, self.time)?;
        let mut line = OneLine(f);
        match &self.kind {
            EventKind::Input(input) => write!(line, "<- {input}")?,
            EventKind::Decision(decision) => write!(line, "-> {decision}")?,
        }
        if self.payload.is_null() {
            return Ok(());
        }
        let text = self.payload.to_string();
        match text.char_indices().map(|(at, _)| at).find(|at| *at >= SHOWN) {
            Some(end) => write!(line, ": {}.. ({} bytes)", &text[..end], text.len()),
            None => write!(line, ": {text}"),
        }
    }
}

/// Escapes control characters, such as the line ends of a panic.
struct OneLine<'a, 'f>(&'a mut Formatter<'f>);

impl Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            let plain = part.trim_end_matches(char::is_control);
            write!(self.0, "{plain}{}", part[plain.len()..].escape_default())?;
        }
        Ok(())
    }
}

/// The author of a request.
struct By<'a>(Option<&'a str>);

impl Display for By<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |by| write!(f, " by {by}"))
    }
}

impl Display for Input {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(started) => match &started.version {
                Some(version) => write!(f, "start of `{}` {version}", started.name),
                None => write!(f, "start of `{}`", started.name),
            },
            Self::ActivityCompleted { call, .. } => write!(f, "call {call}: the activity completed"),
            Self::ActivityFailed { call, failure, .. } => write!(f, "call {call}: the activity {failure}"),
            Self::TimerFired { call } => write!(f, "call {call}: the timer fired"),
            Self::EventRaised { name, by, .. } => write!(f, "event `{name}`{}", By(by.as_deref())),
            Self::EventDropped { event } => write!(f, "event {event} removed by an operator"),
            Self::ChildCompleted { call } => write!(f, "call {call}: the child completed"),
            Self::ChildFailed { call, failure, .. } => write!(f, "call {call}: the child {failure}"),
            Self::StartAccepted { call } => write!(f, "call {call}: started"),
            Self::StartRejected { call, reason } => write!(f, "call {call}: not started: {reason}"),
            Self::CancelRequested { reason, by, .. } => {
                write!(f, "request to cancel{}: {reason}", By(by.as_deref()))
            }
            Self::TerminateRequested { reason, by, .. } => {
                write!(f, "request to terminate{}: {reason}", By(by.as_deref()))
            }
        }
    }
}

impl Display for Decision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::ActivityScheduled(activity) => activity.fmt(f),
            Self::TimerCreated { call, due } => write!(f, "call {call}: timer, due {due}"),
            Self::EventAwaited { call, name } => write!(f, "call {call}: wait for event `{name}`"),
            Self::ChildScheduled(child) => child.fmt(f),
            Self::CallRejected { call, operation, reason } => {
                write!(f, "call {call}: {operation} refused: {reason}")
            }
            Self::CallDropped { call } => write!(f, "call {call}: dropped"),
            Self::Completed => f.write_str("completed"),
            Self::Failed { failure } => failure.fmt(f),
            Self::Cancelled { reason } => write!(f, "cancelled: {reason}"),
            Self::Terminated { reason, by } => write!(f, "terminated{}: {reason}", By(by.as_deref())),
            Self::ContinuedAsNew { version: None } => f.write_str("continue as new"),
            Self::ContinuedAsNew { version: Some(version) } => write!(f, "continue as new, version {version}"),
        }
    }
}

impl Display for ActivityScheduled {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "call {}: activity `{}`", self.call, self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ", tag `{tag}`")?;
        }
        f.write_str(if self.detached { ", detached" } else { "" })
    }
}

impl Display for ChildScheduled {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = if self.detached { "detached start of" } else { "child" };
        write!(f, "call {}: {kind} `{}`", self.call, self.name)?;
        if let Some(version) = &self.version {
            write!(f, " {version}")?;
        }
        match &self.instance {
            Some(instance) => write!(f, " as {instance}"),
            None => Ok(()),
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application => f.write_str("failed"),
            Self::Panicked { message } => write!(f, "panicked: {message}"),
            Self::TimedOut { limit, .. } => write!(f, "timed out: {limit}"),
            Self::Cancelled { reason } => write!(f, "was cancelled: {reason}"),
            Self::Terminated { reason } => write!(f, "was terminated: {reason}"),
            Self::Rejected { reason } => write!(f, "was refused: {reason}"),
        }
    }
}
