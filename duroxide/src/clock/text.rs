//! A time as text.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use super::Timestamp;

/// RFC 3339 ends with the year 9999; a time outside is shown as a number.
const YEAR_10000: i64 = 253_402_300_800_000_000;

/// RFC 3339, in UTC, with milliseconds: `2020-01-01T00:00:00.000Z`. `{:.6}` shows microseconds, the whole precision. A time
/// before 1970, or after the year 9999, is shown in microseconds since 1970: `-5us`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !(0..YEAR_10000).contains(&self.0) {
            return write!(f, "{}us", self.0);
        }
        let time = SystemTime::from(*self);
        match f.precision() {
            Some(4..) => write!(f, "{}", humantime::format_rfc3339_micros(time)),
            _ => write!(f, "{}", humantime::format_rfc3339_millis(time)),
        }
    }
}

/// As `{:.6}`.
impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:.6}")
    }
}

/// The error of a text that is not a time as [`Timestamp`] shows it.
///
/// ```
/// use duroxide::Timestamp;
/// use duroxide::clock::InvalidTimestamp;
/// let refused: InvalidTimestamp = "tomorrow".parse::<Timestamp>().unwrap_err();
/// assert!(refused.to_string().contains("RFC 3339"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a time by RFC 3339 in UTC, such as 2020-01-01T00:00:00Z")]
pub struct InvalidTimestamp(());

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    /// Reads a text that [`Display`](fmt::Display) writes, or another time by RFC 3339 in UTC, from 1970 on. Digits beyond
    /// the microseconds are cut off.
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        if let Some(micros) = text.strip_suffix("us") {
            return micros.parse().map(Self).map_err(|_| InvalidTimestamp(()));
        }
        humantime::parse_rfc3339(text).map(Self::from).map_err(|_| InvalidTimestamp(()))
    }
}
