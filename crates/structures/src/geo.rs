//! Points on the earth as integers of 52 bits, so that a set ordered by them can be searched by area.
//!
//! ```text
//! bit 51 50 49 48 … 1 0
//!     x  y  x  y  … x y        x: longitude in -180..180, y: latitude in -85.05…..85.05, 26 bits each
//! ```
//!
//! Points of one cell of the grid that the first `2 * step` bits make are neighbours in this order. A search takes the
//! cell of its centre, in a grid whose cells are about as large as the area searched, and the eight cells around it;
//! what lies in these ranges is then measured one by one.
//!
//! The arithmetic, down to the order of operations, is that of Redis, so that distances and the members at the edge of
//! an area are the same to the last bit: see G. Niemeyer's geohash, the haversine formula, and for polygons
//! W. R. Franklin, PNPOLY.

use std::ops::Range;

pub const LONGITUDE_MAX: f64 = 180.0;
/// Where the square map of the world ends (EPSG:3857); the poles have no place on it.
pub const LATITUDE_MAX: f64 = 85.05112878;

/// Bits of each coordinate.
const STEP_MAX: u32 = 26;
const EARTH_RADIUS_M: f64 = 6372797.560856;
/// Half of the width of the map, for choosing how fine a grid is.
const MERCATOR_MAX_M: f64 = 20037726.37;
const RADIANS: f64 = std::f64::consts::PI / 180.0;
const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// Characters of a geohash, the last of which is always 0: 52 bits make ten and two bits.
pub const GEOHASH_LEN: usize = 11;

/// In degrees.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    pub longitude: f64,
    pub latitude: f64,
}

/// What is searched. Lengths are in the unit of the [`Search`].
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    Circle {
        radius: f64,
    },
    /// A box along the meridians; its centre is that of the search.
    Box {
        width: f64,
        height: f64,
    },
    /// At least three corners. The centre of the search is made from them.
    Polygon {
        vertices: Vec<Point>,
    },
}

/// A prepared search: which ranges of integers may hold members of the area, and which points are in it.
#[derive(Debug, Clone)]
pub struct Search {
    shape: Shape,
    unit_m: f64,
    centre: Centre,
    cells: [Option<Cell>; 9],
}

/// A point that many others are measured against.
#[derive(Debug, Clone, Copy)]
struct Centre {
    longitude_rad: f64,
    latitude_rad: f64,
    latitude_cos: f64,
}

/// A cell of the grid of `2^step` by `2^step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    bits: u64,
    step: u32,
}

/// Degrees: of a cell, or around a shape.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    min: Point,
    max: Point,
}

impl Point {
    /// Whether both coordinates lie on the map.
    pub fn is_on_map(self) -> bool {
        self.longitude.abs() <= LONGITUDE_MAX && self.latitude.abs() <= LATITUDE_MAX
    }

    /// The integer of a point on the map.
    pub fn encode(self) -> u64 {
        Cell::of(self, STEP_MAX, LATITUDE_MAX).bits
    }

    /// The middle of the smallest cell with this integer.
    pub fn decode(bits: u64) -> Point {
        let Bounds { min, max } = Cell { bits, step: STEP_MAX }.bounds();
        let middle = |min: f64, max: f64, limit: f64| ((min + max) / 2.0).clamp(-limit, limit);
        Point {
            longitude: middle(min.longitude, max.longitude, LONGITUDE_MAX),
            latitude: middle(min.latitude, max.latitude, LATITUDE_MAX),
        }
    }

    /// The point that a score stands for. Scores that were not made by [`Point::encode`] are read as x86-64 converts
    /// them, which is what people see of Redis.
    pub fn of_score(score: f64) -> Point {
        const HALF: f64 = (1u64 << 63) as f64;
        let truncated = |value: f64| if value.abs() < HALF { value as i64 as u64 } else { i64::MIN as u64 };
        let bits = if score < HALF { truncated(score) } else { truncated(score - HALF) ^ (1 << 63) };
        Point::decode(bits)
    }

