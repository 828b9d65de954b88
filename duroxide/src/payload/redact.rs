//! Redacts errors of serde: their messages may quote the value, which may hold secrets.
//!
//! The caller knows the type already. So an error keeps its kind, the name of a missing field (it stands in the source of the
//! type), and its place in the text.

/// Replaces a message of the type's own code, such as every error that a `Serialize` raises.
pub(super) const REDACTED: &str =
    "refused by the type's own code (its message is redacted, since it may quote the value)";

/// How serde's messages about data begin. The value follows, if anywhere.
const KINDS: [&str; 7] = [
    "invalid type",
    "invalid value",
    "invalid length",
    "unknown variant",
    "unknown field",
    "missing field",
    "duplicate field",
];

/// Returns the text of a failure to parse: its kind, and its place in the text.
pub(super) fn redact_de_error(error: &serde_json::Error) -> String {
    let message = error.to_string();
    if !error.is_data() {
        // Errors of syntax come from a fixed list, and end with the place.
        return message;
    }
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = message.strip_suffix(&place).unwrap_or(&message);
    let kind = KINDS.iter().find(|kind| message.starts_with(*kind)).copied().unwrap_or(REDACTED);
    let kind = if is_field_name(message) { message } else { kind };
    if error.line() == 0 { kind.to_owned() } else { format!("{kind}{place}") }
}

/// Returns true if the message names a missing field and says nothing else.
fn is_field_name(message: &str) -> bool {
    let name = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    name.is_some_and(|name| name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$')))
}

/// Returns the kind of a JSON text as a whole, which says nothing of its content.
pub(super) fn json_kind(json: &[u8]) -> &'static str {
    let is_float = || json.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    match json.trim_ascii_start().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') if is_float() => "a floating-point number",
        Some(b'-' | b'0'..=b'9') => "an integer",
        _ => "no JSON",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    use super::*;

    const SECRET: &str = "s3cr3t";

    fn redacted<T: DeserializeOwned>(json: &str) -> String {
        let error = serde_json::from_str::<T>(json).err().expect("does not match");
        let text = redact_de_error(&error);
        assert!(!text.contains(SECRET), "{text}");
        text
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Card {
        number: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Empty {}

    #[derive(Debug, Deserialize)]
    enum Kind {
        Visa,
        Master,
    }

    #[derive(Debug, Deserialize)]
    enum Never {}

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only its shape matters")]
    enum Either {
        Number(u32),
        Flag(bool),
    }

    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Picky;

    impl TryFrom<String> for Picky {
        type Error = String;
        fn try_from(text: String) -> Result<Self, String> {
            Err(format!("bad number {text}, expected {text}"))
        }
    }

    #[test]
    fn kind_and_place_of_a_parse_error_are_kept() {
        assert_eq!(redacted::<u32>(r#""s3cr3t""#), "invalid type at line 1 column 8");
        assert_eq!(redacted::<Card>(r#"{"number":-5}"#), "invalid value at line 1 column 12");
        assert_eq!(redacted::<Card>(r#"{}"#), "missing field `number` at line 1 column 2");
        assert_eq!(redacted::<Card>(r#"{"number":1,"number":1}"#), "duplicate field at line 1 column 20");
        assert_eq!(redacted::<Card>(r#"{"s3cr3t":1}"#), "unknown field at line 1 column 9");
        assert_eq!(redacted::<(u8, u8)>("[1]"), "invalid length at line 1 column 3");
        assert_eq!(redacted::<Kind>(r#""s3cr3t""#), "unknown variant at line 1 column 8");
        assert_eq!(redacted::<String>(r#""s3cr3t"#), "EOF while parsing a string at line 1 column 7");
        assert_eq!(
            redacted::<BTreeMap<u8, u8>>(r#"{"s3cr3t":1}"#).split(" at ").next(),
            Some("invalid value: expected key to be a number in quotes")
        );
    }

    #[test]
    fn value_that_looks_like_a_message_is_redacted() {
        for value in [", expected s3cr3t", "`, expected s3cr3t", r#"\", expected s3cr3t at line 1 column 1"#, "s3cr3t"]
        {
            redacted::<u32>(&format!("\"{value}\""));
            redacted::<Kind>(&format!("\"{value}\""));
            redacted::<Never>(&format!("\"{value}\""));
            redacted::<Card>(&format!("{{\"{value}\":1}}"));
            redacted::<Empty>(&format!("{{\"{value}\":1}}"));
            redacted::<Either>(&format!("\"{value}\""));
            redacted::<Picky>(&format!("\"{value}\""));
        }
    }

    #[test]
    fn message_of_the_users_own_code_is_redacted() {
        assert_eq!(redacted::<Picky>(r#""s3cr3t""#), REDACTED);
        assert_eq!(redacted::<Vec<Picky>>(r#"["s3cr3t"]"#), format!("{REDACTED} at line 1 column 10"));
        assert_eq!(redacted::<Either>(r#""s3cr3t""#), REDACTED);
    }
}
