-- Cavitation: vapour bubbles collapse at the impeller, which sounds like gravel and
-- looks like broadband noise at some kilohertz. The noise is compared with what the
-- same pump usually makes, because pumps differ. Bearing damage is noisy there too,
-- but in strikes: its kurtosis is high, that of cavitation is not.
--
-- Change: the path; in band_rms the sampling rate and the band in Hz (above the vane
-- passing harmonics, below the sensor's resonance).

CREATE STREAM acceleration FROM 'plant/{pump}/acceleration' FORMAT waveform f32le;

CREATE QUERY pump_cavitation AS
SELECT pump, hiss, usual, hiss / usual AS ratio, kurtosis, window_start, window_end
FROM (
  -- The usual noise of half a day; a pump that cavitates moves it by little an hour.
  SELECT pump, hiss, kurtosis, lag(average) AS usual, window_start, window_end
  FROM (
    SELECT pump, hiss, kurtosis, ewma(hiss, 0.002) AS average, window_start, window_end
    FROM (
      SELECT pump,
             avg(band_rms(value, 25600, 5000, 10000)) AS hiss,
             median(waveform_kurtosis(value)) AS kurtosis,
             window_start, window_end
      FROM TUMBLE(acceleration, INTERVAL '1 min')
      GROUP BY pump
    )
  )
);

CREATE ALERT cavitates ON pump_cavitation
  KEY (pump)
  WHEN ratio > 2.5 AND kurtosis < 5 FOR INTERVAL '5 min'
  CLEAR WHEN ratio < 1.5 FOR INTERVAL '10 min'
  SEVERITY warning VALUE ratio
  MESSAGE 'cavitation: check suction pressure, strainer and valve';
