//! What every source measures, for the publisher: shared, watched, and kept over a change of the connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// By source; `None` until the source knows.
pub type Metas = BTreeMap<String, Option<Arc<[u8]>>>;

/// The list. A clone is the same list.
#[derive(Clone)]
pub struct MetaList(Arc<watch::Sender<Metas>>);

impl MetaList {
    /// Without a source.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Metas::new())))
    }

    /// Who is configured; what others measured is forgotten.
    pub fn configure<'a>(&self, sources: impl Iterator<Item = &'a String>) {
        self.0.send_if_modified(|metas| {
            let mut wanted: Metas = sources.map(|source| (source.clone(), None)).collect();
            wanted.iter_mut().for_each(|(source, meta)| *meta = metas.get(source).cloned().flatten());
            let changed = *metas != wanted;
            *metas = wanted;
            changed
        });
    }

    /// What a source measures, as the payload of its meta message.
    pub fn set(&self, source: &str, payload: Vec<u8>) {
        self.0.send_if_modified(|metas| match metas.get_mut(source) {
            Some(meta) if meta.as_deref() != Some(&payload) => {
                *meta = Some(payload.into());
                true
            }
            // A source that is being removed has nothing to say any more.
            _ => false,
        });
    }

    /// To be told of changes.
    pub fn watch(&self) -> watch::Receiver<Metas> {
        self.0.subscribe()
    }
}
