//! What a plugin is made from: its configuration and the list of its points.

use crate::bindings::outstation::types::types::{Point, PointClass, ValueKind};
use crate::config;

/// A point that was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointId(pub(crate) u32);

/// The configuration, and the points that are being declared.
pub struct Setup {
    config: config::Value,
    points: Vec<Point>,
}

impl Setup {
    pub(crate) const fn new(config: config::Value) -> Self {
        Self { config, points: Vec::new() }
    }

    /// The source's `config` table; `check` has accepted it.
    pub const fn config(&self) -> &config::Value {
        &self.config
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
        self.points.clear();
    }

    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }
}

/// A point that is being declared: a gauge without a unit, unless something else is said.
#[must_use = "real(), integer() and so on declare the point"]
pub struct Declare<'s> {
    points: &'s mut Vec<Point>,
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
        let id = PointId(u32::try_from(self.points.len()).unwrap_or(u32::MAX));
        self.points.push(self.point);
        id
    }
}
