//! Builds: the code that nodes had, which stays known after they have gone.

use serde::{Deserialize, Serialize};

use super::NodeRecord;
use crate::clock::Timestamp;
use crate::error::shortened_to;

/// The code of a build, for people. Providers store it as the JSON text of [`BuildCode::to_json`]:
///
/// ```
/// use duroxide::provider::{BuildCode, CodeEntry, CodeKind};
///
/// let checkout = CodeEntry {
///     kind: CodeKind::Orchestration,
///     name: "checkout".to_owned(),
///     version: Some("1.0.0".to_owned()),
///     place: Some("src/checkout.rs:30".to_owned()),
///     package: Some("shop".to_owned()),
///     doc: Some("Charges the card and ships the order.".to_owned()),
/// };
/// let code = BuildCode::new([checkout]);
/// assert_eq!(
///     code.to_json(),
///     r#"{"format":1,"entries":[{"kind":"orchestration","name":"checkout","version":"1.0.0","#.to_owned()
///         + r#""place":"src/checkout.rs:30","package":"shop","doc":"Charges the card and ships the order."}],"omitted":0}"#
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildCode {
    /// The format of the JSON text.
    format: u32,
    /// The functions and events: orchestrations, activities, events, each sorted by name and version.
    pub entries: Vec<CodeEntry>,
    /// The number of entries that were left out, because the text would be longer than [`BuildCode::MAX_BYTES`].
    #[serde(default)]
    pub omitted: u64,
}

/// A function or an event of a build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CodeEntry {
    /// Its kind.
    pub kind: CodeKind,
    /// Its recorded name.
    pub name: String,
    /// The version of an orchestration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its place in the source: file and line. At most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The package that holds it. `None`: it was registered by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// The first line of its documentation. At most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
}

/// The kind of a [`CodeEntry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CodeKind {
    /// An orchestration.
    Orchestration,
    /// An activity.
    Activity,
    /// A type of event.
    Event,
}

/// The newest format that this version reads.
const FORMAT: u32 = 1;
/// The limit of the texts of an entry, in bytes.
const MAX_TEXT: usize = 256;

impl Default for BuildCode {
    fn default() -> Self {
        Self { format: FORMAT, entries: Vec::new(), omitted: 0 }
    }
}

impl BuildCode {
    /// The longest JSON text, in bytes.
    pub const MAX_BYTES: usize = 256 << 10;

    /// Sorts entries, cuts their texts to the limits, and leaves out those that exceed [`BuildCode::MAX_BYTES`].
    pub fn new(entries: impl IntoIterator<Item = CodeEntry>) -> Self {
        let mut all: Vec<_> = entries.into_iter().map(CodeEntry::shortened).collect();
        all.sort();
        let mut code = Self::default();
        // The rest of the text: its longest number of omitted entries.
        let mut left = Self::MAX_BYTES - 100;
        for entry in all {
            // A comma follows each entry but the last.
            let length = serde_json::to_string(&entry).map_or(usize::MAX, |json| json.len().saturating_add(1));
            match left.checked_sub(length) {
                Some(rest) => {
                    left = rest;
                    code.entries.push(entry);
                }
                None => code.omitted += 1,
            }
        }
        code
    }

    /// Returns true if there is no code: a node without code, whose build is not recorded.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.omitted == 0
    }

    /// Returns the JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| unreachable!("texts and numbers are JSON: {error}"))
    }

    /// Reads the JSON text, unless it is damaged or of a newer format.
    fn from_json(text: &str) -> Result<Self, CodeError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_str(text)?;
        if head.format > FORMAT {
            return Err(CodeError::Newer(head.format));
        }
        Ok(serde_json::from_str(text)?)
    }
}

impl CodeEntry {
    fn shortened(mut self) -> Self {
        for text in [&mut self.place, &mut self.package, &mut self.doc] {
            *text = text.take().filter(|text| !text.is_empty()).map(|text| shortened_to(MAX_TEXT, &text));
        }
        self
    }
}

/// The reason why the stored code of a build cannot be read.
#[derive(Debug, thiserror::Error)]
enum CodeError {
    #[error("the code of the build is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    #[error("the code of the build has format {0}, but this version reads formats up to {FORMAT}")]
    Newer(u32),
}

