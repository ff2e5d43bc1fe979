//! What every source measures, for the publisher: shared, watched, and kept over a change of the connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::encode;
use crate::plugin::About;
use crate::reading::Points;

/// What a source measures. Its message is made when it is sent: the points take a third of it.
#[derive(Debug, PartialEq)]
pub struct Meta {
    agent: String,
    source: String,
    plugin: String,
    version: String,
    points: Points,
}

impl Meta {
    /// As the source's plugin says.
    pub fn new(agent: &str, source: &str, about: &About) -> Self {
        Self {
            agent: agent.to_owned(),
            source: source.to_owned(),
            plugin: about.name.clone(),
            version: about.version.clone(),
            points: about.points.clone(),
        }
    }

    /// Of its message.
    pub fn payload(&self) -> Vec<u8> {
        encode::meta(&self.agent, &self.source, (&self.plugin, &self.version), &self.points)
    }
}

/// By source; `None` until the source knows.
pub type Metas = BTreeMap<String, Option<Arc<Meta>>>;

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

    /// What a source measures.
    pub fn set(&self, source: &str, new: Meta) {
        self.0.send_if_modified(|metas| match metas.get_mut(source) {
            Some(meta) if meta.as_deref() != Some(&new) => {
                *meta = Some(new.into());
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
