//! What a plugin is made from: its configuration and the list of its points.

use std::cell::OnceCell;

use crate::bindings::outstation::host::config as host;
use crate::bindings::outstation::types::types::{Point, PointClass, ValueKind};
use crate::config;

/// A point that was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointId(pub(crate) u32);

/// The configuration, and the points that are being declared.
#[derive(Default)]
pub struct Setup {
    /// Both as soon as somebody asks, and until the start is over.
    document: OnceCell<String>,
    config: OnceCell<config::Value>,
    points: Declared,
}

impl Setup {
    /// The source's `config` table; `check` has accepted it.
    pub fn config(&self) -> &config::Value {
        // What is no JSON was refused by `check`.
        self.config.get_or_init(|| config::parse(&host::document()).unwrap_or(config::Value::Null))
    }

    /// The same as it comes, as JSON: for [`config::Document`].
    pub fn document(&self) -> &str {
        self.document.get_or_init(host::document)
    }

    /// Makes room for so many points more. Without it there is room for up to twice as many as are declared.
    pub fn reserve(&mut self, points: usize) {
        self.points.rows.reserve_exact(points);
    }

    /// Begins the declaration of a point (letters, digits, `_ - .`); the kind of its values ends it.
    pub fn point(&mut self, id: &str) -> Declare<'_> {
        let point = Point {
            id: id.to_owned(),
            title: String::new(),
            kind: ValueKind::Real,
            class: PointClass::Gauge,
            unit: String::new(),
            range: None,
            attributes: Vec::new(),
        };
        Declare { points: &mut self.points, point }
    }

    /// Forgets all points; those declared from now on count from the beginning.
    pub fn clear(&mut self) {
        self.points = Declared::default();
    }

    pub(crate) fn points(&self) -> Vec<Point> {
        self.points.list()
    }

    /// The memory that it takes is better used; who asks again is given it anew.
    pub(crate) fn forget_config(&mut self) {
        self.document.take();
        self.config.take();
    }
}

/// Points as they are kept: there may be ten thousand, and most have a name and a kind and nothing else.
#[derive(Default)]
struct Declared {
    rows: Vec<Row>,
    /// Their names, titles and units, one after another.
    texts: String,
    ranges: Vec<(u32, (f64, f64))>,
    attributes: Vec<(u32, Vec<(String, String)>)>,
}

/// A point; its texts end here.
struct Row {
    id: u32,
    title: u32,
    unit: u32,
    kind: ValueKind,
    class: PointClass,
}

impl Declared {
    fn push(&mut self, point: Point) -> PointId {
        let number = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        let mut end = |text: &str| {
            self.texts.push_str(text);
            u32::try_from(self.texts.len()).unwrap_or(u32::MAX)
        };
        let (id, title, unit) = (end(&point.id), end(&point.title), end(&point.unit));
        self.rows.push(Row { id, title, unit, kind: point.kind, class: point.class });
        self.ranges.extend(point.range.map(|range| (number, range)));
        if !point.attributes.is_empty() {
            self.attributes.push((number, point.attributes));
        }
        PointId(number)
    }

    /// As the host is told of them.
    fn list(&self) -> Vec<Point> {
        let text = |begin: u32, end: u32| self.texts.get(begin as usize..end as usize).unwrap_or_default().to_owned();
        let mut begin = 0;
        let mut points: Vec<Point> = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            points.push(Point {
                id: text(begin, row.id),
                title: text(row.id, row.title),
                kind: row.kind,
                class: row.class,
                unit: text(row.title, row.unit),
                range: None,
                attributes: Vec::new(),
            });
            begin = row.unit;
        }
        for (number, range) in &self.ranges {
            if let Some(point) = points.get_mut(*number as usize) {
                point.range = Some(*range);
            }
        }
        for (number, attributes) in &self.attributes {
            if let Some(point) = points.get_mut(*number as usize) {
                point.attributes.clone_from(attributes);
            }
        }
        points
    }
}

/// A point that is being declared: a gauge without a unit, unless something else is said.
#[must_use = "real(), integer() and so on declare the point"]
pub struct Declare<'s> {
    points: &'s mut Declared,
    point: Point,
}

impl Declare<'_> {
    /// For people.
    pub fn title(mut self, title: &str) -> Self {
        title.clone_into(&mut self.point.title);
        self
    }

    /// A UCUM code: `Cel`, `kW.h`, `%`, `By`.
    pub fn unit(mut self, unit: &str) -> Self {
        unit.clone_into(&mut self.point.unit);
        self
    }

    /// Lowest and highest sensible value.
    pub const fn range(mut self, low: f64, high: f64) -> Self {
        self.point.range = Some((low, high));
        self
    }

    /// It only grows.
    pub const fn counter(mut self) -> Self {
        self.point.class = PointClass::Counter;
        self
    }

    /// It is one of few.
    pub const fn state(mut self) -> Self {
        self.point.class = PointClass::State;
        self
    }

    /// It tells what happened.
    pub const fn event(mut self) -> Self {
        self.point.class = PointClass::Event;
        self
    }

    /// Something else that is worth telling.
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.point.attributes.push((name.to_owned(), value.to_owned()));
        self
    }

    /// True or false.
    pub fn boolean(self) -> PointId {
        self.declare(ValueKind::Boolean)
    }

    /// Signed, 64 bit.
    pub fn integer(self) -> PointId {
        self.declare(ValueKind::Integer)
    }

    /// Unsigned, 64 bit.
    pub fn unsigned(self) -> PointId {
        self.declare(ValueKind::Unsigned)
    }

    /// Floating point.
    pub fn real(self) -> PointId {
        self.declare(ValueKind::Real)
    }

    /// UTF-8.
    pub fn text(self) -> PointId {
        self.declare(ValueKind::Text)
    }

    /// Anything else.
    pub fn bytes(self) -> PointId {
        self.declare(ValueKind::Bytes)
    }

    fn declare(mut self, kind: ValueKind) -> PointId {
        self.point.kind = kind;
        self.points.push(self.point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_told_as_they_were_declared() {
        let mut setup = Setup::default();
        setup.reserve(3);
        let one = setup.point("a").title("A").unit("mm").range(0.0, 1.5).attribute("x", "y").real();
        let two = setup.point("b").counter().unsigned();
        let three = setup.point("c").unit("s").state().attribute("z", "").boolean();
        assert_eq!([one, two, three], [PointId(0), PointId(1), PointId(2)]);
        let told = format!("{:?}", setup.points());
        let point = |id: &str, title: &str, kind, class, unit: &str, range, attributes: &[(&str, &str)]| Point {
            id: id.to_owned(),
            title: title.to_owned(),
            kind,
            class,
            unit: unit.to_owned(),
            range,
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let expected = [
            point("a", "A", ValueKind::Real, PointClass::Gauge, "mm", Some((0.0, 1.5)), &[("x", "y")]),
            point("b", "", ValueKind::Unsigned, PointClass::Counter, "", None, &[]),
            point("c", "", ValueKind::Boolean, PointClass::State, "s", None, &[("z", "")]),
        ];
        assert_eq!(told, format!("{expected:?}"));
        setup.clear();
        assert_eq!((setup.points().len(), setup.point("d").text()), (0, PointId(0)));
    }
}