/// A build that nodes had.
///
/// The build of a node is recorded when it joins. The newest [`BuildRecord::KEPT`] builds are kept, and beyond them each
/// build that a member has, or that is the newest one with the orchestration and version of a live instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRecord {
    /// Its id: [`NodeInfo::build`](super::NodeInfo::build).
    pub build: String,
    /// Its code, as the first node that joined with it had recorded.
    pub code: BuildCode,
    /// When the first node joined with it.
    pub first_seen: Timestamp,
    /// The last time that a node joined with it, or that one with it departed.
    pub last_seen: Timestamp,
    /// The number of members that have it now.
    pub members: u64,
    /// The reason why the stored code cannot be read. Then `code` is empty.
    pub damaged: Option<String>,
}

impl BuildRecord {
    /// The number of builds that are kept even if they are no longer used.
    pub const KEPT: usize = 100;

    /// Makes the record of a stored build, for the author of a provider.
    pub fn read(build: String, code: &str, [first_seen, last_seen]: [Timestamp; 2], members: u64) -> Self {
        let (code, damaged) = match BuildCode::from_json(code) {
            Ok(code) => (code, None),
            Err(error) => (BuildCode::default(), Some(error.to_string())),
        };
        Self { build, code, first_seen, last_seen, members, damaged }
    }
}

/// A node that is no longer a member.
///
/// The newest [`DepartedNode::KEPT`] are kept. With each departure, those that departed more than
/// [`DepartedNode::KEPT_DAYS`] days before are removed.
#[derive(Debug, Clone)]
pub struct DepartedNode {
    /// Its last description as a member. The counts are zero.
    pub node: NodeRecord,
    /// When its membership ended.
    pub left_at: Timestamp,
    /// Its last sign of life, as far as the storage knows it. Not later than `left_at`.
    pub seen_at: Timestamp,
    /// The cause of the end.
    pub cause: Departure,
}

impl DepartedNode {
    /// The number of departed nodes that are kept.
    pub const KEPT: usize = 1000;
    /// The number of days for which they are kept.
    pub const KEPT_DAYS: u64 = 30;
}

/// The cause for which a membership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Departure {
    /// The node left: its runtime was shut down.
    Left,
    /// Its process has ended without leaving.
    Died,
    /// It gave no sign of life for its lease time: its process has ended, was stopped, or could not reach the storage.
    Silent,
    /// It joined again, which ended its earlier membership.
    Fenced,
}

impl Departure {
    /// All causes.
    pub const ALL: [Self; 4] = [Self::Left, Self::Died, Self::Silent, Self::Fenced];

    /// Returns true if the items that the node had in flight count as crashed.
    pub fn is_crash(self) -> bool {
        matches!(self, Self::Died | Self::Silent)
    }

    /// Returns the name that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Died => "died",
            Self::Silent => "silent",
            Self::Fenced => "fenced",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: String, doc: &str) -> CodeEntry {
        let (kind, doc) = (CodeKind::Activity, Some(doc.to_owned()));
        CodeEntry { kind, name, version: None, place: None, package: None, doc }
    }

    #[test]
    fn code_of_a_build_is_bounded() {
        let many = (0..5000).map(|n| entry(format!("activity-{n:05}-\u{1}"), &"long ".repeat(1000)));
        let code = BuildCode::new(many);
        assert!(code.to_json().len() <= BuildCode::MAX_BYTES, "{}", code.to_json().len());
        assert_eq!(code.entries.len() as u64 + code.omitted, 5000);
        assert!(code.entries.len() > 500 && code.entries[0].doc.as_ref().is_some_and(|doc| doc.len() <= MAX_TEXT));
    }

    #[test]
    fn newer_code_of_a_build_is_refused() {
        let code = BuildCode::new([entry("work".to_owned(), "")]);
        assert_eq!(BuildRecord::read("b".to_owned(), &code.to_json(), [Timestamp::default(); 2], 0).code, code);
        let newer = r#"{"format":2,"functions":{}}"#;
        let record = BuildRecord::read("b".to_owned(), newer, [Timestamp::default(); 2], 0);
        assert!(record.code.is_empty());
        assert!(record.damaged.is_some_and(|reason| reason.contains("format 2")));
    }
}
