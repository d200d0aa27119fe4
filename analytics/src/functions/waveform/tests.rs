//! Closed forms: sines, impulse trains, modulated carriers, known tables.

use std::f64::consts::{PI, SQRT_2, TAU};

use super::bearing::{BearingGeometry, Fault};
use super::envelope::{Band, Envelope};
use super::level::Level;
use super::plans::Plans;
use super::severity::{Zone, limits, machine_groups};
use super::spectrum::{Spectrum, integrate};

const RATE: f64 = 12_000.0;

fn block(length: usize, of: impl Fn(f64) -> f64) -> Vec<f64> {
    (0..length).map(|i| of(i as f64 / RATE)).collect()
}

/// Noise of unit variance, nearly normal, the same at each run.
fn noise(length: usize, mut seed: u64) -> Vec<f64> {
    let mut uniform = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f64 / f64::from(1u32 << 24)
    };
    (0..length)
        .map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0)
        .collect()
}

fn near(actual: f64, expected: f64, relative: f64) {
    assert!(
        (actual - expected).abs() <= relative * expected.abs().max(1e-12),
        "{actual} instead of {expected}"
    );
}

#[test]
fn a_sine_has_the_levels_of_a_sine() {
    // Twelve whole periods.
    let level = Level::of(&block(1200, |t| 3.0 * (TAU * 120.0 * t).sin())).unwrap();
    near(level.rms, 3.0 / SQRT_2, 1e-6);
    near(level.peak, 3.0, 1e-6);
    near(level.peak_to_peak, 6.0, 1e-6);
    near(level.crest_factor.unwrap(), SQRT_2, 1e-6);
    near(level.kurtosis.unwrap(), 1.5, 1e-6);
    assert!(level.skew.unwrap().abs() < 1e-6);
    assert!(level.mean.abs() < 1e-6);
}

#[test]
fn a_peak_may_point_down() {
    let level = Level::of(&[0.5, -3.0, 2.0]).unwrap();
    assert_eq!((level.peak, level.peak_to_peak), (3.0, 5.0));
}

#[test]
fn an_impulse_train_has_the_kurtosis_of_its_duty() {
    // Ones among zeros with probability p: kurtosis (1 - 3p(1-p)) / (p(1-p)).
    let p = 1.0 / 50.0;
    let train: Vec<f64> = (0..5000).map(|i| f64::from(i % 50 == 7)).collect();
    let level = Level::of(&train).unwrap();
    near(
        level.kurtosis.unwrap(),
        (1.0 - 3.0 * p * (1.0 - p)) / (p * (1.0 - p)),
        1e-9,
    );
    near(
        level.skew.unwrap(),
        (1.0 - 2.0 * p) / (p * (1.0 - p)).sqrt(),
        1e-9,
    );
    near(level.crest_factor.unwrap(), 50f64.sqrt(), 1e-9);
}

#[test]
fn normal_noise_has_a_kurtosis_of_three() {
    // The sum of twelve uniforms has 3 - 1.2/12 = 2.9.
    let level = Level::of(&noise(100_000, 1)).unwrap();
    near(level.kurtosis.unwrap(), 2.9, 0.02);
}

#[test]
fn blocks_without_meaning_give_null() {
    let mut plans = Plans::new();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e16, -1e16] {
        let mut samples = block(256, |t| (TAU * 1000.0 * t).sin());
        samples[100] = bad;
        assert_eq!(Level::of(&samples), None);
        assert_eq!(Spectrum::of(&mut plans, &samples, RATE), None);
        assert_eq!(
            Envelope::of(&mut plans, &samples, RATE, Band::Loudest),
            None
        );
        assert_eq!(integrate(&mut plans, &samples, RATE, 10.0), None);
    }
    assert_eq!(Level::of(&[]), None);
    assert_eq!(Spectrum::of(&mut plans, &[1.0; 15], RATE), None);
    assert_eq!(Spectrum::of(&mut plans, &[1.0; 64], 0.0), None);
    assert_eq!(Spectrum::of(&mut plans, &[1.0; 64], f64::NAN), None);
    let both = [f64::INFINITY, f64::NEG_INFINITY, 1.0];
    assert_eq!(Level::of(&both), None);
}

#[test]
fn a_constant_block_has_a_level_and_no_shape() {
    let level = Level::of(&[0.1; 1000]).unwrap();
    near(level.rms, 0.1, 1e-12);
    assert_eq!(level.kurtosis, None);
    assert_eq!(level.skew, None);
    assert_eq!(Level::of(&[0.0; 4]).unwrap().crest_factor, None);
}

#[test]
fn a_sine_shows_its_amplitude_and_frequency_wherever_it_lies_between_bins() {
    let mut plans = Plans::new();
    for length in [4096, 4095, 1000, 997] {
        let bin = RATE / length as f64;
        for offset in [0.0, 0.1, 0.25, 0.5, 0.75, 0.99] {
            let frequency = (100.0 + offset) * bin;
            let samples = block(length, |t| 5.0 + 2.5 * (TAU * frequency * t + 0.7).sin());
            let spectrum = Spectrum::of(&mut plans, &samples, RATE).unwrap();
            let peaks = spectrum.peaks(0.0, RATE, 1);
            near(peaks[0].frequency_hz, frequency, 1e-4);
            near(peaks[0].amplitude, 2.5, 1e-3);
            let energy = spectrum.band_energy(frequency - 4.0 * bin, frequency + 4.0 * bin);
            near(energy.unwrap(), 2.5 * 2.5 / 2.0, 1e-3);
        }
    }
}

