//! Conversions to and from the times of other crates.

/// The error of a time that is out of the range of the other type.
///
/// ```
/// # #[cfg(feature = "jiff")]
/// # {
/// use duroxide::Timestamp;
/// use duroxide::clock::TimestampOutOfRange;
/// let never: TimestampOutOfRange = jiff::Timestamp::try_from(Timestamp::MAX).unwrap_err();
/// assert!(never.to_string().ends_with("is out of the range of jiff::Timestamp"));
/// # }
/// ```
#[cfg(any(feature = "jiff", feature = "chrono"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is out of the range of {1}")]
pub struct TimestampOutOfRange(super::Timestamp, &'static str);

#[cfg(feature = "jiff")]
mod of_jiff {
    use super::TimestampOutOfRange;
    use crate::clock::Timestamp;

    /// Cuts off the digits beyond the microseconds.
    impl From<jiff::Timestamp> for Timestamp {
        fn from(time: jiff::Timestamp) -> Self {
            Self::from_micros(time.as_microsecond())
        }
    }

    impl TryFrom<Timestamp> for jiff::Timestamp {
        type Error = TimestampOutOfRange;

        fn try_from(time: Timestamp) -> Result<Self, TimestampOutOfRange> {
            Self::from_microsecond(time.as_micros()).map_err(|_| TimestampOutOfRange(time, "jiff::Timestamp"))
        }
    }
}

#[cfg(feature = "chrono")]
mod of_chrono {
    use chrono::{DateTime, Utc};

    use super::TimestampOutOfRange;
    use crate::clock::Timestamp;

    /// Cuts off the digits beyond the microseconds.
    impl From<DateTime<Utc>> for Timestamp {
        fn from(time: DateTime<Utc>) -> Self {
            Self::from_micros(time.timestamp_micros())
        }
    }

    impl TryFrom<Timestamp> for DateTime<Utc> {
        type Error = TimestampOutOfRange;

        fn try_from(time: Timestamp) -> Result<Self, TimestampOutOfRange> {
            let micros = time.as_micros();
            DateTime::from_timestamp_micros(micros).ok_or(TimestampOutOfRange(time, "chrono::DateTime<Utc>"))
        }
    }
}

#[cfg(all(test, feature = "jiff", feature = "chrono"))]
mod tests {
    use crate::clock::Timestamp;

    #[test]
    fn times_of_other_crates_are_converted_both_ways() {
        let time: Timestamp = "2026-02-28T23:59:59.123456Z".parse().unwrap();
        let (jiff, chrono) = (jiff::Timestamp::try_from(time).unwrap(), chrono::DateTime::try_from(time).unwrap());
        assert_eq!((jiff.as_microsecond(), chrono.timestamp_micros()), (time.as_micros(), time.as_micros()));
        assert_eq!((Timestamp::from(jiff), Timestamp::from(chrono)), (time, time));
        let refused = jiff::Timestamp::try_from(Timestamp::MAX).unwrap_err();
        assert_eq!(refused.to_string(), "9223372036854775807us is out of the range of jiff::Timestamp");
        assert!(chrono::DateTime::try_from(Timestamp::MAX).is_err());
    }
}
