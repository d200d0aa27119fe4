//! What fifty queries that wait take. Alone in its file, because it looks at the
//! memory of the process.

use forebay_analytics::decode::Record;
use forebay_analytics::query::{MEMORY_BYTES, Query};

const QUERIES: usize = 50;
const BYTES_MAX: usize = 10_000_000;

/// Anonymous memory of this process in bytes: the heap, not the program.
fn anonymous() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let line = text.lines().find(|line| line.starts_with("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    1_024 * kib.expect("a line").parse::<usize>().expect("a number")
}

#[test]
fn fifty_queries_that_wait_take_less_than_ten_megabytes() {
    let before = anonymous();
    let queries: Vec<Query> = (0..QUERIES)
        .map(|index| {
            let text = format!(
                "CREATE STREAM s FROM 'plant/{{site}}/#' TIMESTAMP BY ts;
                 SELECT site, path, avg(value) AS a, stddev(value) AS d, max(value) AS m
                 FROM HOP(s, '1 s', '60 s') WHERE value > {index} GROUP BY site, path;
                 CREATE ALERT high WHEN m > 80 FOR '1 min' CLEAR WHEN m < 70"
            );
            let mut query = Query::new(&text, MEMORY_BYTES).expect("a query");
            for row in 0..10 {
                query.push(&[Record {
                    topic: "t",
                    partition: 0,
                    offset: row,
                    timestamp_ms: row,
                    path: &format!("plant/north/{row}"),
                    headers: &[],
                    payload: format!("{{\"ts\":{row},\"value\":60}}").as_bytes(),
                }]);
            }
            query
        })
        .collect();
    let taken = anonymous().saturating_sub(before);
    let counted: usize = queries.iter().map(Query::memory_bytes).sum();
    assert!(taken < BYTES_MAX, "{taken} bytes");
    assert!(counted < BYTES_MAX, "{counted} bytes are counted");
}
