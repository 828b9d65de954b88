//! Tombstones: the values and texts in the place of erased ones.

use uuid::Uuid;

use super::Payload;
use crate::id::AuditId;

const BEGIN: &str = "{\"$erased\":\"";
const END: &str = "\"}";

impl Payload {
    /// Returns the tombstone that takes the place of an erased value: `{"$erased":"<receipt>"}`. The receipt is the id of the
    /// audit entry of the erasure.
    ///
    /// ```
    /// use duroxide::Payload;
    /// use duroxide::id::AuditId;
    /// let receipt = AuditId::new();
    /// assert_eq!(Payload::erased(receipt).receipt(), Some(receipt));
    /// assert_eq!(Payload::NULL.receipt(), None);
    /// ```
    pub fn erased(receipt: AuditId) -> Self {
        Self::from_json_bytes(tombstone(receipt))
    }

    /// Returns the receipt if the value was erased ([`Handle::erase`](crate::Handle::erase)).
    pub fn receipt(&self) -> Option<AuditId> {
        receipt_of(self.text())
    }
}

/// Returns the text of a tombstone.
pub(crate) fn tombstone(receipt: AuditId) -> String {
    format!("{BEGIN}{receipt}{END}")
}

/// Returns the receipt if the text is a tombstone.
pub(crate) fn receipt_of(text: &str) -> Option<AuditId> {
    let receipt = Uuid::try_parse(text.strip_prefix(BEGIN)?.strip_suffix(END)?).ok().map(AuditId)?;
    // A UUID has other forms, in which no tombstone is written.
    (text == tombstone(receipt)).then_some(receipt)
}

/// Replaces a text by a tombstone, unless it is empty or a tombstone. Returns true if it was replaced.
pub(crate) fn erase_text(text: &mut String, receipt: AuditId) -> bool {
    if text.is_empty() || receipt_of(text).is_some() {
        return false;
    }
    *text = tombstone(receipt);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exact_tombstone_has_a_receipt() {
        let receipt = AuditId::new();
        let text = tombstone(receipt);
        assert_eq!(receipt_of(&text), Some(receipt));
        for other in [text.replace(':', ": "), text.replace('-', ""), format!(" {text}"), format!("[{text}]")] {
            assert_eq!(receipt_of(&other), None, "{other}");
        }
        let mut twice = "a secret".to_owned();
        assert!(erase_text(&mut twice, receipt));
        assert!(!erase_text(&mut twice, AuditId::new()));
        assert_eq!(twice, text);
    }
}
