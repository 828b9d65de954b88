//! Stable error codes, in one table.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The origin of an error. The runtime retries only infrastructure errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Category {
    /// The code of an orchestration or an activity, or a value from it or from a client.
    Application,
    /// The deployment or a setting.
    Configuration,
    /// The storage or the process.
    Infrastructure,
    /// A cancel or terminate request.
    Cancelled,
    /// A declared time limit passed.
    TimedOut,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Application => "application",
            Self::Configuration => "configuration",
            Self::Infrastructure => "infrastructure",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed out",
        })
    }
}

/// A row for each code: number, variant, name, category, meaning, remedy. A removed number is never reused.
macro_rules! codes {
    ($($number:literal $code:ident $name:literal $category:ident $meaning:literal $remedy:literal;)*) => {
        /// A stable error code, such as `DUR0001`. Its meaning never changes; `docs/errors.md` explains each.
        ///
        /// ```
        /// use duroxide::ErrorCode;
        /// assert_eq!(ErrorCode::Nondeterminism.as_str(), "DUR0001");
        /// assert_eq!("DUR0001".parse(), Ok(ErrorCode::Nondeterminism));
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = concat!("`DUR", $number, "`: ", $meaning, ".")] $code,)*
        }

        impl ErrorCode {
            /// All codes, by number.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            const fn row(self) -> Row {
                match self {
                    $(Self::$code => Row {
                        code: concat!("DUR", $number),
                        name: $name,
                        category: Category::$category,
                        meaning: $meaning,
                        remedy: $remedy,
                    },)*
                }
            }
        }
    };
}

struct Row {
    code: &'static str,
    name: &'static str,
    category: Category,
    meaning: &'static str,
    remedy: &'static str,
}