    /// The standard geohash, whose latitudes go from pole to pole.
    pub fn geohash(self) -> [u8; GEOHASH_LEN] {
        let bits = Cell::of(self, STEP_MAX, 90.0).bits;
        std::array::from_fn(|at| {
            let index = if at == GEOHASH_LEN - 1 { 0 } else { bits >> (52 - 5 * (at + 1)) & 0x1f };
            ALPHABET[index as usize]
        })
    }

    /// The length of the great circle between two points, in metres.
    pub fn distance_m(self, other: Point) -> f64 {
        Centre::at(self).distance_m(other)
    }
}

impl Centre {
    fn at(point: Point) -> Centre {
        let latitude_rad = point.latitude * RADIANS;
        Centre { longitude_rad: point.longitude * RADIANS, latitude_rad, latitude_cos: latitude_rad.cos() }
    }

    /// Haversine.
    fn distance_m(&self, other: Point) -> f64 {
        let v = ((other.longitude * RADIANS - self.longitude_rad) / 2.0).sin();
        if v == 0.0 {
            return self.latitude_distance_m(other);
        }
        let latitude_rad = other.latitude * RADIANS;
        let u = ((latitude_rad - self.latitude_rad) / 2.0).sin();
        let a = u * u + self.latitude_cos * latitude_rad.cos() * v * v;
        // Between antipodes rounding may leave a little more than 1, which is the sine of nothing.
        2.0 * EARTH_RADIUS_M * a.sqrt().min(1.0).asin()
    }

    /// The distance of `other` from the point of its latitude on this meridian, and from this point. Both are what
    /// [`Centre::distance_m`] gives, as a sine only changes its sign with its argument.
    fn abeam_and_distance_m(&self, other: Point) -> (f64, f64) {
        let v = ((other.longitude * RADIANS - self.longitude_rad) / 2.0).sin();
        if v == 0.0 {
            return (0.0, self.latitude_distance_m(other));
        }
        let latitude_rad = other.latitude * RADIANS;
        let latitude_cos = latitude_rad.cos();
        let u = ((latitude_rad - self.latitude_rad) / 2.0).sin();
        let length_m = |a: f64| 2.0 * EARTH_RADIUS_M * a.sqrt().min(1.0).asin();
        let abeam_m = length_m(latitude_cos * latitude_cos * v * v);
        (abeam_m, length_m(u * u + self.latitude_cos * latitude_cos * v * v))
    }

    /// Along a meridian.
    fn latitude_distance_m(&self, other: Point) -> f64 {
        EARTH_RADIUS_M * (other.latitude * RADIANS - self.latitude_rad).abs()
    }
}

impl Search {
    /// `unit_m` is how many metres the unit of the shape's lengths has. The centre is ignored for a polygon.
    pub fn new(centre: Point, shape: Shape, unit_m: f64) -> Search {
        let (centre, bounds, radius_m) = match &shape {
            Shape::Circle { radius } => {
                (centre, around(centre, unit_m * radius, unit_m * radius), radius * unit_m)
            }
            Shape::Box { width, height } => {
                let (half_width, half_height) = (width / 2.0, height / 2.0);
                let bounds = around(centre, unit_m * half_width, unit_m * half_height);
                (centre, bounds, (half_width * half_width + half_height * half_height).sqrt() * unit_m)
            }
            Shape::Polygon { vertices } => {
                let (centre, bounds) = (centroid(vertices), enclosing(vertices));
                let Bounds { min, max } = bounds;
                let corners = [(min, max), (max, max), (min, min), (max, min)]
                    .map(|(x, y)| centre.distance_m(Point { longitude: x.longitude, latitude: y.latitude }));
                (centre, bounds, corners.into_iter().fold(0.0, f64::max) * unit_m)
            }
        };
        let cells = cells_around(centre, bounds, radius_m);
        Search { shape, unit_m, centre: Centre::at(centre), cells }
    }

