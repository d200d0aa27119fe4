//! A streaming anomaly score per key that needs no training set and adapts.
//!
//! The intuition: forecast the next value, and ask how unusual the surprise is
//! *for this series*. Three views of each row are taken, each over the last 1,
//! 3, 10, 30 and 100 rows, because faults are short or slow:
//!
//! 1. *drift*: the mean of the signed surprises, which sees a bias that no
//!    single row shows;
//! 2. *agitation*: the mean of their magnitudes against its usual value, which
//!    sees spikes and unrest, and also a calm;
//! 3. *level*: the mean of the values against all values so far, which sees
//!    what the forecast has got used to.
//!
//! A fourth, *stillness*, counts how often in a row the same value came: a
//! sensor that froze at a usual value is seen by none of the others.
//!
//! Each of the fifteen becomes a distance in its own usual standard deviations,
//! and a [`tail::Tail`] that learns how such distances are distributed in this
//! series turns it into a probability: a series that spikes often has heavy
//! tails and needs a larger spike. The strongest of them counts.
//!
//! Three corrections make one threshold hold for all series. A long series has
//! more chances to be unusual, so the evidence is reduced by the logarithm of
//! the number of rows seen (Bonferroni). What has happened twice at about the
//! same size is usual, however rare it is. And after an event, rows that are not
//! clearly more unusual are muted for a while: it is reported once, at its
//! onset.
//!
//! The parts are known: anomaly likelihood over the recent mean of errors
//! (Ahmad et al., "Unsupervised real-time anomaly detection for streaming
//! data", Neurocomputing 262, 2017), peaks over a threshold with an exponential
//! tail (Siffer et al., "Anomaly detection in streams with extreme value
//! theory", KDD 2017). A Markov model of quantised values, forecasts by week
//! and ensembles of several memories were tried and gave nothing
//! (`docs/decisions/0022-anomalies-without-training.md`).

mod tail;

use tail::Tail;

use super::cells::{Keys, State};
use super::{Accepts, Body, Function, Kind, Parameter, Returns};
use crate::state::{Decoder, Encoder, StateError};
use crate::value::DataType;

/// The functions of this module.
pub static CATALOGUE: &[Function] = &[Function {
    name: "anomaly_score",
    aliases: &["anomaly"],
    kind: Kind::Analytic,
    parameters: &[Parameter::new("x", Accepts::Number)],
    variadic: false,
    returns: Returns::Type(DataType::Float),
    summary: "how unusual a row is for its key, learned from the rows before it: 0 is usual, \
              alarm from 0.5 on. 0 for the first 100 rows. An event scores once, at its onset, and \
              no more when its size has come twice before. It knows times of day by event \
              time (UTC); 3 kB of state per key",
    formula: "1 - 2^(-e/1.75) with the evidence e = -log10(p n / 1000): p the smallest tail \
              probability of drift, agitation and level over 1 to 100 rows and of stillness, \
              n the rows seen",
    units: "none, 0 to 1; an index, not a probability",
    source: "Ahmad et al., Neurocomputing 262 (2017); Siffer et al., KDD (2017)",
    body: Body::Analytic(|_| {
        Ok(Keys::boxed(
            Box::new(AnomalyScore::new()),
            |state, time, x, row| Some(state.update(time, x[0].float(row)?)),
        ))
    }),
}];

/// From this score on a row is an alarm.
pub const ALARM: f64 = 0.5;

/// How many rows the views look back, as time constants of moving averages.
const WINDOWS: [f64; SCALES] = [1.0, 3.0, 10.0, 30.0, 100.0];
const SCALES: usize = 5;

/// Drift, agitation, level.
const VIEWS: usize = 3;

/// Half hours of the day.
const SEASON_BINS: usize = 48;
const DAY_MS: i64 = 86_400_000;

/// Rows after which outliers are clipped before they are learned.
const SETTLED: f64 = 50.0;

/// Rows without which nothing is usual yet: they score 0.
const WARM_UP: f64 = 100.0;

/// Rows that spreads of surprises are remembered for: long enough to hold the
/// rare days of a series, short enough to get used to a new regime in hours or
/// days. Half or twice as many change the result by about 3 points.
const MEMORY: f64 = 1000.0;

/// Rows that levels are remembered for.
const LEVEL_MEMORY: f64 = 2000.0;

/// Rows that count for the correction by age: a young series gets no credit for
/// what it has not seen, an old one is no longer punished.
const AGE_MIN: f64 = 400.0;
const AGE_MAX: f64 = 30_000.0;

