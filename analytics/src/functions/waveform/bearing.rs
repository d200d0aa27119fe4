//! Bearing faults: at which frequency each strikes, and how far its line in
//! the envelope spectrum stands above the noise.

use super::envelope::Envelope;
use super::is_positive;

/// How far a strike frequency may be off, as a part of it: balls slip by one or
/// two percent. Randall and Antoni (2011), section 2.1.
pub const SLIP: f64 = 0.02;

/// Harmonics that one score looks at, at most.
pub const HARMONICS_MAX: usize = 16;

/// How far around a line the noise is measured, as a part of the line's
/// frequency to each side.
const FLOOR_REACH: f64 = 0.5;

/// Bins without which a noise floor is a guess.
const FLOOR_BINS_MIN: usize = 8;

/// The parts of a bearing that can be damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A ball passes a spot on the outer race: BPFO.
    OuterRace,
    /// A ball passes a spot on the inner race: BPFI.
    InnerRace,
    /// A spot on a ball strikes both races once per turn of it: twice BSF.
    Ball,
    /// The cage turns: FTF.
    Cage,
}

/// The measures of a bearing with the outer race at rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BearingGeometry {
    /// The number of rolling elements, n.
    pub balls: f64,
    /// The diameter of one, d, in the unit of the pitch diameter.
    pub ball_diameter: f64,
    /// The diameter of the circle of their centres, D.
    pub pitch_diameter: f64,
    /// The contact angle in degrees, a; 0 for deep groove bearings.
    pub contact_angle_deg: f64,
}

/// The characteristic frequencies of a bearing at one speed, in hertz.
///
/// With the shaft frequency fr = rpm/60 and q = d/D cos a:
/// FTF = fr/2 (1 - q), BPFO = n FTF, BPFI = n fr/2 (1 + q),
/// BSF = fr D/(2d) (1 - q^2). Randall and Antoni (2011), equations 1 to 4.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BearingFrequencies {
    /// Ball pass frequency of the outer race.
    pub bpfo_hz: f64,
    /// Ball pass frequency of the inner race.
    pub bpfi_hz: f64,
    /// Ball spin frequency, one turn of a ball; a spot on it strikes twice.
    pub bsf_hz: f64,
    /// Fundamental train frequency, one turn of the cage.
    pub ftf_hz: f64,
}

impl BearingGeometry {
    /// The frequencies at a shaft speed; null when a measure is not positive,
    /// the balls are wider than the circle or the angle is not in [0, 90).
    #[must_use]
    pub fn frequencies(&self, rpm: f64) -> Option<BearingFrequencies> {
        let fits = is_positive(self.balls)
            && is_positive(self.ball_diameter)
            && is_positive(self.pitch_diameter)
            && self.ball_diameter < self.pitch_diameter
            && (0.0..90.0).contains(&self.contact_angle_deg);
        if !fits || !is_positive(rpm) {
            return None;
        }
        let shaft = rpm / 60.0;
        let ratio = self.ball_diameter / self.pitch_diameter;
        let q = ratio * self.contact_angle_deg.to_radians().cos();
        Some(BearingFrequencies {
            bpfo_hz: self.balls * shaft / 2.0 * (1.0 - q),
            bpfi_hz: self.balls * shaft / 2.0 * (1.0 + q),
            bsf_hz: shaft / (2.0 * ratio) * (1.0 - q * q),
            ftf_hz: shaft / 2.0 * (1.0 - q),
        })
    }
}

impl BearingFrequencies {
    /// How often per second a fault strikes.
    #[must_use]
    pub fn strike_hz(&self, fault: Fault) -> f64 {
        match fault {
            Fault::OuterRace => self.bpfo_hz,
            Fault::InnerRace => self.bpfi_hz,
            Fault::Ball => 2.0 * self.bsf_hz,
            Fault::Cage => self.ftf_hz,
        }
    }
}

impl Envelope {
    /// The energy of the envelope at a strike frequency and its harmonics:
    /// the sum of a^2/2 over the largest line near each, in the square of the
    /// unit. Null when the first is above the spectrum.
    #[must_use]
    pub fn fault_energy(&self, strike_hz: f64, harmonics: usize) -> Option<f64> {
        let mut energy = None;
        for harmonic in 1..=harmonics.clamp(1, HARMONICS_MAX) {
            let Some(line) = self.line(strike_hz, harmonic) else {
                break;
            };
            *energy.get_or_insert(0.0) += line.amplitude * line.amplitude / 2.0;
        }
        energy
    }

    /// How far the lines of a strike frequency stand above the noise around
    /// them: the geometric mean over the harmonics of a\[h\] / floor\[h\], so that
    /// one line of something else does not make a fault. The floor is the
    /// median of the bins within half the strike frequency to each side, less
    /// the bins where the line may be. Without a unit; noise alone gives about
    /// 2, because the largest of some bins is compared with their median.
    ///
    /// Null when the strike frequency is not resolved: fewer than eight bins of
    /// noise, or above the spectrum.
    #[must_use]
    pub fn fault_score(&self, strike_hz: f64, harmonics: usize) -> Option<f64> {
        let mut sum = 0.0;
        let mut count = 0.0;
        let mut noise = Vec::new();
        for harmonic in 1..=harmonics.clamp(1, HARMONICS_MAX) {
            let Some(line) = self.line(strike_hz, harmonic) else {
                break;
            };
            let Some(floor) = self.floor(strike_hz, &line, &mut noise) else {
                break;
            };
            // A line of nothing has no logarithm; it is far below the noise.
            sum += (line.amplitude / floor).max(0.01).ln();
            count += 1.0;
        }
        (count > 0.0).then(|| f64::exp(sum / count))
    }

    fn line(&self, strike_hz: f64, harmonic: usize) -> Option<Line> {
        if !is_positive(strike_hz) {
            return None;
        }
        let centre = strike_hz * harmonic as f64 / self.bin_hz();
        let reach = (centre * SLIP).max(1.0);
        if centre - reach < 1.0 || centre + reach >= self.amplitudes().len() as f64 {
            return None;
        }
        // Both are bins of the spectrum by the guard above.
        let (from, to) = (
            (centre - reach).round() as usize,
            (centre + reach).round() as usize,
        );
        let bins = self.amplitudes().get(from..=to)?;
        let amplitude = bins.iter().copied().fold(0.0, f32::max);
        Some(Line {
            from,
            to,
            amplitude: f64::from(amplitude),
        })
    }

    fn floor(&self, strike_hz: f64, line: &Line, noise: &mut Vec<f32>) -> Option<f64> {
        let reach = (FLOOR_REACH * strike_hz / self.bin_hz()) as usize;
        let last = self.amplitudes().len() - 1;
        // One bin beside the line belongs to its window lobe.
        let below = line.from.saturating_sub(reach).max(1)..line.from.saturating_sub(1);
        let above = (line.to + 2).min(last)..(line.to + reach).min(last);
        noise.clear();
        noise.extend_from_slice(self.amplitudes().get(below).unwrap_or_default());
        noise.extend_from_slice(self.amplitudes().get(above).unwrap_or_default());
        if noise.len() < FLOOR_BINS_MIN {
            return None;
        }
        let middle = noise.len() / 2;
        let (_, median, _) = noise.select_nth_unstable_by(middle, f32::total_cmp);
        let floor = f64::from(*median);
        (floor > 0.0).then_some(floor)
    }
}

/// Where a line was looked for, and the largest bin there.
struct Line {
    from: usize,
    to: usize,
    amplitude: f64,
}
