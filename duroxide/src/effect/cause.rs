//! Fingerprints of failures: failures with one cause have one text, regardless of the order, card or host that they concern.
//!
//! A fingerprint is the variant of an error, or its code, and its message, without the parts that differ between instances:
//! words with digits and quoted text are blanked. It is at most [`LIMIT`] bytes long.

use serde_json::Value;

use crate::history::Failure;
use crate::payload::Payload;
use crate::policy::Timeout;
use crate::provider::Turn;

/// The longest fingerprint, in bytes.
const LIMIT: usize = Turn::MAX_CAUSE;
/// The part of a message that is read, in bytes.
const READ: usize = 1024;
/// Stands for a word that is left out.
const BLANK: char = '#';

/// The part of failures that is recorded as their cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Causes {
    /// The kind of the failure and the blanked message.
    Messages,
    /// The kind of the failure alone, since messages may hold secrets that blanking does not find.
    Kinds,
}

impl Causes {
    /// Returns the cause of a failure of user code. `error` is its value, if it has one.
    pub(crate) fn of_failure(self, failure: &Failure, error: &Payload) -> String {
        let (kind, message) = match failure {
            Failure::Application => return self.of_error(error),
            Failure::Panicked { message } => ("panic", message.as_str()),
            Failure::TimedOut { limit: Timeout::StartToClose, .. } => ("start-to-close time-out", ""),
            Failure::TimedOut { limit: Timeout::ScheduleToClose, .. } => ("schedule-to-close time-out", ""),
            Failure::Cancelled { reason } => ("cancelled", reason.as_str()),
            Failure::Terminated { reason } => ("terminated", reason.as_str()),
            Failure::Rejected { reason } => ("rejected", reason.as_str()),
        };
        self.named(kind, message)
    }

    /// Returns the cause of a suspension, which begins with its code.
    pub(crate) fn of_suspension(self, code: &str, message: &str) -> String {
        self.named(code, message)
    }

    fn of_error(self, error: &Payload) -> String {
        let value = match self {
            Self::Messages => error.decode::<Value>().unwrap_or(Value::Null),
            Self::Kinds => Value::Null,
        };
        let text = described(&value).unwrap_or_default();
        if text.is_empty() { "error".to_owned() } else { text }
    }

    fn named(self, kind: &str, message: &str) -> String {
        match self {
            Self::Messages if !message.is_empty() => cut(&format!("{kind}: {}", blanked(message))),
            _ => kind.to_owned(),
        }
    }
}

/// Describes an error value: a text, a value with a message, or a variant of an enum as serde writes it.
fn described(value: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(blanked);
    let object = match value {
        Value::Object(object) => object,
        other => return text(other).map(|text| cut(&text)),
    };
    if let Some(message) = object.get("message").and_then(text) {
        let tag = ["code", "kind", "type"].iter().find_map(|tag| object.get(*tag).and_then(text));
        let causes = object.get("causes").and_then(Value::as_array).into_iter().flatten().filter_map(text);
        let parts: Vec<String> = tag.into_iter().chain([message]).chain(causes).collect();
        return Some(cut(&parts.join(": ")));
    }
    let mut fields = object.iter();
    let (Some((variant, content)), None) = (fields.next(), fields.next()) else {
        let tag = ["code", "kind", "type", "error"].iter().find_map(|tag| object.get(*tag).and_then(text));
        return tag.map(|tag| cut(&tag));
    };
    let variant = blanked(variant);
    // Other fields than a message are data.
    let message = text(content).or_else(|| content.get("message").and_then(text));
    Some(match message.filter(|message| !message.is_empty()) {
        Some(message) => cut(&format!("{variant}: {message}")),
        None => cut(&variant),
    })
}

