-- Bearing health from acceleration waveforms. A damaged spot is struck once per
-- ball that passes, and each strike rings the housing at some kilohertz; the
-- envelope of that ringing shows lines at the frequency of the strikes, weeks before
-- the level rises.
--
-- Change: the path and the format (waveform i16le, json array); in each of the two
-- calls the sampling rate in Hz, the speed in 1/min, and the bearing: number of
-- balls, ball diameter and pitch diameter in the same unit, from its data sheet (the
-- numbers here are those of a 6205). The speed may be a column when it varies; see
-- the stream-table join in docs/queries.md.
--
-- A score of about 2 is noise, from 4 to 5 on it is a fault. One bad recording says
-- little, so the median of ten minutes decides.

CREATE STREAM acceleration FROM 'plant/{machine}/acceleration' FORMAT waveform f32le;

CREATE QUERY bearing_health AS
SELECT machine,
       median(bearing_score(value, 12000, 1772, 9, 7.94, 39.04)) AS score,
       last(bearing_fault(value, 12000, 1772, 9, 7.94, 39.04)) AS fault,
       avg(waveform_rms(value)) AS rms,
       max(waveform_crest_factor(value)) AS crest,
       median(waveform_kurtosis(value)) AS kurtosis,
       count(*) AS recordings,
       window_start, window_end
FROM TUMBLE(acceleration, INTERVAL '10 min')
GROUP BY machine;

CREATE ALERT bearing_damaged ON bearing_health
  WHEN score > 4.5 FOR INTERVAL '20 min'
  CLEAR WHEN score < 3.5 FOR INTERVAL '1 h'
  SEVERITY warning VALUE score SUPPRESS INTERVAL '1 h'
  MESSAGE 'strikes at a bearing frequency: see the column fault, order the bearing';