/// Rows for which an event mutes what is not clearly larger.
const HOLD: u32 = 100;

/// By how much the evidence must exceed that of the event before.
const LARGER: f64 = 1.15;

/// What is left of the evidence of a muted row.
const MUTED: f64 = 0.3;

/// The largest magnitude that is scored.
const MAGNITUDE_MAX: f64 = 1e100;

/// How much the logarithm of repetitions counts. With 0.25 it takes about ten
/// equal values in a row to be an alarm where none were equal before.
const STILL: f64 = 0.25;

/// The evidence that scores 0.5.
const HALF: f64 = 1.75;

/// The state of one key, 3 kB.
#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyScore {
    rows: f64,
    last: f64,
    level: f64,
    /// Mean absolute error of each forecast.
    errors: [f64; 4],
    /// Mean absolute error of the best forecast, outliers clipped.
    scale: f64,
    season: [f64; SEASON_BINS],
    season_rows: [f64; SEASON_BINS],
    views: [[Usual; SCALES]; VIEWS],
    /// How often in a row the value before came again.
    repeats: f64,
    stillness: Tail,
    held: f64,
    held_for: u32,
}

/// A moving average, what is usual for it, and how far from that it strays.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
struct Usual {
    now: f64,
    mean: f64,
    variance: f64,
    tail: Tail,
}

impl AnomalyScore {
    /// A key that nothing is known of.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rows: 0.0,
            last: 0.0,
            level: 0.0,
            errors: [0.0; 4],
            scale: 0.0,
            season: [0.0; SEASON_BINS],
            season_rows: [0.0; SEASON_BINS],
            views: [[Usual::default(); SCALES]; VIEWS],
            repeats: 0.0,
            stillness: Tail::default(),
            held: 0.0,
            held_for: 0,
        }
    }

    /// Takes the value of a row and scores it by the rows before it. A NaN, an
    /// infinity or a magnitude above 1e100, whose square would be infinite,
    /// scores 0 and changes nothing.
    pub fn update(&mut self, time_ms: i64, x: f64) -> f64 {
        if x.is_nan() || x.abs() > MAGNITUDE_MAX {
            return 0.0;
        }
        if self.rows == 0.0 {
            self.level = x;
            self.last = x;
            for usual in &mut self.views[2] {
                usual.now = x;
                usual.mean = x;
            }
        }
        self.rows += 1.0;
        self.repeats = if self.rows > 1.0 && x == self.last {
            self.repeats + 1.0
        } else {
            0.0
        };
        let surprise = self.forecast(time_ms, x);
        let evidence = self.weigh(surprise, x);
        if self.rows < WARM_UP {
            return 0.0;
        }
        1.0 - (-self.mute(evidence) / HALF).exp2()
    }

    /// Forecasts, learns the value, and returns the error in units of the usual
    /// error. Of four simple forecasts the one that was best of late counts: as
    /// before, the recent level, the usual at this time of day, and the mean of
    /// the first and the third.
    fn forecast(&mut self, time_ms: i64, x: f64) -> f64 {
        let bin = (time_ms.rem_euclid(DAY_MS) * SEASON_BINS as i64 / DAY_MS) as usize;
        let season = if self.season_rows[bin] > 0.0 {
            self.season[bin]
        } else {
            self.level
        };
        let forecasts = [self.last, self.level, season, (season + self.last) / 2.0];
        let mut best = 0;
        for (index, error) in self.errors.iter().enumerate() {
            if *error < self.errors[best] {
                best = index;
            }
        }
        let settled = self.rows > SETTLED;
        let rate = (1.0 / self.rows).max(0.01);
        for (error, forecast) in self.errors.iter_mut().zip(forecasts) {
            let now = (x - forecast).abs();
            // One outlier does not make a forecast bad.
            let now = if settled {
                now.min(5.0 * *error + 1e-9)
            } else {
                now
            };
            *error += rate * (now - *error);
        }
        let error = x - forecasts[best];
        let scale = self.scale.max(1e-9 * (1.0 + x.abs()));
        let surprise = if self.rows < 10.0 {
            0.0
        } else {
            (error / scale).clamp(-1e4, 1e4)
        };
        let clipped = if settled {
            error.abs().min(6.0 * self.scale + 1e-9)
        } else {
            error.abs()
        };
        self.scale += self.rate(MEMORY) * (clipped - self.scale);
        self.last = x;
        self.level += 0.1 * (x - self.level);
        self.season_rows[bin] += 1.0;
        let rate = (1.0 / self.season_rows[bin]).max(0.05);
        self.season[bin] += rate * (x - self.season[bin]);
        surprise
    }

    /// The strongest evidence of all views; what is usual is learned from it.
    fn weigh(&mut self, surprise: f64, x: f64) -> f64 {
        let (rate, level_rate) = (self.rate(MEMORY), self.rate(LEVEL_MEMORY));
        let age = (self.rows.clamp(AGE_MIN, AGE_MAX) / 1000.0).log10();
        // Logarithms, so that one spike does not fill a hundred rows.
        let magnitude = surprise.abs().ln_1p();
        let signed = magnitude.copysign(surprise);
        let still = STILL * self.repeats.ln_1p();
        let mut strongest = self.stillness.judge(still, 1.0, age);
        for (scale, window) in WINDOWS.into_iter().enumerate() {
            let [drift, agitation, level] = &mut self.views;
            for (view, x, centre, rate, floor) in [
                (drift, signed, Some(0.0), rate, 1e-3),
                (agitation, magnitude, None, rate, 1e-3),
                (level, x, None, level_rate, 1e-9),
            ] {
                let usual = &mut view[scale];
                let unusual = usual.stray(window, x, centre, rate, floor);
                strongest = strongest.max(usual.tail.judge(unusual, window, age));
            }
        }
        strongest
    }

    /// Mutes what belongs to an event that was reported.
    fn mute(&mut self, evidence: f64) -> f64 {
        self.held_for = self.held_for.saturating_sub(1);
        if self.held_for == 0 {
            self.held = 0.0;
        }
        if evidence > self.held * LARGER {
            self.held = evidence;
            self.held_for = HOLD + 1;
            evidence
        } else {
            evidence * MUTED
        }
    }

    /// How much a row weighs in an average over `memory` rows; while there are
    /// fewer, all weigh the same.
    fn rate(&self, memory: f64) -> f64 {
        (1.0 / self.rows).max(1.0 / memory)
    }
}

