//! JSON as it is written, key by key, into the bytes of a message: no tree of it is made first.

use serde::Serialize;

/// An object that is open.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    /// Begins one.
    pub fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    /// A number, a text, or what else is one value.
    pub fn put<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) {
        self.key(key);
        value_into(self.out, value);
    }

    /// An object in it; it must be closed.
    pub fn object(&mut self, key: &str) -> Object<'_> {
        self.key(key);
        Object::open(self.out)
    }

    /// Ends it.
    pub fn close(self) {
        self.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.out.push(b',');
        }
        value_into(self.out, key);
        self.out.push(b':');
    }
}

fn value_into<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Texts and numbers only, into memory: nothing in it can fail.
    let _ = serde_json::to_writer(out, value);
}
