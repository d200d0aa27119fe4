-- Vibration severity from sensors that send a level (RMS velocity in mm/s), by
-- the zones of ISO 20816: A as new, B fit for long operation, C fit until there is
-- an opportunity to repair, D damage may happen.
--
-- Change: the path, where {machine} is the level with the name of the machine; the
-- group of the machine (forebay functions iso20816_zone lists them) and its
-- foundation; the limits in the alerts, which are those between B and C and between
-- C and D for that group.

CREATE STREAM vibration FROM 'plant/{machine}/vibration';

CREATE QUERY vibration_level AS
SELECT machine,
       avg(value) AS level,
       max(value) AS peak,
       iso20816_zone(avg(value), 'group-2', 'rigid') AS zone,
       count(*) AS readings,
       window_start, window_end
FROM TUMBLE(vibration, INTERVAL '1 min')
GROUP BY machine;

-- A press that starts or a fork-lift that passes is over after some minutes.
CREATE ALERT zone_c ON vibration_level
  WHEN level > 2.8 FOR INTERVAL '5 min'
  CLEAR WHEN level < 2.2 FOR INTERVAL '10 min'
  SEVERITY warning VALUE level
  MESSAGE 'vibration in zone C: plan a repair';

CREATE ALERT zone_d ON vibration_level
  WHEN level > 4.5 FOR INTERVAL '1 min'
  CLEAR WHEN level < 3.5 FOR INTERVAL '10 min'
  SEVERITY critical VALUE level
  MESSAGE 'vibration in zone D: stop and inspect';