#[test]
fn the_energies_of_all_bands_add_up_to_the_mean_square() {
    let mut plans = Plans::new();
    for length in [8192, 8191] {
        let samples = noise(length, 5);
        let spectrum = Spectrum::of(&mut plans, &samples, RATE).unwrap();
        let bands: f64 = (0..12)
            .map(|i| f64::from(i) * 501.0)
            .map(|low| spectrum.band_energy(low, low + 501.0).unwrap())
            .sum();
        // The window weighs the samples, so the sum is an estimate.
        near(bands, Level::of(&samples).unwrap().rms.powi(2), 0.03);
    }
}

#[test]
fn orders_are_found_at_multiples_of_the_speed() {
    let mut plans = Plans::new();
    let samples = block(8192, |t| {
        1.0 * (TAU * 24.7 * t).sin() + 0.3 * (TAU * 49.4 * t).sin() + 0.05 * (TAU * 74.1 * t).cos()
    });
    let spectrum = Spectrum::of(&mut plans, &samples, RATE).unwrap();
    for (order, amplitude) in [(1.0, 1.0), (2.0, 0.3), (3.0, 0.05)] {
        near(
            spectrum.order_amplitude(1482.0, order).unwrap(),
            amplitude,
            0.02,
        );
    }
    assert!(spectrum.order_amplitude(1482.0, 10.0).unwrap() < 0.001);
    assert_eq!(spectrum.order_amplitude(1482.0, 1000.0), None);
    assert_eq!(spectrum.order_amplitude(0.0, 1.0), None);
    assert_eq!(spectrum.order_amplitude(60.0, 1.0), None);
}

#[test]
fn velocity_is_acceleration_over_angular_frequency() {
    let mut plans = Plans::new();
    // 1 m/s^2 of amplitude at 159.15 Hz (w = 1000/s) is 1 mm/s.
    let frequency = 1000.0 / TAU;
    let samples = block(12_000, |t| {
        (TAU * frequency * t).sin() + 40.0 * (TAU * 2.0 * t).sin()
    });
    let spectrum = Spectrum::of(&mut plans, &samples, RATE).unwrap();
    near(
        spectrum.integral_rms(10.0, 1000.0).unwrap(),
        1e-3 / SQRT_2,
        1e-3,
    );
    assert_eq!(spectrum.integral_rms(0.0, 1000.0), None);
}

#[test]
fn the_integral_of_a_cosine_is_a_sine_and_drift_is_passed_by() {
    let mut plans = Plans::new();
    // Whole periods in 6000 samples; one sample more costs some accuracy.
    for (length, tolerance) in [(6000, 1e-4), (6001, 1e-2)] {
        let samples = block(length, |t| 4.0 + (TAU * 100.0 * t).cos());
        let integral = integrate(&mut plans, &samples, RATE, 10.0).unwrap();
        assert_eq!(integral.len(), length);
        let worst = (600..5400)
            .map(|i| {
                let t = i as f64 / RATE;
                (integral[i] - (TAU * 100.0 * t).sin() / (TAU * 100.0)).abs()
            })
            .fold(0.0, f64::max);
        assert!(worst < tolerance / (TAU * 100.0), "{worst}");
    }
}

#[test]
fn a_modulated_carrier_shows_its_modulation() {
    let mut plans = Plans::new();
    let samples = block(12_000, |t| {
        0.8 * (1.0 + 0.5 * (TAU * 87.0 * t).cos()) * (TAU * 3000.0 * t).cos()
            + 10.0 * (TAU * 50.0 * t).sin()
    });
    let band = Band::Between {
        low: 2000.0,
        high: 4000.0,
    };
    let envelope = Envelope::of(&mut plans, &samples, RATE, band).unwrap();
    near(envelope.bin_hz(), 1.0, 1e-9);
    near(f64::from(envelope.amplitudes()[87]), 0.4, 1e-3);
    // Only that line: the band-pass keeps the hum of 50 Hz out.
    for (k, &amplitude) in envelope.amplitudes().iter().enumerate() {
        assert!(
            (86..=88).contains(&k) || amplitude < 1e-3,
            "{k}: {amplitude}"
        );
    }
    near(
        envelope.fault_energy(87.0, 1).unwrap(),
        0.4 * 0.4 / 2.0,
        3e-3,
    );
}

/// Strikes `strike_hz` times a second that ring `ring_hz`, in noise.
fn struck(length: usize, strike_hz: f64, ring_hz: f64, loudness: f64) -> Vec<f64> {
    let rest = noise(length, 11);
    (0..length)
        .map(|i| {
            let since = (i as f64 / RATE) % (1.0 / strike_hz);
            let ring = loudness * (-since * 800.0).exp() * (TAU * ring_hz * since).sin();
            ring + rest[i]
        })
        .collect()
}