/// Blanks quoted text and the words that hold a digit or an `@`, and joins lines. Names in backticks are not quoted text:
/// they are those of the code.
fn blanked(message: &str) -> String {
    let end = message.char_indices().map(|(at, _)| at).find(|at| *at >= READ).unwrap_or(message.len());
    let mut out = String::new();
    let mut rest = &message[..end];
    while let Some(first) = rest.chars().next() {
        let begins_word = !out.ends_with(|c: char| c.is_alphanumeric());
        if let Some(quoted) = quoted(rest).filter(|_| begins_word) {
            out.extend([first, BLANK, first]);
            rest = &rest[quoted..];
        } else if is_blank(first) {
            rest = rest.trim_start_matches(is_blank);
            if !out.is_empty() && !rest.is_empty() {
                out.push(' ');
            }
        } else if is_of_word(first) {
            let (word, after) = rest.split_at(rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()));
            let is_specific = word.chars().any(|c| c.is_numeric() || c == '@');
            if is_specific {
                out.push(BLANK)
            } else {
                out.push_str(word)
            }
            rest = after;
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
        if out.len() > LIMIT {
            break;
        }
    }
    out
}

/// Returns the length of the quotation that a text begins with. An apostrophe within a word does not end one.
fn quoted(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut ends = text.char_indices().skip(1).filter(|(_, c)| *c == quote).map(|(at, _)| at + 1);
    ends.find(|end| !text[*end..].starts_with(char::is_alphanumeric))
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+' | '%')
}

fn cut(text: &str) -> String {
    if text.len() <= LIMIT {
        return text.to_owned();
    }
    let mark = "..";
    let mut end = LIMIT - mark.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &text[..end])
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    fn cause(error: &impl Serialize) -> String {
        Causes::Messages.of_failure(&Failure::Application, &Payload::encode(error).expect("encode"))
    }

    #[derive(Serialize)]
    enum ChargeError {
        NotApproved,
        Declined { reason: String },
        Gateway(String),
        Limit { message: String, cents: u64 },
    }

    #[test]
    fn causes_leave_out_all_that_differs_between_instances() {
        let text = |text: &str| cause(&text);
        assert_eq!(text("order-17: card 4000-0012 of \"Ana\" refused"), "#: card # of \"#\" refused");
        assert_eq!(
            text("order-18: card 4000-0099 of \"Bo\" refused"),
            text("order-17: card 4000-0012 of \"Ana\" refused")
        );
        assert_eq!(text("no route to 10.0.0.7:5432\n  after 3s"), "no route to #:# after #");
        assert_eq!(text("mail to ana@example.org can't be sent"), "mail to # can't be sent");
        assert_eq!(text("field 'it's' of `charge_card` in 'x"), "field '#' of `charge_card` in 'x");
        assert_eq!(text(&"é".repeat(200)).len(), LIMIT);
        assert_eq!(text(""), "error");
        for id in ["3f0e6c1a-77b2-4f4e-9d8c-1b2a3c4d5e6f", "0xdead01"] {
            assert_eq!(text(&format!("no {id}")), "no #");
        }
    }

    #[test]
    fn causes_name_the_variant_of_an_error() {
        assert_eq!(cause(&ChargeError::NotApproved), "NotApproved");
        assert_eq!(cause(&ChargeError::Gateway("status 503".to_owned())), "Gateway: status #");
        assert_eq!(cause(&ChargeError::Declined { reason: "secret".to_owned() }), "Declined");
        let limit = ChargeError::Limit { message: "over 5 EUR".to_owned(), cents: 501 };
        assert_eq!(cause(&limit), "Limit: over # EUR");
        let error = crate::Error::from(std::io::Error::other("timed out")).context("charge 7");
        assert_eq!(cause(&error), "charge #: timed out");
        assert_eq!(cause(&serde_json::json!({"code": "E_NET", "host": "h"})), "E_NET");
        assert_eq!(cause(&[1, 2]), "error");
    }

    #[test]
    fn kinds_of_causes_hold_no_message() {
        let kinds = Causes::Kinds;
        let error = Payload::encode("a secret").expect("encode");
        assert_eq!(kinds.of_failure(&Failure::Application, &error), "error");
        let panic = Failure::Panicked { message: "a secret".to_owned() };
        assert_eq!(kinds.of_failure(&panic, &Payload::NULL), "panic");
        assert_eq!(Causes::Messages.of_failure(&panic, &Payload::NULL), "panic: a secret");
        assert_eq!(kinds.of_suspension("DUR0001", "a secret"), "DUR0001");
        assert_eq!(Causes::Messages.of_suspension("DUR0001", "call 3"), "DUR0001: call #");
    }
}
