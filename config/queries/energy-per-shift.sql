-- Energy per shift from meters that count up (kWh). Shifts begin at 6, 14 and 22
-- o'clock local time, also on the days on which the clocks change.
--
-- The counter at the end of a shift less the counter at the end of the one before, so
-- nothing is lost between two readings. A counter that is smaller than before was
-- replaced or ran over and counts from zero. The first shift has no value.
--
-- Change: the path; the length of a shift, when the first of the day begins, the
-- time zone.

CREATE STREAM meter FROM 'plant/{meter}/energy' WATERMARK DELAY INTERVAL '1 min';

CREATE QUERY energy_per_shift AS
SELECT meter,
       CASE WHEN counter >= before THEN counter - before ELSE counter END AS kwh,
       counter, window_start, window_end
FROM (
  SELECT meter, counter, lag(counter) AS before, window_start, window_end
  FROM (
    SELECT meter, last(value) AS counter, window_start, window_end
    FROM TUMBLE(meter, INTERVAL '8 h', INTERVAL '6 h', 'Europe/Berlin')
    GROUP BY meter
  )
)
WHERE before IS NOT NULL;