    /// The ranges of integers that may hold points of the area, in the order in which Redis looks at them.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        // Where the grid has two columns, the cell to the east is the one to the west.
        let mut last = None;
        self.cells.iter().enumerate().filter_map(move |(index, cell)| {
            let cell = (*cell)?;
            if last == Some(cell) {
                return None;
            }
            last = (index > 0).then_some(cell);
            Some(cell.range())
        })
    }

    /// The distance of a point from the centre in metres, if it is in the area.
    #[inline]
    pub fn distance_within_m(&self, point: Point) -> Option<f64> {
        match &self.shape {
            Shape::Circle { radius } => {
                let radius_m = radius * self.unit_m;
                // What is too far along the meridian alone needs no haversine; the margin is far above its rounding.
                if self.centre.latitude_distance_m(point) > radius_m * (1.0 + 1e-9) + 1e-3 {
                    return None;
                }
                let distance_m = self.centre.distance_m(point);
                (distance_m <= radius_m).then_some(distance_m)
            }
            Shape::Box { width, height } => {
                if self.centre.latitude_distance_m(point) > height * self.unit_m / 2.0 {
                    return None;
                }
                let (abeam_m, distance_m) = self.centre.abeam_and_distance_m(point);
                (abeam_m <= width * self.unit_m / 2.0).then_some(distance_m)
            }
            Shape::Polygon { vertices } => is_inside(vertices, point).then(|| self.centre.distance_m(point)),
        }
    }

    pub fn unit_m(&self) -> f64 {
        self.unit_m
    }
}

impl Cell {
    /// The cell of a point where latitudes go from `-latitude_max` to `latitude_max`.
    fn of(point: Point, step: u32, latitude_max: f64) -> Cell {
        let share = |value: f64, limit: f64| (value + limit) / (limit - -limit) * (1u64 << step) as f64;
        let x = share(point.longitude, LONGITUDE_MAX) as u32;
        let y = share(point.latitude, latitude_max) as u32;
        Cell { bits: spread(y) | spread(x) << 1, step }
    }

    fn bounds(self) -> Bounds {
        let (x, y) = (gather(self.bits >> 1), gather(self.bits));
        let cells = (1u64 << self.step) as f64;
        // 32 bits only, as in Redis: it matters for scores that are no points.
        let at = |column: u32, limit: f64| -limit + f64::from(column) / cells * (limit - -limit);
        let corner =
            |x: u32, y: u32| Point { longitude: at(x, LONGITUDE_MAX), latitude: at(y, LATITUDE_MAX) };
        Bounds { min: corner(x, y), max: corner(x.wrapping_add(1), y.wrapping_add(1)) }
    }

    /// The integers of the points in this cell.
    fn range(self) -> Range<u64> {
        let shift = 2 * (STEP_MAX - self.step);
        self.bits << shift..(self.bits + 1) << shift
    }

    /// The cell so many columns and rows away, around the edges of the map.
    fn moved(self, columns: i64, rows: i64) -> Cell {
        let mask = (1u64 << self.step) - 1;
        // The upper edge of the map lies in a cell beyond the last one, which a move across it leaves as it is.
        let shifted = |at: u32, by: i64| {
            if by == 0 { at } else { (u64::from(at).wrapping_add_signed(by) & mask) as u32 }
        };
        let (x, y) = (gather(self.bits >> 1), gather(self.bits));
        Cell { bits: spread(shifted(y, rows)) | spread(shifted(x, columns)) << 1, step: self.step }
    }
}

