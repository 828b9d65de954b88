//! Limits of texts that user code or a requester can make long.

/// The limit of a message or a reason, in bytes.
pub(crate) const MAX_MESSAGE: usize = 16 * 1024;

/// The number of bytes that the note about the rest may take.
const NOTE: usize = 64;

/// Returns the text, or its beginning with the number of bytes that are left out.
///
/// For texts that cannot be refused, such as that of a panic. Shortening twice changes nothing.
pub(crate) fn shortened(text: &str) -> String {
    shortened_to(MAX_MESSAGE, text)
}

/// As [`shortened`], with another limit in bytes.
pub(crate) fn shortened_to(limit: usize, text: &str) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub(NOTE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} .. [{} bytes are left out]", &text[..end], text.len() - end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_text_is_unchanged() {
        for text in ["", "a", &"x".repeat(MAX_MESSAGE)] {
            assert_eq!(shortened(text), text);
        }
    }

    #[test]
    fn long_text_is_cut_at_a_character_and_says_how_much_is_missing() {
        let text = "é".repeat(100);
        assert_eq!(shortened_to(101, &text), format!("{} .. [164 bytes are left out]", "é".repeat(18)));
    }

    #[test]
    fn shortened_text_keeps_the_limit_and_is_not_shortened_again() {
        for length in [MAX_MESSAGE + 1, MAX_MESSAGE + 2, 20 * MAX_MESSAGE] {
            let short = shortened(&"é".repeat(length));
            assert!(short.len() <= MAX_MESSAGE, "{length}: {}", short.len());
            assert_eq!(shortened(&short), short);
        }
    }
}
