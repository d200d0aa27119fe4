//! How the largest values of a statistic are distributed, and which of them
//! have been seen before.

use crate::state::{Decoder, Encoder, StateError};

/// The part of the values above the threshold of the tail.
const TAIL: f64 = 0.05;

/// Rows that the threshold follows.
const MEMORY: f64 = 1000.0;

/// Values above the threshold that their mean excess remembers: 200 of them
/// are the tail of 4,000 rows.
const EXCESS_MEMORY: f64 = 200.0;

/// The mean excess before any was seen, and how many values that belief
/// weighs. In logarithms of distances, 0.3 is the tail of normal noise.
const PRIOR_EXCESS: f64 = 0.3;
const PRIOR_WEIGHT: f64 = 20.0;

/// An excess counts as at most this much: 150 times the threshold.
const EXCESS_MAX: f64 = 5.0;

/// How many of the largest events are remembered. With 8 to 12 the detector
/// tells repetition from chance about as well; fewer forget, more find a
/// resemblance for everything.
const EVENTS: usize = 10;

/// Events that differ by less are of one size: 22 % in the distance.
const ALIKE: f64 = 0.2;

/// Values above the quantile belong to one event until so many rows, and so
/// many windows, have passed since its largest.
const EVENT_ROWS_MIN: f64 = 20.0;
const EVENT_WINDOWS: f64 = 2.0;

/// Rows after which an event is forgotten.
const EVENT_AGE_MAX: f64 = 30_000.0;

/// The evidence that is left for an event of a size that was seen k times:
/// REPEATED (1 - log10(k + 1)). The second time is still worth an alarm, the
/// third is not.
const REPEATED: f64 = 3.0;

/// The 95 % quantile of a statistic, the mean excess above it, and the largest
/// events.
///
/// The quantile follows the values by steps (up 0.95, down 0.05), the excess
/// over it is taken as exponential: P(u > q + e) = 0.05 exp(-e / mean excess).
/// For the logarithm of a distance that is a power law, which fits both noise
/// and spikes. What it does not fit is a pump that starts once a day: its spike
/// is far out and yet usual. So events are remembered by their size, and one of
/// a known size counts less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tail {
    rows: f64,
    quantile: f64,
    excess: f64,
    current: Event,
    events: [Event; EVENTS],
}

/// The largest value of some rows in a row above the quantile; a size of 0 is
/// none.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
struct Event {
    size: f32,
    /// The row of the tail, as a number that is exact to 2^24; later ones are
    /// off by a few rows, which an age does not mind.
    row: f32,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            rows: 0.0,
            quantile: 0.0,
            excess: PRIOR_EXCESS,
            current: Event::default(),
            events: [Event::default(); EVENTS],
        }
    }
}

impl Tail {
    /// The evidence that a value `u` is unusual, -log10 of its probability, less
    /// `age` and less what is known of its size; then learns it. `window` is the
    /// number of rows that the statistic looks back.
    pub(super) fn judge(&mut self, u: f64, window: f64, age: f64) -> f64 {
        self.gather(u, (EVENT_WINDOWS * window).max(EVENT_ROWS_MIN));
        let evidence = self.evidence(u) - age;
        let seen = self.seen(u);
        self.learn(u);
        if seen > 0 {
            evidence.min(REPEATED * (1.0 - (seen as f64 + 1.0).log10()))
        } else {
            evidence
        }
    }

    /// -log10 of the probability of a value as large as `u`; below the quantile
    /// it rises evenly from 0.
    fn evidence(&self, u: f64) -> f64 {
        let at_quantile = -TAIL.log10();
        if u <= self.quantile {
            at_quantile * (u / self.quantile.max(1e-9)).clamp(0.0, 1.0)
        } else {
            at_quantile + (u - self.quantile) / self.excess.max(1e-3) * std::f64::consts::LOG10_E
        }
    }

    /// How many finished events were of the size of `u`.
    fn seen(&self, u: f64) -> usize {
        let alike = |event: &&Event| {
            let age = self.rows - f64::from(event.row);
            event.size > 0.0 && (f64::from(event.size) - u).abs() <= ALIKE && age <= EVENT_AGE_MAX
        };
        self.events.iter().filter(alike).count()
    }

    /// Takes a value above the quantile into the current event, or ends that
    /// and begins another.
    fn gather(&mut self, u: f64, gap: f64) {
        if u <= self.quantile {
            return;
        }
        let this = Event {
            size: u as f32,
            row: self.rows as f32,
        };
        if self.rows - f64::from(self.current.row) > gap || self.current.size == 0.0 {
            self.remember(self.current);
            self.current = this;
        } else if this.size > self.current.size {
            self.current = this;
        }
    }

    /// Keeps an event in the place of a forgotten one, or of the smallest if it
    /// is larger.
    fn remember(&mut self, event: Event) {
        let rank = |it: &Event| {
            if self.rows - f64::from(it.row) > EVENT_AGE_MAX {
                0.0
            } else {
                it.size
            }
        };
        let ranks = self.events.map(|it| rank(&it));
        let mut smallest = 0;
        for (index, rank) in ranks.iter().enumerate() {
            if *rank < ranks[smallest] {
                smallest = index;
            }
        }
        if event.size > ranks[smallest] {
            self.events[smallest] = event;
        }
    }

    /// Takes a value that was scored.
    fn learn(&mut self, u: f64) {
        self.rows += 1.0;
        if self.rows <= 1.0 {
            self.quantile = u;
            return;
        }
        let step = 2.0 * (1.0 / self.rows).max(1.0 / MEMORY);
        self.quantile += if u > self.quantile {
            step * (1.0 - TAIL)
        } else {
            -step * TAIL
        };
        if u > self.quantile {
            let rate = (1.0 / (self.rows * TAIL + PRIOR_WEIGHT)).max(1.0 / EXCESS_MEMORY);
            self.excess += rate * ((u - self.quantile).min(EXCESS_MAX) - self.excess);
        }
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        for number in [self.rows, self.quantile, self.excess] {
            out.put_f64(number);
        }
        for event in std::iter::once(&self.current).chain(&self.events) {
            out.put_u32(event.size.to_bits());
            out.put_u32(event.row.to_bits());
        }
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Result<Self, StateError> {
        let mut tail = Self {
            rows: input.take_f64()?,
            quantile: input.take_f64()?,
            excess: input.take_f64()?,
            ..Self::default()
        };
        for event in std::iter::once(&mut tail.current).chain(&mut tail.events) {
            event.size = f32::from_bits(input.take_u32()?);
            event.row = f32::from_bits(input.take_u32()?);
        }
        Ok(tail)
    }
}
