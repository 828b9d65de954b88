//! Redacts errors of serde: their messages may quote the value, which may hold secrets.
//!
//! A redacted message keeps the parts that come from the source code of serde or of the type: the kind of the error,
//! the kind of the found value, the expected type, the name of a field. It also keeps the place in the text.

/// Replaces a message of the type's own code, which may quote anything.
const REDACTED: &str = "refused by the type's own code (its message is redacted, since it may quote the value)";

/// The beginnings of the messages that serde's own implementations raise on writing. None of them quotes a value.
const SER_MESSAGES: [&str; 7] = [
    "already mutably borrowed",
    "lock poison error while serializing",
    "SystemTime must be later than UNIX_EPOCH",
    "path contains invalid UTF-8 characters",
    "can only flatten structs and maps (got ",
    "cannot serialize tagged newtype variant ",
    "the enum variant ",
];

/// The beginnings of serde's messages about a value that does not match its type. The value may follow them.
const KINDS: [&str; 5] = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant ", "unknown field "];

/// The kinds of values, as serde names them after `invalid type: ` and `invalid value: `.
const FOUND: [&str; 12] = [
    "boolean",
    "integer",
    "floating point",
    "character",
    "string",
    "byte array",
    "null",
    "sequence",
    "map",
    "unit variant",
    "newtype variant",
    "number",
];

/// Returns the redacted text of a failure to serialise.
pub(super) fn redact_ser_error(error: &serde_json::Error) -> String {
    let message = error.to_string();
    if SER_MESSAGES.iter().any(|start| message.starts_with(start)) { message } else { REDACTED.to_owned() }
}

/// Returns the redacted text of a failure to parse, without its place.
pub(super) fn redact_de_reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let text = message.strip_suffix(&place(error)).unwrap_or(&message);
    // Errors of syntax come from a fixed list.
    if error.is_data() { redact(text) } else { text.to_owned() }
}

fn place(error: &serde_json::Error) -> String {
    format!(" at line {} column {}", error.line(), error.column())
}

fn redact(message: &str) -> String {
    if only_names_source(message) {
        return message.to_owned();
    }
    let Some((kind, rest)) = KINDS.iter().find_map(|kind| Some((*kind, message.strip_prefix(kind)?))) else {
        return REDACTED.to_owned();
    };
    let text = match FOUND.iter().find(|found| rest.starts_with(*found)) {
        Some(found) => format!("{kind}{found}"),
        None => kind.trim_end_matches([':', ' ']).to_owned(),
    };
    match expected(rest) {
        Some(expected) => format!("{text}, expected {expected}"),
        None => text,
    }
}

/// Returns the expected type. It ends the message, after the *last* comma of its kind: the value comes before it, may
/// contain such a comma, and is not always quoted.
fn expected(rest: &str) -> Option<&str> {
    let expects_nothing = rest.ends_with("`, there are no fields") || rest.ends_with("`, there are no variants");
    rest.rsplit_once(", expected ").filter(|_| !expects_nothing).map(|(_, expected)| expected)
}

/// Returns true if the message is fixed, or contains only a name from the source code, of a field or a type.
fn only_names_source(message: &str) -> bool {
    if matches!(message, "i128 is not supported" | "u128 is not supported") {
        return true;
    }
    let after = |starts: &[&str]| starts.iter().find_map(|start| message.strip_prefix(start));
    let field = after(&["missing field `", "duplicate field `"]).and_then(|rest| rest.strip_suffix('`'));
    let name = field.or_else(|| after(&["data did not match any variant of untagged enum "]));
    name.is_some_and(|name| name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$')))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;

    use super::*;

    const SECRET: &str = "s3cr3t";

    fn redacted<T: DeserializeOwned>(json: &str) -> String {
        let error = crate::Payload::from_json_bytes(json.to_owned()).decode::<T>().err().expect("does not match");
        let text = error.reason().to_owned();
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
    fn kind_expected_type_and_place_are_kept() {
        assert_eq!(redacted::<u32>(r#""s3cr3t""#), "invalid type: string, expected u32 at line 1 column 8");
        assert_eq!(redacted::<Card>(r#"{"number":-5}"#), "invalid value: integer, expected u32 at line 1 column 12");
        assert_eq!(redacted::<Card>(r#"{}"#), "missing field `number` at line 1 column 2");
        assert_eq!(redacted::<Card>(r#"{"number":1,"number":1}"#), "duplicate field `number` at line 1 column 20");
        assert_eq!(redacted::<(u8, u8)>("[1]"), "invalid length, expected a tuple of size 2 at line 1 column 3");
        assert_eq!(redacted::<Kind>(r#""s3cr3t""#), "unknown variant, expected `Visa` or `Master` at line 1 column 8");
        assert_eq!(redacted::<Either>(r#""s3cr3t""#), "data did not match any variant of untagged enum Either");
        assert_eq!(redacted::<String>("null"), "invalid type: null, expected a string at line 1 column 4");
        assert_eq!(redacted::<String>(r#""s3cr3t"#), "EOF while parsing a string at line 1 column 7");
        assert_eq!(redacted::<bool>("1 2"), "invalid type: integer, expected a boolean at line 1 column 1");
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
    }
}
