//! The points of a source, column by column: there may be ten thousand of them in one source and many such sources, and
//! most say no more of themselves than a name and a kind.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Class, Kind, Point};

/// Texts in their order, in one piece of memory. A clone shares it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Names(Arc<Texts>);

#[derive(Default, PartialEq, Eq)]
struct Texts {
    text: Box<str>,
    /// Where each ends in `text`.
    ends: Box<[u32]>,
}

impl Names {
    /// By its number.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.0.ends.get(index)?;
        let begin = match index.checked_sub(1) {
            Some(before) => *self.0.ends.get(before)?,
            None => 0,
        };
        self.0.text.get(begin as usize..end as usize)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Collects [`Names`].
#[derive(Default)]
struct Writer {
    text: String,
    ends: Vec<u32>,
}

impl Writer {
    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        // 4 GiB of names come from nowhere; beyond, there is nothing at their numbers.
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    fn finish(self) -> Names {
        Names(Arc::new(Texts { text: self.text.into(), ends: self.ends.into() }))
    }
}

impl<S: AsRef<str>> FromIterator<S> for Names {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut writer = Writer::default();
        names.into_iter().for_each(|name| writer.push(name.as_ref()));
        writer.finish()
    }
}

/// As a list of strings.
impl Serialize for Names {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Names;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let mut writer = Writer::default();
                while let Some(name) = list.next_element::<String>()? {
                    writer.push(&name);
                }
                Ok(writer.finish())
            }
        }
        from.deserialize_seq(All)
    }
}

/// What a source measures; readings name it by index. A clone shares it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Points(Arc<Columns>);

#[derive(Debug, Default, PartialEq)]
struct Columns {
    ids: Names,
    titles: Names,
    units: Names,
    kinds: Box<[(Kind, Class)]>,
    /// Of those that have one.
    ranges: BTreeMap<usize, (f64, f64)>,
    attributes: BTreeMap<usize, Vec<(String, String)>>,
}

impl Points {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.kinds.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their names.
    pub fn ids(&self) -> &Names {
        &self.0.ids
    }

    /// What a point's values are.
    pub fn kind(&self, index: usize) -> Option<Kind> {
        self.0.kinds.get(index).map(|(kind, _)| *kind)
    }

    /// All that is known of one.
    pub fn get(&self, index: usize) -> Option<Point> {
        let all = &*self.0;
        let (kind, class) = *all.kinds.get(index)?;
        Some(Point {
            id: all.ids.get(index)?.to_owned(),
            title: all.titles.get(index)?.to_owned(),
            kind,
            class,
            unit: all.units.get(index)?.to_owned(),
            range: all.ranges.get(&index).copied(),
            attributes: all.attributes.get(&index).cloned().unwrap_or_default(),
        })
    }

    /// All of them, one at a time.
    pub fn iter(&self) -> impl Iterator<Item = Point> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl FromIterator<Point> for Points {
    fn from_iter<I: IntoIterator<Item = Point>>(points: I) -> Self {
        let (mut ids, mut titles, mut units) = (Writer::default(), Writer::default(), Writer::default());
        let (mut kinds, mut ranges, mut attributes) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for (index, point) in points.into_iter().enumerate() {
            ids.push(&point.id);
            titles.push(&point.title);
            units.push(&point.unit);
            kinds.push((point.kind, point.class));
            ranges.extend(point.range.map(|range| (index, range)));
            attributes.extend(Some((index, point.attributes)).filter(|(_, attributes)| !attributes.is_empty()));
        }
        let (ids, titles, units) = (ids.finish(), titles.finish(), units.finish());
        Self(Arc::new(Columns { ids, titles, units, kinds: kinds.into(), ranges, attributes }))
    }
}
