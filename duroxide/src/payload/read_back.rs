//! Reads a value back before it is stored, since some types write a form that they cannot read.
//!
//! Serde reads some types only in some places: an integer of 128 bits, a map by number or a raw value cannot be read
//! within a flattened struct or an untagged enum. So a value with such a part is read back whenever it is sent. In debug
//! builds, and in processes with a `TestRuntime`, each value is read back, written again and compared.

#[cfg(feature = "testing")]
use std::sync::atomic::{AtomicBool, Ordering};

use super::diff::{Differences, unordered};
use super::encoded::Encoded;
use super::json_eq::{elements, entries};
use super::keys::Keys;
use super::path::{PathStep, show};
use super::read_error::ReadError;
use super::storable::Codec;
use super::{Action, Payload, PayloadError};

/// True in a process that has started a test runtime.
#[cfg(feature = "testing")]
static IS_TEST: AtomicBool = AtomicBool::new(false);

/// From now on, reads every value back and compares the copy with it.
#[cfg(feature = "testing")]
pub(crate) fn compare_values_read_back() {
    IS_TEST.store(true, Ordering::Relaxed);
}

fn compares() -> bool {
    #[cfg(feature = "testing")]
    let is_test = IS_TEST.load(Ordering::Relaxed);
    #[cfg(not(feature = "testing"))]
    let is_test = false;
    cfg!(debug_assertions) || is_test
}

/// Refuses a payload that its type cannot read, or reads as another value.
pub(super) fn check(payload: &Payload, is_doubtful: bool, codec: Codec) -> Result<(), PayloadError> {
    let compares = compares();
    if !compares && !is_doubtful {
        return Ok(());
    }
    match codec.again(payload) {
        Ok(again) if compares => same_value(codec, again, payload),
        Ok(_) => Ok(()),
        Err(error) => Err(unreadable(codec, error, payload)),
    }
}

fn unreadable(codec: Codec, error: ReadError, payload: &Payload) -> PayloadError {
    let (reason, column) = error.into_parts();
    let place = path_at(payload, column.saturating_sub(1));
    refusal(codec, place, format!("it could be written, but not read back: {reason}; change the type of this part"))
}

fn same_value(codec: Codec, again: Encoded, payload: &Payload) -> Result<(), PayloadError> {
    let again = codec.unchecked(again)?;
    let (before, now) = (payload.text(), again.text());
    // The order of a set may be another one each time.
    if payload.json_eq(&again) || unordered(before) == unordered(now) {
        return Ok(());
    }
    let Some((path, kind)) = Differences::of(before, now, &again.keys).first() else { return Ok(()) };
    let reason = format!(
        "it would be read back as another value: the copy {kind}; let `Serialize` and `Deserialize` of the \
         type agree"
    );
    Err(refusal(codec, path, reason))
}

fn refusal(codec: Codec, path: String, reason: String) -> PayloadError {
    PayloadError { type_name: codec.type_name().to_owned(), action: Action::Serialised, path, reason }
}

/// Returns the path of the innermost value around a position in the text.
fn path_at(payload: &Payload, position: usize) -> String {
    let (mut path, mut inner) = (Vec::new(), payload.text());
    let start = inner.as_ptr().addr();
    let is_around = |part: &str| {
        let begin = part.as_ptr().addr() - start;
        (begin..begin + part.len()).contains(&position)
    };
    while let Some((step, part)) = parts(inner, start, &payload.keys).into_iter().find(|(_, part)| is_around(part)) {
        path.push(step);
        inner = part;
    }
    show(path.iter())
}

/// Returns the parts of an object or a list.
fn parts<'j>(json: &'j str, start: usize, keys: &Keys) -> Vec<(PathStep, &'j str)> {
    let position = json.as_ptr().addr() - start;
    match json.as_bytes().first() {
        Some(b'{') => {
            let members = entries(json).unwrap_or_default().into_iter().enumerate();
            members.map(|(index, (key, part))| (keys.step(position, &key, index), part.get())).collect()
        }
        Some(b'[') => {
            let elements = elements(json).unwrap_or_default().into_iter().enumerate();
            elements.map(|(index, part)| (PathStep::Index(index), part.get())).collect()
        }
        _ => Vec::new(),
    }
}
