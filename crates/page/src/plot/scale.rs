//! From numbers to places on an axis, and the round numbers that stand beside it.

/// Numbers beyond this are not drawn: their differences would overflow. On an axis of factors neither
/// are those below its inverse.
const LARGEST: f64 = 1e300;

/// What an axis says, and how it is divided.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub(super) label: String,
    is_log: bool,
    from_zero: bool,
    unit: &'static str,
}

impl Axis {
    /// An axis with equal steps.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), is_log: false, from_zero: false, unit: "" }
    }

    /// An axis with equal factors; what is not above zero is not drawn, and said so.
    pub fn log(label: impl Into<String>) -> Self {
        Self { is_log: true, ..Self::linear(label) }
    }

    /// An axis with equal steps that begins at zero.
    pub fn from_zero(label: impl Into<String>) -> Self {
        Self { from_zero: true, ..Self::linear(label) }
    }

    /// The same for shares from 0 to 1, shown in percent.
    #[must_use]
    pub fn percent(mut self) -> Self {
        self.unit = " %";
        self
    }

    /// Whether `value` has a place on the axis.
    pub(super) fn has(&self, value: f64) -> bool {
        value.abs() < LARGEST && (!self.is_log || value > 1.0 / LARGEST)
    }

    /// A number on the ruler that has equal steps: itself, or its logarithm.
    fn ruler(&self, value: f64) -> f64 {
        if self.is_log { value.log10() } else { value }
    }

    /// A number of the axis in words.
    pub(super) fn show(&self, value: f64) -> String {
        let shown = if self.unit.is_empty() { value } else { 100.0 * value };
        crate::escape::number(shown) + self.unit
    }
}

/// An axis with a range of numbers on a range of places.
pub(super) struct Scale<'a> {
    axis: &'a Axis,
    /// The ends on the ruler, and their places.
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl<'a> Scale<'a> {
    /// A scale on which all of `values` have a place, between the places `from` and `to`; with `round`
    /// it ends at round numbers.
    pub(super) fn new(
        axis: &'a Axis,
        values: impl Iterator<Item = f64>,
        (from, to): (f64, f64),
        round: bool,
    ) -> Self {
        let (mut low, mut high) = values
            .filter(|&value| axis.has(value))
            .map(|value| axis.ruler(value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| {
                (low.min(at), high.max(at))
            });
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if axis.from_zero {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        if low == high {
            let margin = if axis.is_log || low == 0.0 { 0.5 } else { low.abs() / 10.0 };
            let margin = margin.max(f64::MIN_POSITIVE);
            (low, high) = (low - margin, high + margin);
        }
        if round && axis.is_log {
            let margin = (high - low) / 25.0;
            (low, high) = (low - margin, high + margin);
        } else if round {
            let step = step(low, high);
            low = low.min((low / step).floor() * step);
            high = high.max((high / step).ceil() * step);
        }
        Self { axis, low, high, from, to }
    }

    /// The place of a number.
    pub(super) fn place(&self, value: f64) -> f64 {
        let share = (self.axis.ruler(value) - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    /// Round numbers of the range.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.axis.is_log { self.log_ticks() } else { self.linear_ticks() }
    }

    fn linear_ticks(&self) -> Vec<f64> {
        let step = step(self.low, self.high);
        let slack = step * 1e-6;
        let first = ((self.low - slack) / step).ceil();
        let ticks = (0..=20).map(|n| (first + f64::from(n)) * step);
        // Numbers too close to each other for f64 would be one tick.
        let mut ticks: Vec<f64> = ticks.take_while(|&tick| tick <= self.high + slack).collect();
        ticks.dedup();
        ticks
    }

    /// Powers of ten, and between few of them also twice and five times.
    fn log_ticks(&self) -> Vec<f64> {
        let decades = self.high - self.low;
        let factors: &[f64] = match decades {
            decades if decades < 1.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
            decades if decades < 3.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let every = (decades / 8.0).ceil().max(1.0) as i32;
        let powers = self.low.floor() as i32..=self.high.ceil() as i32;
        let powers = powers.filter(|power| power.rem_euclid(every) == 0);
        let ticks = powers.flat_map(|power| factors.iter().map(move |f| f * 10f64.powi(power)));
        ticks.filter(|tick| (self.low..=self.high).contains(&tick.log10())).collect()
    }
}

/// A step of 1, 2 or 5 times a power of ten, of which some five make up the range.
fn step(low: f64, high: f64) -> f64 {
    let raw = (high - low) / 5.0;
    let power = 10f64.powf(raw.log10().floor());
    let factor = match raw / power {
        ratio if ratio <= 1.0 => 1.0,
        ratio if ratio <= 2.0 => 2.0,
        ratio if ratio <= 5.0 => 5.0,
        _ => 10.0,
    };
    // The smallest numbers have no steps.
    (factor * power).max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticks(axis: &Axis, values: &[f64], round: bool) -> Vec<f64> {
        Scale::new(axis, values.iter().copied(), (0.0, 1.0), round).ticks()
    }

    #[test]
    fn ticks_are_round() {
        let shown = |axis: &Axis, values: &[f64]| -> Vec<String> {
            ticks(axis, values, true).into_iter().map(|tick| axis.show(tick)).collect()
        };
        let linear = Axis::linear("x");
        assert_eq!(shown(&linear, &[0.0, 1.0]), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(shown(&linear, &[3.0, 997.0]), ["0", "200", "400", "600", "800", "1000"]);
        assert_eq!(shown(&linear, &[5.0]), ["4.5", "5", "5.5"]);
        let percent = Axis::from_zero("x").percent();
        assert_eq!(shown(&percent, &[0.41]), ["0 %", "10 %", "20 %", "30 %", "40 %", "50 %"]);
        assert_eq!(shown(&Axis::log("x"), &[0.01, 100.0]), ["0.01", "0.1", "1", "10", "100"]);
        assert_eq!(shown(&Axis::log("x"), &[2.0, 4.0]), ["2", "3", "4"]);
    }

    proptest! {
        #[test]
        fn any_numbers_have_places_inside(
            values in prop::collection::vec(any::<f64>(), 0..6),
            is_log: bool, round: bool, from_zero: bool,
        ) {
            let axis = Axis { is_log, from_zero: from_zero && !is_log, ..Axis::linear("x") };
            let scale = Scale::new(&axis, values.iter().copied(), (10.0, 20.0), round);
            for &value in values.iter().filter(|&&value| axis.has(value)) {
                let place = scale.place(value);
                prop_assert!((9.999..=20.001).contains(&place), "{value} at {place}");
            }
            let ticks = scale.ticks();
            prop_assert!(ticks.len() <= 32, "{} ticks", ticks.len());
            prop_assert!(ticks.iter().all(|&tick| (9.9..=20.1).contains(&scale.place(tick))));
        }
    }
}
