//! The notice that a process sends to the others over the loopback interface when it has written.
//!
//! It only names the places that may have changed: a lost notice delays the reader until its next poll, and a forged
//! one costs a query. Format: one byte of flags, then an eight-byte hash for each changed instance.

use crate::id::InstanceId;

/// The most instances in one notice, which is one datagram.
const MAX: usize = 128;
const WORK: u8 = 1;
const ANY: u8 = 2;

/// The possible changes that another process should read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Notice {
    /// There may be work for a node.
    pub(super) work: bool,
    /// Any instance may have changed.
    pub(super) any: bool,
    /// The hashes of the changed instances.
    hashes: Vec<u64>,
}

impl Notice {
    /// The longest notice, in bytes.
    pub(super) const LONGEST: usize = 1 + 8 * MAX;

    pub(super) fn new<'a>(work: bool, changed: impl Iterator<Item = &'a InstanceId>) -> Self {
        let mut notice = Self { work, any: false, hashes: changed.map(hash).collect() };
        notice.limit();
        notice
    }

    /// Merges another notice into this one.
    pub(super) fn merge(&mut self, other: Self) {
        self.work |= other.work;
        self.any |= other.any;
        self.hashes.extend(other.hashes);
        self.limit();
    }

    fn limit(&mut self) {
        self.any |= self.hashes.len() > MAX;
        if self.any {
            self.hashes.clear();
        }
    }

    /// Returns true if the instance may have changed.
    pub(super) fn concerns(&self, instance: &InstanceId) -> bool {
        self.any || self.hashes.contains(&hash(instance))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let flags = (u8::from(self.work) * WORK) | (u8::from(self.any) * ANY);
        std::iter::once(flags).chain(self.hashes.iter().flat_map(|hash| hash.to_le_bytes())).collect()
    }

    /// Reads a notice. A malformed one, or one of another version, means that anything may have changed.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let everything = Self { work: true, any: true, hashes: Vec::new() };
        let Some((flags, hashes)) = bytes.split_first() else { return everything };
        let (hashes, rest) = hashes.as_chunks::<8>();
        if !rest.is_empty() || flags & !(WORK | ANY) != 0 {
            return everything;
        }
        let hashes = hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect();
        Self { work: flags & WORK != 0, any: flags & ANY != 0, hashes }
    }
}

/// FNV-1a, which is stable across versions of the program. A collision costs a query.
fn hash(instance: &InstanceId) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    instance.as_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> InstanceId {
        InstanceId::new(format!("order-{n}")).unwrap()
    }

    #[test]
    fn notices_round_trip() {
        let ids: Vec<_> = (0..3).map(id).collect();
        let notice = Notice::new(true, ids.iter());
        assert_eq!(Notice::from_bytes(&notice.to_bytes()), notice);
        assert!(notice.concerns(&id(2)) && !notice.concerns(&id(3)));
    }

    #[test]
    fn long_notice_concerns_every_instance() {
        let ids: Vec<_> = (0..=MAX).map(id).collect();
        let notice = Notice::new(false, ids.iter());
        assert!(notice.to_bytes().len() <= Notice::LONGEST);
        assert!(!notice.work && notice.concerns(&id(1_000_000)));
    }

    #[test]
    fn malformed_notice_concerns_everything() {
        for bytes in [&b""[..], b"\x01\x02", b"\xff", b"12345678"] {
            let notice = Notice::from_bytes(bytes);
            assert!(notice.work && notice.any, "{bytes:?}");
        }
    }
}
