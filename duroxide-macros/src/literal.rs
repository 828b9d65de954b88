//! Literals that are checked at compile time: durations, versions, names.

use std::time::Duration;

/// The units, largest first, with their length in microseconds.
const UNITS: &[(&str, u64)] =
    &[("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

const LONGEST_NAME: usize = 128;

/// Parses `30s`, `200ms`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(format!("an empty duration; {HOW}"));
    }
    let mut micros = 0_u64;
    while !rest.is_empty() {
        let (part, after) = part(rest)?;
        micros = micros.checked_add(part).ok_or_else(too_long)?;
        rest = after.trim_start();
    }
    if micros == 0 {
        return Err("a duration of zero; leave the key out, or give at least `1us`".to_owned());
    }
    Ok(Duration::from_micros(micros))
}

/// Returns the text of a duration, as [`duration`] reads it.
pub(crate) fn duration_text(duration: Duration) -> String {
    let mut rest = duration.as_micros();
    let mut parts = Vec::new();
    for (unit, length) in UNITS {
        let length = u128::from(*length);
        if rest >= length {
            parts.push(format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    parts.join(" ")
}

const HOW: &str =
    "write a whole number with a unit (`us`, `ms`, `s`, `m`, `h` or `d`), as in \"200ms\", \"30s\" or \"1h 30m\"";

fn too_long() -> String {
    "a duration of more than half a million years; give a shorter one".to_owned()
}

/// Parses one number with its unit; returns it in microseconds, with the rest of the text.
fn part(text: &str) -> Result<(u64, &str), String> {
    let (digits, after) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    if digits.is_empty() {
        return Err(format!("`{text}` does not begin with a number; {HOW}"));
    }
    let after = after.trim_start();
    if after.starts_with('.') {
        return Err(format!("durations have no fractions: instead of \"1.5s\" write \"1s 500ms\"; {HOW}"));
    }
    let (unit, rest) = after.split_at(after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len()));
    if unit.is_empty() {
        return Err(format!("`{digits}` has no unit; {HOW}"));
    }
    let Some((_, length)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("`{unit}` is not a unit; {HOW}"));
    };
    let number: u64 = digits.parse().map_err(|_| too_long())?;
    Ok((number.checked_mul(*length).ok_or_else(too_long)?, rest))
}

/// Checks a semantic version.
pub(crate) fn version(text: &str) -> Result<(), String> {
    match semver::Version::parse(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "`{text}` is not a semantic version ({error}); write three numbers, as in `version = \"1.2.0\"`"
        )),
    }
}

/// Checks the name of an activity, orchestration or event.
pub(crate) fn name(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("an empty name; give at least one character, or leave the key out".to_owned());
    }
    if text.len() > LONGEST_NAME {
        return Err(format!(
            "this name has {} bytes, the limit is {LONGEST_NAME}; give a shorter one with `name = \"..\"`",
            text.len()
        ));
    }
    if text.chars().any(char::is_control) {
        return Err("a name must not contain control characters, such as tabs and line ends".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        for (text, micros) in [
            ("1us", 1),
            ("200ms", 200_000),
            ("30s", 30_000_000),
            ("5m", 300_000_000),
            ("2h", 7_200_000_000),
            ("3d", 259_200_000_000),
            ("1h 30m", 5_400_000_000),
            ("1h30m", 5_400_000_000),
            (" 1 s 500 ms ", 1_500_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
    }

    #[test]
    fn bad_duration_is_reported_with_the_wrong_part() {
        for (text, expected) in [
            ("", "empty"),
            ("30", "`30` has no unit"),
            ("s", "`s` does not begin with a number"),
            ("30 sec", "`sec` is not a unit"),
            ("1.5s", "no fractions"),
            ("-1s", "`-1s` does not begin"),
            ("1h, 30m", "`, 30m` does not begin"),
            ("0s", "zero"),
            ("99999999999999999999s", "more than half a million years"),
            ("999999999d", "more than half a million years"),
            ("18446744073709551615us 1us", "more than half a million years"),
        ] {
            let message = duration(text).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn versions_are_semantic() {
        for good in ["1.0.0", "0.1.2-rc.1", "1.0.0+build.5"] {
            assert_eq!(version(good), Ok(()), "{good}");
        }
        for bad in ["", "1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0"] {
            assert!(version(bad).is_err_and(|message| message.contains("1.2.0")), "{bad}");
        }
    }

    #[test]
    fn names_are_limited_in_bytes() {
        assert_eq!(name("a"), Ok(()));
        assert_eq!(name("Bestellung prüfen/2"), Ok(()));
        assert_eq!(name(&"x".repeat(128)), Ok(()));
        assert!(name("").is_err());
        assert!(name(&"ü".repeat(65)).is_err_and(|message| message.contains("130 bytes")));
        assert!(name("a\tb").is_err());
    }
}
