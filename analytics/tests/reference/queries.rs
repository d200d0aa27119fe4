//! Queries of kinds that the model does not know.

pub const STREAMS: &str = "CREATE STREAM s FROM 'p/#' TIMESTAMP BY ts WATERMARK DELAY '9 ms';
    CREATE STREAM a FROM 'p/a' TIMESTAMP BY ts WATERMARK DELAY '9 ms';
    CREATE STREAM b FROM 'p/b', 'p/c' TIMESTAMP BY ts WATERMARK DELAY '5 ms';
    CREATE TABLE t KEY (path) FROM 'p/d'; ";

/// One of each kind.
pub const QUERIES: [&str; 18] = [
    "SELECT path, value - lag(value, 2) AS d, changed(value) OVER () AS c FROM s WHERE value > -5",
    "SELECT path, ewma(value, 0.3) AS e, hampel_score(value, 5) AS h FROM s",
    "SELECT max(m) AS m, count(*) AS n, window_end AS e FROM TUMBLE((SELECT path, avg(value) AS m
       FROM HOP(s, '3 ms', '12 ms') GROUP BY path), '10 ms')",
    "SELECT path, avg(value) AS m, lag(avg(value)) AS l FROM TUMBLE(s, '7 ms') GROUP BY path HAVING count(*) > 1",
    "SELECT a.value AS x, t.value AS y FROM a LEFT JOIN t ON a.value = t.value",
    "SELECT a.value AS x, b.value AS y, b.path FROM a JOIN b ON a.value = b.value
       AND b.ts BETWEEN a.ts - INTERVAL '8 ms' AND a.ts + INTERVAL '3 ms'",
    "SELECT a.value AS x, b.path AS y FROM a ASOF JOIN b MATCH_CONDITION (a.ts >= b.ts) ON a.value = b.value",
    "SELECT path, value FROM s WHERE value > 3 UNION ALL SELECT path, sum(value) AS value FROM TUMBLE(s, '9 ms') GROUP BY path",
    "SELECT path, max(value) AS m FROM TUMBLE(s, '5 ms') GROUP BY path EMIT ON CHANGE",
    "SELECT path, avg(value) AS m FROM TUMBLE(s, '5 ms') GROUP BY path;
       CREATE ALERT high WHEN m > 2 FOR '5 ms' CLEAR WHEN m < 0 FOR '4 ms' SUPPRESS '20 ms'",
    "SELECT path, percentile(value, 0.9) AS p, stddev(value) AS s, count(DISTINCT value) AS d, slope(value) AS l
       FROM HOP(s, '4 ms', '20 ms') GROUP BY path",
    "SELECT value, count(*) AS n FROM SESSION(s, '6 ms', '15 ms') GROUP BY value",
    "SELECT path, value - lag(value) AS d, value FROM s;
       CREATE ALERT jump KEY (path) WHEN d > 3 CLEAR WHEN d < 0 SUPPRESS '9 ms' VALUE d",
    "SELECT a.value AS x, b.value AS y FROM a ASOF JOIN b MATCH_CONDITION (a.ts >= b.ts) ON a.value = b.value;
       CREATE ALERT met WHEN y > 0 FOR '4 ms' CLEAR WHEN y <= 0",
    "SELECT path, ewma(value, 0.5) AS e, cusum(value, 0, 1) AS c FROM s WHERE changed(value)",
    "SELECT value, count(*) AS n, stddev(value) AS d FROM HOP(s, '2 ms', '30 ms') GROUP BY value",
    "SELECT m, changed(m) AS c FROM (SELECT path, max(value) AS m FROM COUNT_WINDOW(s, 3, 2) GROUP BY path)",
    "SELECT path, max(value) AS m, count(*) AS n FROM STATE_WINDOW(s, value > 0) GROUP BY path EMIT ON CHANGE",
];
