//! Maps whose hash is fast for short keys: each turn looks up a dozen ids and names. It is seeded at random, like that of the
//! standard library, so that clients who choose ids cannot make them collide.

use foldhash::fast::RandomState;

pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;
pub(crate) type HashSet<K> = std::collections::HashSet<K, RandomState>;