impl Default for AnomalyScore {
    fn default() -> Self {
        Self::new()
    }
}

impl Usual {
    /// Takes a value into the moving average, says how far that is from usual
    /// (the logarithm of one plus standard deviations) and learns it. A `centre`
    /// that is known is not learned. `floor` is the smallest standard deviation,
    /// for large means a part of them.
    fn stray(&mut self, window: f64, x: f64, centre: Option<f64>, rate: f64, floor: f64) -> f64 {
        self.now += (x - self.now) / window;
        let distance = self.now - centre.unwrap_or(self.mean);
        let floor = floor * self.mean.abs().max(1.0);
        let unusual = (distance.abs() / self.variance.sqrt().max(floor)).ln_1p();
        if centre.is_none() {
            self.mean += rate * distance;
        }
        self.variance += rate * (distance * distance - self.variance);
        unusual
    }
}

impl State for Box<AnomalyScore> {
    fn encode(&self, out: &mut Encoder) {
        for number in [
            self.rows,
            self.last,
            self.level,
            self.scale,
            self.repeats,
            self.held,
        ] {
            out.put_f64(number);
        }
        self.stillness.encode(out);
        for number in self
            .errors
            .iter()
            .chain(&self.season)
            .chain(&self.season_rows)
        {
            out.put_f64(*number);
        }
        for usual in self.views.iter().flatten() {
            for number in [usual.now, usual.mean, usual.variance] {
                out.put_f64(number);
            }
            usual.tail.encode(out);
        }
        out.put_u32(self.held_for);
    }

    fn decode(&mut self, input: &mut Decoder<'_>) -> Result<(), StateError> {
        self.rows = input.take_f64()?;
        self.last = input.take_f64()?;
        self.level = input.take_f64()?;
        self.scale = input.take_f64()?;
        self.repeats = input.take_f64()?;
        self.held = input.take_f64()?;
        self.stillness = Tail::decode(input)?;
        let state = &mut **self;
        let lists = state.errors.iter_mut().chain(&mut state.season);
        for number in lists.chain(&mut state.season_rows) {
            *number = input.take_f64()?;
        }
        for usual in state.views.iter_mut().flatten() {
            usual.now = input.take_f64()?;
            usual.mean = input.take_f64()?;
            usual.variance = input.take_f64()?;
            usual.tail = Tail::decode(input)?;
        }
        state.held_for = input.take_u32()?;
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        size_of::<AnomalyScore>()
    }
}

#[cfg(test)]
mod tests;
