//! The words of times in sentences for people.

use std::fmt;
use std::time::Duration;

/// A duration in its two largest units: `2 d 5 h`, `3 min`, `40 s`, `120 ms`.
pub(super) struct Span(pub(super) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let two = |f: &mut fmt::Formatter<'_>, large: u64, unit: &str, small: u64, less: &str| match small {
            0 => write!(f, "{large} {unit}"),
            small => write!(f, "{large} {unit} {small} {less}"),
        };
        match seconds {
            0 => write!(f, "{} ms", self.0.as_millis()),
            1..60 => write!(f, "{seconds} s"),
            60..3_600 => two(f, seconds / 60, "min", seconds % 60, "s"),
            3_600..86_400 => two(f, seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
            _ => two(f, seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
        }
    }
}
