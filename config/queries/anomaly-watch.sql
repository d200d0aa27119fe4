-- A watch over every numeric tag that nobody has written a rule for. Each tag is
-- compared with its own past: level, agitation, drift, standing still. There is no
-- training; the first hundred readings of a tag raise nothing. 3 kB per tag.
--
-- A tag has a result when it becomes unusual and when that is over.
--
-- Change: the path, and 0.75 in three places: the score is made for a limit of 0.5 on
-- a series that somebody looks at; over hundreds of tags that is a hint too many. What
-- is found is a hint for a person, so the severity is info.

CREATE STREAM tags FROM 'plant/#';

CREATE QUERY anomaly_watch AS
SELECT tag,
       CASE WHEN max(score) > 0.75 THEN max(score) ELSE 0 END AS score,
       CASE WHEN max(score) > 0.75 THEN last(value) END AS value
FROM TUMBLE((
  SELECT path AS tag, value, anomaly_score(value) AS score FROM tags WHERE value IS NOT NULL
), INTERVAL '1 min')
GROUP BY tag
EMIT ON CHANGE;

CREATE ALERT unusual ON anomaly_watch
  WHEN score > 0.75
  SEVERITY info VALUE score SUPPRESS INTERVAL '1 h'
  MESSAGE 'this tag does what it has not done before';
