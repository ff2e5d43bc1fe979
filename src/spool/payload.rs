//! The bytes of a record as they are read: a share of the block that was read at once, so that a backlog goes out
//! without an allocation and a copy for each record.
//!
//! Owns a share of the block. Invariants: its bytes never change; as long as it lives the whole block stays in memory,
//! so it is for what is used up soon.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Bytes that are shared.
#[derive(Clone, Default)]
pub struct Payload {
    block: Arc<Vec<u8>>,
    place: Range<usize>,
}

impl Payload {
    /// This part of a block; `None` where it has no such part.
    pub(crate) fn share(block: &Arc<Vec<u8>>, place: Range<usize>) -> Option<Self> {
        block.get(place.clone())?;
        Some(Self { block: block.clone(), place })
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.block.get(self.place.clone()).unwrap_or_default()
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        let place = 0..bytes.len();
        Self { block: Arc::new(bytes), place }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, out)
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload {}
