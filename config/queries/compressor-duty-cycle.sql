-- Duty cycle of a compressor from its motor current: the share of the hour in which
-- it runs, and how often it starts. A leak shows as a duty cycle that creeps up, a
-- tank that lost its cushion as many short runs.
--
-- Change: the path; 5, the current in ampere above which the motor runs; the limits.
-- The share is that of the readings, which come at equal distances when they are
-- polled; a tag that is reported by exception has to report at least each minute.

CREATE STREAM current FROM 'plant/{compressor}/current';

CREATE QUERY compressor_duty_cycle AS
SELECT compressor,
       avg(running) AS duty,
       sum(started) AS starts,
       count(*) AS readings,
       window_start, window_end
FROM TUMBLE((
  SELECT compressor,
         CASE WHEN value > 5 THEN 1 ELSE 0 END AS running,
         CASE WHEN value > 5 AND lag(value) <= 5 THEN 1 ELSE 0 END AS started
  FROM current
), INTERVAL '1 h')
GROUP BY compressor;

CREATE ALERT always_on ON compressor_duty_cycle
  WHEN duty > 0.85 FOR INTERVAL '2 h'
  CLEAR WHEN duty < 0.7
  SEVERITY warning VALUE duty
  MESSAGE 'the compressor hardly rests: look for leaks';

CREATE ALERT short_cycling ON compressor_duty_cycle
  WHEN starts > 15
  CLEAR WHEN starts < 10
  SEVERITY warning VALUE starts
  MESSAGE 'many short runs: check tank pressure and pressure switch';