#[test]
fn strikes_that_noise_hides_stand_out_in_the_envelope() {
    let mut plans = Plans::new();
    let samples = struck(32_768, 107.3, 3400.0, 3.0);
    // The waveform shows nothing: a kurtosis like that of noise.
    assert!(Level::of(&samples).unwrap().kurtosis.unwrap() < 3.5);
    for band in [
        Band::Loudest,
        Band::Between {
            low: 2500.0,
            high: 4500.0,
        },
    ] {
        let envelope = Envelope::of(&mut plans, &samples, RATE, band).unwrap();
        let (low, high) = envelope.band_hz();
        assert!(low < 3400.0 && high > 3400.0, "{low} to {high}");
        assert!(envelope.fault_score(107.3, 3).unwrap() > 8.0);
        assert!(envelope.fault_score(137.0, 3).unwrap() < 4.0);
        // One percent of slip does not hide it.
        assert!(envelope.fault_score(106.3, 3).unwrap() > 8.0);
    }
    let quiet = Envelope::of(&mut plans, &noise(32_768, 3), RATE, Band::Loudest).unwrap();
    assert!(quiet.fault_score(107.3, 3).unwrap() < 4.0);
}

#[test]
fn a_strike_frequency_that_the_block_does_not_resolve_gives_null() {
    let mut plans = Plans::new();
    let envelope = Envelope::of(&mut plans, &noise(1024, 3), RATE, Band::Loudest).unwrap();
    assert_eq!(envelope.fault_score(12.0, 3), None);
    assert_eq!(envelope.fault_score(20_000.0, 3), None);
    assert_eq!(envelope.fault_score(f64::NAN, 3), None);
}

/// SKF 6205-2RS: nine balls of 7.94 mm on a circle of 39.04 mm. The bearing
/// data centre of Case Western Reserve University publishes the multiples.
#[test]
fn the_frequencies_of_a_6205_are_the_published_ones() {
    let bearing = BearingGeometry {
        balls: 9.0,
        ball_diameter: 7.94,
        pitch_diameter: 39.04,
        contact_angle_deg: 0.0,
    };
    let at = bearing.frequencies(60.0).unwrap();
    near(at.bpfi_hz, 5.4152, 1e-4);
    near(at.bpfo_hz, 3.5848, 1e-4);
    near(at.ftf_hz, 0.39828, 1e-4);
    near(at.strike_hz(Fault::Ball), 4.7135, 1e-4);
}

#[test]
fn frequencies_obey_the_identities_of_rolling() {
    let bearing = BearingGeometry {
        balls: 16.0,
        ball_diameter: 8.4,
        pitch_diameter: 71.5,
        contact_angle_deg: 15.17,
    };
    // Rexnord ZA-2115 at 2000 rpm, as published with the IMS run-to-failure
    // data: BPFO 236.4, BPFI 296.9, twice BSF 279.8, FTF 14.8 Hz.
    let at = bearing.frequencies(2000.0).unwrap();
    near(at.bpfo_hz, 236.4, 2e-3);
    near(at.bpfi_hz, 296.9, 2e-3);
    near(at.strike_hz(Fault::Ball), 279.8, 2e-3);
    near(at.ftf_hz, 14.8, 5e-3);
    near(at.bpfo_hz + at.bpfi_hz, 16.0 * 2000.0 / 60.0, 1e-12);
    let wrong = BearingGeometry {
        ball_diameter: 80.0,
        ..bearing
    };
    assert_eq!(wrong.frequencies(2000.0), None);
    assert_eq!(bearing.frequencies(-1.0), None);
}

#[test]
fn the_severity_table_is_readable_and_ordered() {
    assert_eq!(machine_groups().len(), 9);
    for row in machine_groups() {
        let it = row.limits;
        assert!(0.0 < it.a_to_b && it.a_to_b < it.b_to_c && it.b_to_c < it.c_to_d);
    }
    let limits = limits("group-2", "rigid").unwrap();
    let zones = [0.0, 1.39, 1.4, 2.79, 2.8, 4.49, 4.5, 99.0].map(|v| limits.zone(v).unwrap());
    let expected = [
        Zone::A,
        Zone::A,
        Zone::B,
        Zone::B,
        Zone::C,
        Zone::C,
        Zone::D,
        Zone::D,
    ];
    assert_eq!(zones, expected);
    assert_eq!(limits.zone(-0.1), None);
    assert_eq!(limits.zone(f64::NAN), None);
    assert!(super::severity::limits("pump-1", "flexible").is_some());
    assert!(super::severity::limits("group-9", "rigid").is_none());
}

#[test]
fn plans_are_reused_and_bounded() {
    let mut plans = Plans::new();
    let first = Spectrum::of(&mut plans, &noise(512, 9), RATE);
    for length in 100..200 {
        let samples = block(length, |t| (PI * 1000.0 * t).sin());
        assert!(Spectrum::of(&mut plans, &samples, RATE).is_some());
    }
    assert_eq!(Spectrum::of(&mut plans, &noise(512, 9), RATE), first);
}