/// The cell of the centre, then its neighbours N, S, E, W, NE, NW, SE, SW, without those that cannot be needed.
fn cells_around(centre: Point, within: Bounds, radius_m: f64) -> [Option<Cell>; 9] {
    // The centre of a polygon around a pole is not on the map.
    let latitude = centre.latitude.clamp(-LATITUDE_MAX, LATITUDE_MAX);
    let place = Point { longitude: centre.longitude.clamp(-LONGITUDE_MAX, LONGITUDE_MAX), latitude };
    let mut step = step_for(radius_m, latitude);
    let mut cell = Cell::of(place, step, LATITUDE_MAX);
    let too_small = cell.moved(0, 1).bounds().max.latitude < within.max.latitude
        || cell.moved(0, -1).bounds().min.latitude > within.min.latitude
        || cell.moved(1, 0).bounds().max.longitude < within.max.longitude
        || cell.moved(-1, 0).bounds().min.longitude > within.min.longitude;
    if step > 1 && too_small {
        step -= 1;
        cell = Cell::of(place, step, LATITUDE_MAX);
    }
    let own = cell.bounds();
    let (mut columns, mut rows) = (-1..=1, -1..=1);
    if step >= 2 {
        let needed = |low: bool, high: bool| (if low { 0 } else { -1 })..=(if high { 0 } else { 1 });
        columns = needed(own.min.longitude < within.min.longitude, own.max.longitude > within.max.longitude);
        rows = needed(own.min.latitude < within.min.latitude, own.max.latitude > within.max.latitude);
    }
    const AROUND: [(i64, i64); 9] =
        [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
    AROUND.map(|(x, y)| (columns.contains(&x) && rows.contains(&y)).then(|| cell.moved(x, y)))
}

/// How fine the grid is, so that nine cells cover a circle of this radius, nearly always.
fn step_for(radius_m: f64, latitude: f64) -> u32 {
    if radius_m == 0.0 {
        return STEP_MAX;
    }
    let (mut reach_m, mut step) = (radius_m, 1);
    while reach_m < MERCATOR_MAX_M {
        reach_m *= 2.0;
        step += 1;
    }
    step -= 2;
    // Towards the poles a cell is narrower than it looks.
    step -= i32::from(latitude.abs() > 66.0) + i32::from(latitude.abs() > 80.0);
    step.clamp(1, STEP_MAX as i32) as u32
}

/// What a shape of these half lengths in metres reaches, in degrees.
fn around(centre: Point, half_width_m: f64, half_height_m: f64) -> Bounds {
    let rows = half_height_m / EARTH_RADIUS_M / RADIANS;
    // Meridians are closest at the edge that is closer to the pole; Redis takes the one away from the equator.
    let edge = if centre.latitude < 0.0 { centre.latitude - rows } else { centre.latitude + rows };
    let columns = half_width_m / EARTH_RADIUS_M / (edge * RADIANS).cos() / RADIANS;
    let corner = |x: f64, y: f64| Point { longitude: centre.longitude + x, latitude: centre.latitude + y };
    Bounds { min: corner(-columns, -rows), max: corner(columns, rows) }
}

fn enclosing(vertices: &[Point]) -> Bounds {
    let mut min = Point { longitude: LONGITUDE_MAX, latitude: LATITUDE_MAX };
    let mut max = Point { longitude: -LONGITUDE_MAX, latitude: -LATITUDE_MAX };
    for vertex in vertices {
        min.longitude = min.longitude.min(vertex.longitude);
        min.latitude = min.latitude.min(vertex.latitude);
        max.longitude = max.longitude.max(vertex.longitude);
        max.latitude = max.latitude.max(vertex.latitude);
    }
    Bounds { min, max }
}

/// The mean of the corners in space, seen from the middle of the earth.
fn centroid(vertices: &[Point]) -> Point {
    let (mut x, mut y, mut z) = (0.0, 0.0, 0.0);
    for vertex in vertices {
        let (longitude, latitude) = (vertex.longitude * RADIANS, vertex.latitude * RADIANS);
        x += EARTH_RADIUS_M * latitude.cos() * longitude.cos();
        y += EARTH_RADIUS_M * latitude.cos() * longitude.sin();
        z += EARTH_RADIUS_M * latitude.sin();
    }
    let count = vertices.len() as f64;
    (x, y, z) = (x / count, y / count, z / count);
    Point { longitude: y.atan2(x) / RADIANS, latitude: z.atan2((x * x + y * y).sqrt()) / RADIANS }
}

/// Whether a ray to the east crosses the outline an odd number of times. Degrees are taken as a plane.
fn is_inside(vertices: &[Point], point: Point) -> bool {
    let mut inside = false;
    let mut previous = vertices[vertices.len() - 1];
    for &vertex in vertices {
        let straddles = (vertex.latitude > point.latitude) != (previous.latitude > point.latitude);
        if straddles {
            let crossing = (previous.longitude - vertex.longitude) * (point.latitude - vertex.latitude)
                / (previous.latitude - vertex.latitude)
                + vertex.longitude;
            inside ^= point.longitude < crossing;
        }
        previous = vertex;
    }
    inside
}

/// Puts a zero above each bit.
fn spread(value: u32) -> u64 {
    let mut bits = u64::from(value);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Takes every second bit, from the lowest on.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cases;
    use proptest::prelude::*;

    const PALERMO: Point = Point { longitude: 13.361389, latitude: 38.115556 };
    const CATANIA: Point = Point { longitude: 15.087269, latitude: 37.502669 };

    fn points() -> impl Strategy<Value = Point> {
        (-180.0..=180.0, -85.05112878..=85.05112878)
            .prop_map(|(longitude, latitude)| Point { longitude, latitude })
    }

    fn near(centre: Point, spread: f64) -> impl Strategy<Value = Point> {
        (-spread..spread, -spread..spread).prop_map(move |(x, y)| Point {
            longitude: (centre.longitude + x).clamp(-LONGITUDE_MAX, LONGITUDE_MAX),
            latitude: (centre.latitude + y).clamp(-LATITUDE_MAX, LATITUDE_MAX),
        })
    }

    fn is_searched(search: &Search, point: Point) -> bool {
        search.ranges().any(|range| range.contains(&point.encode()))
    }

    /// As redis 7.0.15 answers GEOADD, GEOPOS, GEOHASH and GEODIST.
    #[test]
    fn well_known_points() {
        assert_eq!((PALERMO.encode(), CATANIA.encode()), (3479099956230698, 3479447370796909));
        let palermo = Point::decode(PALERMO.encode());
        assert_eq!((palermo.longitude, palermo.latitude), (13.361389338970184, 38.1155563954963));
        assert_eq!(&palermo.geohash(), b"sqc8b49rny0");
        assert_eq!(&Point::decode(CATANIA.encode()).geohash(), b"sqdtr74hyu0");
        let distance_m = palermo.distance_m(Point::decode(CATANIA.encode()));
        assert!((distance_m - 166274.1516).abs() < 0.0001, "{distance_m}");
    }

    #[test]
    fn scores_that_are_no_points_are_read_as_bits() {
        let corner = Point::decode(0);
        assert_eq!(Point::of_score(0.9), corner);
        assert_eq!(Point::of_score(f64::INFINITY), corner);
        assert_eq!(Point::of_score(-1.0), Point::decode(u64::MAX));
        assert_eq!(Point::of_score(1e30), corner);
        assert_eq!(Point::of_score((1u64 << 63) as f64), Point::decode(1 << 63));
    }

    #[test]
    fn the_corners_of_the_map_encode() {
        let corner = |x, y| Point { longitude: x * LONGITUDE_MAX, latitude: y * LATITUDE_MAX };
        assert_eq!(corner(-1.0, -1.0).encode(), 0);
        assert_eq!(corner(1.0, 1.0).encode(), 3 << 52);
        assert!(corner(1.0, 1.0).is_on_map() && !corner(1.1, 0.0).is_on_map());
        assert!(!Point { longitude: f64::NAN, latitude: 0.0 }.is_on_map());
    }

    #[test]
    fn a_polygon_with_a_notch() {
        let at = |longitude, latitude| Point { longitude, latitude };
        let vertices = vec![at(0.0, 0.0), at(4.0, 0.0), at(4.0, 4.0), at(2.0, 1.0), at(0.0, 4.0)];
        let search = Search::new(Point::default(), Shape::Polygon { vertices }, 1.0);
        let inside = |x, y| search.distance_within_m(at(x, y)).is_some();
        assert!(inside(1.0, 1.0) && inside(3.5, 3.0) && inside(2.0, 0.5));
        assert!(!inside(2.0, 3.0) && !inside(5.0, 1.0) && !inside(-1.0, 1.0) && !inside(2.0, 5.0));
    }

    #[test]
    fn a_polygon_around_the_pole_is_searched() {
        let vertices = [0.0, 120.0, -120.0].map(|longitude| Point { longitude, latitude: 85.0 }).to_vec();
        let search = Search::new(Point::default(), Shape::Polygon { vertices }, 1.0);
        assert!(search.ranges().count() > 0);
    }

    proptest! {
        #![proptest_config(cases(256, 2))]

        #[test]
        fn decoding_stays_within_a_cell(point in points()) {
            let decoded = Point::decode(point.encode());
            prop_assert!((decoded.longitude - point.longitude).abs() <= 360.0 / (1u64 << 26) as f64);
            prop_assert!((decoded.latitude - point.latitude).abs() <= 171.0 / (1u64 << 26) as f64);
        }

        #[test]
        fn bits_are_interleaved(value: u32) {
            prop_assert_eq!(gather(spread(value)), value);
            prop_assert_eq!(gather(spread(value) << 1), 0);
        }

        #[test]
        fn distance_is_a_metric(a in points(), b in points()) {
            let (there, back) = (a.distance_m(b), b.distance_m(a));
            prop_assert!((there - back).abs() < 1e-3);
            prop_assert!((0.0..=20_030_000.0).contains(&there));
        }

        /// Away from the poles and the date line nothing within a circle is missed.
        #[test]
        fn the_cells_cover_a_circle(
            (centre, other) in ((-120.0..120.0), (-60.0..60.0)).prop_flat_map(|(longitude, latitude)| {
                let centre = Point { longitude, latitude };
                (Just(centre), near(centre, 3.0))
            }),
            radius in 1.0..200_000.0,
        ) {
            let search = Search::new(centre, Shape::Circle { radius }, 1.0);
            if search.distance_within_m(other).is_some() {
                prop_assert!(is_searched(&search, other));
            }
        }

        #[test]
        fn what_is_in_a_box_is_in_its_circle(
            (centre, other) in points().prop_flat_map(|centre| (Just(centre), near(centre, 5.0))),
            width in 1.0..500.0,
            height in 1.0..500.0,
        ) {
            let boxed = Search::new(centre, Shape::Box { width, height }, 1000.0);
            if let Some(distance_m) = boxed.distance_within_m(other) {
                prop_assert!(distance_m <= (width + height) * 1000.0);
                prop_assert_eq!(distance_m, centre.distance_m(other));
            }
        }

        #[test]
        fn distances_abeam_are_distances(centre in points(), other in points()) {
            let abeam = Point { longitude: centre.longitude, latitude: other.latitude };
            let both = Centre::at(centre).abeam_and_distance_m(other);
            prop_assert_eq!(both, (other.distance_m(abeam), centre.distance_m(other)));
        }

        #[test]
        fn ranges_do_not_overlap(centre in points(), radius in 0.0..20_000_000.0) {
            let search = Search::new(centre, Shape::Circle { radius }, 1.0);
            let mut ranges: Vec<_> = search.ranges().map(|range| (range.start, range.end)).collect();
            ranges.sort_unstable();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{:?}", ranges);
        }
    }
}