codes! {
    // The code of an orchestration.
    "0001" Nondeterminism "nondeterminism" Application
        "on replay a decision of the code differs from the history"
        "deploy code that decides as recorded, or give the change a new version; then resume the instance";
    "0002" HistoryLeftOver "history left over" Application
        "on replay the code ended before its history"
        "deploy code that takes the recorded steps, or give the change a version of its own; then resume the instance";
    "0003" NonDurableWait "non-durable wait" Application
        "an orchestration waits for something that is not durable"
        "move the work into an activity, or wait with the context: its timers, events and calls; then resume the instance";
    "0004" ContextOutsideTurn "context used outside its turn" Application
        "a context was used while its own orchestration was not being polled"
        "do not move the context into a spawned task or a thread; join durable calls in the function itself";
    "0005" OptionsAfterPoll "options after the first poll" Application
        "an option was set on a call that had been polled already"
        "set all options before the call is awaited or polled";
    "0006" TurnStuck "turn does not return" Application
        "an orchestration has not returned from a poll for too long"
        "move blocking or long computations into an activity, and make sure that every loop awaits or ends";
    "0007" CrashLoop "crash on every attempt" Application
        "the process died on every attempt to run this, the last time with no other work"
        "look for aborts, stack overflows and memory use in this code; deploy a fix; then resume the instance";
    "0008" DirectCall "direct call" Application
        "an orchestration calls an activity or another orchestration as a function, so that the call is not recorded"
        "call it with `name::call(&ctx, ..)`; then resume the instance";
    "0009" ActivityStuck "activity does not stop" Application
        "an activity has not stopped after its cancellation or its time limit"
        "make blocking or long code a plain `fn`, and let it check `ctx.is_cancelled()`";
    "0010" Paused "paused" Configuration
        "a client has suspended the instance"
        "resume it when the reason no longer holds; it resumes automatically if the pause has an end";

    // Stored data that cannot be read.
    "0020" UnreadableEvent "unreadable event row" Configuration
        "an event of the history cannot be read by this version"
        "deploy the version that wrote it or a newer one; if the row is damaged, restore it from a backup";
    "0021" UnreadableMessage "unreadable message row" Configuration
        "a message of the instance cannot be read by this version"
        "deploy the version that wrote it or a newer one; if the row is damaged, restore it from a backup";
    "0022" UnreadableInput "unreadable input" Application
        "the input of an orchestration is not of the type that its function takes"
        "deploy code whose type reads the stored value (`#[serde(default)]` for new fields); then resume the instance";
    "0023" UnreadableResult "unreadable result" Application
        "an output, an error or an event is not of the type that the code waits for"
        "deploy code whose type reads the recorded value (`#[serde(default)]` for new fields), or drop the event with `Handle::drop_message`; then resume the instance";
    "0024" UnreadableActivityInput "unreadable activity input" Application
        "the input of an activity is not of the type that its function takes"
        "deploy an activity whose type reads the stored value; then resume the instance";

    // Registration and linking.
    "0040" MissingState "missing state" Configuration
        "a function takes a `State<T>` that the runtime does not have"
        "provide it with `Runtime::builder().state(..)`";
    "0041" DuplicateRegistration "duplicate registration" Configuration
        "two functions are registered under the same name and version, or two types of events under the same name"
        "rename one with `name = \"..\"`, give a function another version, or link only one of the crates";
    "0042" CrateNotLinked "expected crate not linked" Configuration
        "a crate whose functions are expected is not part of the program"
        "name it once in the program, as in `use billing as _;`";
    "0043" ContractMismatch "contract mismatch" Configuration
        "a contract and the function that implements it, or two contracts of one function, do not take the same parameters"
        "give both the same parameters, by number and name";
    "0044" VersionNotRegistered "version not registered" Configuration
        "the requested version is not registered"
        "deploy a node with that version, or request one that is registered";
    "0045" NotConfigured "not configured" Configuration
        "a setting of the runtime or the client is missing or invalid"
        "set the option that the message names";

    "0046" AdminNotSupported "administration not supported" Configuration
        "the storage provider does not list, delete or prune instances"
        "implement `Admin` for the provider and return it from `Provider::admin`, or use a provider that has it";
    "0047" TransactionUnsuitable "transaction unsuitable" Configuration
        "a write within a transaction of the program was requested, but the storage provider cannot write in this transaction"
        "pass an open transaction of the database in which the provider keeps its state, or use a provider that has transactions";

    // Requests.
    "0060" InvalidId "invalid id or name" Application
        "an id or a name is empty, too long, or holds a control character"
        "use 1 to 255 bytes for an instance id, 1 to 128 for a name, without control characters";
    "0061" InstanceExists "instance exists" Application
        "an instance with this id exists already"
        "choose another id, or set `if_exists(..)`";
    "0062" InstanceNotFound "instance not found" Application
        "no instance has this id"
        "check the id; the instance may have been deleted or may be in another database";
    "0063" InstanceFinished "instance finished" Application
        "the instance has ended and accepts no more messages"
        "check its status before, or start a new instance";
    "0064" InstanceLive "instance live" Application
        "only an instance that has ended can be deleted or erased"
        "wait for its end, or cancel or terminate it first";
    "0065" InvalidPageToken "invalid page token" Application
        "a page token was not made by this storage"
        "pass the token of the previous page unchanged, or begin with the first page";
    "0066" MessageNotFound "message not found" Application
        "the instance has no such unread message"
        "take the message from the suspension in the status of the instance";

    "0067" NotAStep "not the end of a step" Application
        "a history cannot be cut at this event"
        "choose one of the events that the message names";
    "0068" InstanceChanged "instance changed" Application
        "the instance is no longer in the state that the request expects"
        "read it again, and repeat the request if it is still wanted";
    "0069" ExportRefused "export refused" Application
        "a text is not an export of an instance, or an export cannot be imported"
        "see the reason in the message; export the instance again with a version that this one reads";
    "0070" Erased "erased" Application
        "the values of the instance were erased"
        "look up the receipt that the message names in the audit; the values cannot be restored";
    "0071" NoCutPoint "no such cut point" Application
        "the history has no place at which the reset or the fork could cut it"
        "choose another cut point, or an event";

    // Limits.
    "0080" PayloadRefused "payload refused" Application
        "a value cannot be written as JSON without being changed"
        "change the field that the message names, as the message says";
    "0081" PayloadTooLarge "payload too large" Application
        "a value, or the reason of a request, has more bytes than the limit allows"
        "store large data elsewhere and pass a reference, or raise the limit that the message names";
    "0082" HistoryTooLong "history too long" Application
        "an execution has more events than the limit allows"
        "continue as new before that, or raise the limit that the message names";

    // Storage and process.
    "0100" StorageFailed "storage failed" Infrastructure
        "the storage did not carry out an operation"
        "see the operation and the cause in the message; the runtime keeps trying";
    "0101" SchemaNewer "schema newer" Configuration
        "the database was set up by a newer version than this one"
        "deploy the newer version, or use another database";
    "0102" LeaseLost "lease lost" Infrastructure
        "the node could not renew its lease in time, and other nodes may have claimed its work"
        "none at first, the node joins again; if it repeats, look for a stalled process or an unreachable storage";
    "0103" RuntimeStopped "runtime stopped" Infrastructure
        "the runtime has been shut down"
        "start a runtime; accepted work continues there";
}

