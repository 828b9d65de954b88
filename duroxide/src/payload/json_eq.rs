//! Compares two JSON texts by value.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The depth to which lists and objects are compared, which is the depth that serde_json reads. The text is not
/// trusted, so the recursion must be bounded.
pub(super) const DEPTH: usize = 128;

/// Returns true if two texts are the same value. See [`Payload::json_eq`](super::Payload::json_eq).
pub(super) fn json_eq(a: &[u8], b: &[u8]) -> bool {
    let parse = serde_json::from_slice::<&RawValue>;
    a == b || matches!((parse(a), parse(b)), (Ok(a), Ok(b)) if same_values(a.get(), b.get(), DEPTH))
}

/// Compares the text itself, level by level, since a parsed number has lost digits.
pub(super) fn same_values(a: &str, b: &str, depth: usize) -> bool {
    if a == b {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else { return false };
    match (a.as_bytes().first(), b.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => same_objects(a, b, depth),
        (Some(b'['), Some(b'[')) => same_lists(a, b, depth),
        (Some(b'"'), Some(b'"')) => same_parsed::<String>(a, b),
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => same_numbers(a, b),
        _ => false,
    }
}

fn same_parsed<'a, T: Deserialize<'a> + PartialEq>(a: &'a str, b: &'a str) -> bool {
    matches!((serde_json::from_str::<T>(a), serde_json::from_str::<T>(b)), (Ok(a), Ok(b)) if a == b)
}

fn same_lists(a: &str, b: &str, depth: usize) -> bool {
    let (Some(a), Some(b)) = (elements(a), elements(b)) else { return false };
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same_values(a.get(), b.get(), depth))
}

fn same_objects(a: &str, b: &str, depth: usize) -> bool {
    let (Some(a), Some(b)) = (members(a), members(b)) else { return false };
    a.len() == b.len()
        && a.iter().zip(&b).all(|((a_key, a), (b_key, b))| a_key == b_key && same_values(a.get(), b.get(), depth))
}

/// Returns the elements of a list.
pub(super) fn elements(json: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(json).ok()
}

/// Returns all members of an object, sorted by name.
pub(super) fn entries(json: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(json).ok()
}

/// Returns the members of an object that are not null, sorted by name.
fn members(json: &str) -> Option<Vec<(String, &RawValue)>> {
    Some(entries(json)?.into_iter().filter(|(_, value)| value.get() != "null").collect())
}

fn same_numbers(a: &str, b: &str) -> bool {
    matches!((Decimal::parse(a), Decimal::parse(b)), (Some(a), Some(b)) if a == b)
}

/// A number without loss, in a normal form: no zeros at either end of its digits.
#[derive(Debug, PartialEq)]
pub(super) struct Decimal {
    negative: bool,
    digits: String,
    /// The power of ten by which the digits, read as an integer, are multiplied.
    exponent: i64,
}

impl Decimal {
    /// Parses a JSON number; `None` if the exponent does not fit into 64 bits.
    pub(super) fn parse(json: &str) -> Option<Self> {
        let (negative, json) = json.strip_prefix('-').map_or((false, json), |rest| (true, rest));
        let (mantissa, exponent) = json.split_once(['e', 'E']).unwrap_or((json, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let significant = all.trim_end_matches('0');
        let digits = significant.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        let shift = i64::try_from(all.len() - significant.len()).ok()? - i64::try_from(fraction.len()).ok()?;
        let exponent = exponent.parse::<i64>().ok()?.checked_add(shift)?;
        Some(Self { negative, digits, exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str) -> bool {
        let answer = json_eq(a.as_bytes(), b.as_bytes());
        assert_eq!(answer, json_eq(b.as_bytes(), a.as_bytes()), "{a} {b}: the order does not matter");
        answer
    }

    #[test]
    fn order_of_members_and_spaces_do_not_matter() {
        assert!(check(r#"{"a":1,"b":[{"c":2,"d":3}]}"#, r#" { "b" : [ {"d":3, "c":2} ], "a":1 } "#));
        assert!(!check(r#"[1,2]"#, r#"[2,1]"#));
    }

    #[test]
    fn null_member_counts_as_absent() {
        assert!(check(r#"{"a":1}"#, r#"{"a":1,"b":null}"#));
        assert!(check(r#"{"x":[{"a":1,"c":{}}]}"#, r#"{"x":[{"a":1,"b":null,"c":{"d":null}}]}"#));
        assert!(!check(r#"{"a":1}"#, r#"{"a":1,"b":0}"#));
        assert!(!check(r#"{"a":1}"#, r#"{"b":1}"#));
        assert!(!check("[1]", "[1,null]"));
        assert!(!check("{}", "null"));
        assert!(!check("{}", "[]"));
    }

    #[test]
    fn numbers_are_compared_digit_by_digit() {
        assert!(!check("18446744073709551615", "18446744073709551614"));
        assert!(!check("9007199254740993", "9007199254740992"));
        assert!(!check("9007199254740993", "9007199254740992.0"));
        assert!(!check("340282366920938463463374607431768211455", "340282366920938463463374607431768211454"));
        assert!(!check("-1", "1"));
        assert!(!check("0.1", "0.10000000000000002"));
        assert!(check("1.0", "1"));
        assert!(check("[1e2, 0.5E-1, -0.0]", "[100, 0.05, 0]"));
        assert!(check("1e999999999999999999999", "1e999999999999999999999"));
        assert!(!check("1e999999999999999999999", "2e999999999999999999999"));
        assert!(!check("1e9223372036854775807", "10e9223372036854775807"));
    }

    #[test]
    fn text_is_compared_as_it_is_read() {
        assert!(check(r#""\u00e9""#, r#""é""#));
        assert!(check(r#"{"\u0061":1}"#, r#"{"a":1}"#));
        assert!(!check(r#""1""#, "1"));
        assert!(!check(r#""null""#, "null"));
        assert!(!check("true", "false"));
    }

    #[test]
    fn text_that_is_not_json_equals_only_itself() {
        assert!(check("{", "{"));
        assert!(!check("{", "{ "));
        assert!(!check("", "null"));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |spaces: &str| format!("{}{spaces}{}", "[".repeat(20_000), "]".repeat(20_000));
        assert!(!check(&nested(""), &nested(" ")));
    }
}
