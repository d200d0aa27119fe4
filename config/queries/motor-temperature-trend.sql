-- When will a motor be too hot? A straight line through a week of temperatures, made
-- anew every six hours, with the day on which it reaches the limit. A week, because
-- the line through a single warm afternoon climbs, too. days_to is null while the
-- slope is not significant, so a motor that is merely warm raises nothing.
--
-- Change: the path; 110, the limit in degrees Celsius (insulation class F allows 155,
-- less 10 for hot spots and what the sensor is away from the winding), in three
-- places; 14, the days of notice that maintenance wants.

CREATE STREAM temperature FROM 'plant/{machine}/temperature';

CREATE QUERY motor_temperature_trend AS
SELECT machine,
       avg(value) AS level,
       max(value) AS hottest,
       slope(value) * 86400 AS per_day,
       days_to(value, 110) AS days,
       days_to_low(value, 110) AS days_low,
       days_to_high(value, 110) AS days_high,
       window_start, window_end
FROM HOP(temperature, INTERVAL '6 h', INTERVAL '7 d')
GROUP BY machine;

CREATE ALERT will_overheat ON motor_temperature_trend
  WHEN days BETWEEN 0 AND 14 FOR INTERVAL '12 h'
  CLEAR WHEN days IS NULL OR days > 21 FOR INTERVAL '12 h'
  SEVERITY warning VALUE days
  MESSAGE 'at this rate the motor reaches 110 degrees within two weeks';

CREATE ALERT overheated ON motor_temperature_trend
  WHEN hottest > 110
  SEVERITY critical VALUE hottest
  MESSAGE 'the motor was above 110 degrees within the last week';