impl ErrorCode {
    /// Returns the code as text: `DUR0001`.
    pub const fn as_str(self) -> &'static str {
        self.row().code
    }

    /// Returns a short name.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns the category.
    pub const fn category(self) -> Category {
        self.row().category
    }

    /// Returns the meaning, in one line.
    pub const fn meaning(self) -> &'static str {
        self.row().meaning
    }

    /// Returns the remedy.
    pub const fn remedy(self) -> &'static str {
        self.row().remedy
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.as_str(), self.name())
    }
}

/// A text that is not a code, or a code that is newer than this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an error code that this version knows")]
pub struct UnknownErrorCode(String);

impl FromStr for ErrorCode {
    type Err = UnknownErrorCode;

    fn from_str(text: &str) -> Result<Self, UnknownErrorCode> {
        let known = Self::ALL.iter().find(|code| code.as_str() == text);
        known.copied().ok_or_else(|| UnknownErrorCode(text.to_owned()))
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/errors.md");

    /// Returns the section of the page about a code.
    fn section(code: ErrorCode) -> &'static str {
        let heading = format!("\n## {code}: {}\n", code.name());
        let (_, rest) = PAGE.split_once(&heading).unwrap_or_else(|| panic!("docs/errors.md lacks{heading}"));
        rest.split("\n## ").next().unwrap_or_default()
    }

    #[test]
    fn every_code_has_a_section_in_the_docs() {
        for &code in ErrorCode::ALL {
            let section = section(code).split_whitespace().collect::<Vec<_>>().join(" ");
            for label in [&format!("**Category:** {}.", code.category()), "**What:**", "**Why:**", "**Remedy:**"] {
                assert!(section.contains(label), "docs/errors.md, {code}: {label} is missing");
            }
            let text = section.to_lowercase();
            assert!(text.contains(&code.meaning().to_lowercase()), "docs/errors.md, {code}: {}", code.meaning());
            assert!(text.contains(&code.remedy().to_lowercase()), "docs/errors.md, {code}: {}", code.remedy());
        }
    }

    #[test]
    fn every_section_in_the_docs_has_a_code() {
        let headings = PAGE.lines().filter_map(|line| line.strip_prefix("## DUR"));
        let numbers: Vec<_> = headings.filter_map(|heading| heading.split(':').next()).collect();
        let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str().trim_start_matches("DUR")).collect();
        assert_eq!(numbers, codes, "the same codes in the same order");
    }

    #[test]
    fn codes_are_in_ascending_order() {
        assert!(ErrorCode::ALL.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()));
    }

    #[test]
    fn codes_are_stored_as_text() {
        for &code in ErrorCode::ALL {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), code);
        }
        assert!(serde_json::from_str::<ErrorCode>("\"DUR9999\"").is_err());
    }
}
