//! The Kafka v2 record batch: header, records, compression; no I/O
