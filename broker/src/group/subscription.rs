//! The topics inside a consumer protocol subscription.
//!
//! Metadata is opaque to the coordinator but for one question: OffsetDelete
//! refuses to delete offsets of a topic that the group consumes.

/// Reads the topics of a `ConsumerProtocolSubscription` (any version): version
/// i16, then an array of strings. Other bytes yield no topics.
pub fn subscribed_topics(metadata: &[u8]) -> Vec<String> {
    parse(metadata).unwrap_or_default()
}

fn parse(metadata: &[u8]) -> Option<Vec<String>> {
    let rest = metadata.get(2..)?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let (len, tail) = rest.split_first_chunk::<2>()?;
        let len = usize::try_from(i16::from_be_bytes(*len)).ok()?;
        let name = tail.get(..len)?;
        topics.push(String::from_utf8(name.to_vec()).ok()?);
        rest = &tail[len..];
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_truncation_yields_none() {
        let bytes = b"\x00\x01\x00\x00\x00\x02\x00\x01a\x00\x02bc\xff\xff\xff\xff";
        assert_eq!(subscribed_topics(bytes), ["a", "bc"]);
        for len in 0..13 {
            assert!(subscribed_topics(&bytes[..len]).is_empty(), "{len}");
        }
        assert!(subscribed_topics(b"\x00\x01\x7f\xff\xff\xff").is_empty());
    }
}
