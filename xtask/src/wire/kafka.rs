//! A blocking Kafka client of the old, inflexible protocol versions.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::batch::{self, Record};

/// The time a broker gets to accept a connection or to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Largest answer that is believed: a full Fetch of [`FETCH_BYTES`] and room.
const FRAME_SIZE_MAX: usize = 64 << 20;

/// Bytes asked for in one Fetch.
const FETCH_BYTES: i32 = 4 << 20;

/// Errors that a client answers by asking again: unknown topic or partition,
/// leader not available, not leader, request timed out, storage error.
const RETRIABLE: [i16; 5] = [3, 5, 6, 7, 56];

/// The sequence number was appended before (46), so the batch is in the log.
pub const DUPLICATE_SEQUENCE: i16 = 46;

/// What Produce answered for one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// The error code, 0 for none.
    pub error: i16,
    /// The offset of the first record.
    pub base_offset: i64,
}

/// What Fetch answered for one partition.
#[derive(Debug)]
pub struct Fetched {
    /// The error code, 0 for none.
    pub error: i16,
    /// The end of what readers may see.
    pub high_watermark: i64,
    /// Record batches.
    pub bytes: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    correlation: i32,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// The connection failed.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            stream,
            correlation: 0,
        })
    }

    /// The number of partitions of a topic (Metadata 1), created if the node
    /// creates topics on demand.
    ///
    /// # Errors
    /// The connection failed, or the topic does not appear in time.
    pub fn partitions(&mut self, topic: &str) -> io::Result<i32> {
        for _ in 0..100 {
            let mut body = Body::default();
            body.i32(1).text(topic);
            let answer = self.ask(3, 1, &body.0)?;
            let mut answer = Answer::new(&answer);
            for _ in 0..answer.i32()? {
                answer.skip(4)?;
                answer.text()?;
                answer.skip(4)?;
                answer.text()?;
            }
            answer.skip(4)?;
            answer.skip(4)?;
            let error = answer.i16()?;
            answer.text()?;
            answer.skip(1)?;
            let count = answer.i32()?;
            if error == 0 {
                return Ok(count);
            }
            if !RETRIABLE.contains(&error) {
                return Err(refused("Metadata", error));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(io::Error::other(format!("topic {topic} does not appear")))
    }

    /// Creates a topic (CreateTopics 2); one that exists already is fine.
    ///
    /// # Errors
    /// The connection failed or the topic was refused.
    pub fn create_topic(&mut self, topic: &str, partitions: i32) -> io::Result<()> {
        let mut body = Body::default();
        body.i32(1).text(topic).i32(partitions).i16(1).i32(0).i32(0);
        body.i32(10_000).i8(0);
        let answer = self.ask(19, 2, &body.0)?;
        let mut answer = Answer::new(&answer);
        answer.skip(8)?;
        answer.text()?;
        match answer.i16()? {
            // 36: it exists.
            0 | 36 => Ok(()),
            error => Err(refused("CreateTopics", error)),
        }
    }

    /// A producer id and epoch (InitProducerId 0).
    ///
    /// # Errors
    /// The connection failed or the broker refused.
    pub fn init_producer(&mut self) -> io::Result<(i64, i16)> {
        let mut body = Body::default();
        body.i16(-1).i32(60_000);
        let answer = self.ask(22, 0, &body.0)?;
        let mut answer = Answer::new(&answer);
        answer.skip(4)?;
        match answer.i16()? {
            0 => Ok((answer.i64()?, answer.i16()?)),
            error => Err(refused("InitProducerId", error)),
        }
    }

    /// Sends a Produce 3 with acks=all and does not wait for the answer.
    ///
    /// # Errors
    /// The connection failed.
    pub fn send_produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> io::Result<()> {
        let mut body = Body::default();
        body.i16(-1).i16(-1).i32(30_000);
        body.i32(1).text(topic).i32(1).i32(partition);
        body.i32(i32::try_from(batch.len()).unwrap_or(i32::MAX));
        body.0.extend_from_slice(batch);
        self.send(0, 3, &body.0)
    }

    /// Waits for the answer to the oldest [`Client::send_produce`].
    ///
    /// # Errors
    /// The connection failed or was closed.
    pub fn read_produced(&mut self) -> io::Result<Produced> {
        let answer = self.receive()?;
        let mut answer = Answer::new(&answer);
        answer.skip(4)?;
        answer.text()?;
        answer.skip(8)?;
        Ok(Produced {
            error: answer.i16()?,
            base_offset: answer.i64()?,
        })
    }

    /// Reads from `offset` (Fetch 4), waiting at most `wait_ms` for a byte.
    ///
    /// # Errors
    /// The connection failed.
    pub fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        wait_ms: i32,
    ) -> io::Result<Fetched> {
        let mut body = Body::default();
        body.i32(-1).i32(wait_ms).i32(1).i32(FETCH_BYTES).i8(0);
        body.i32(1)
            .text(topic)
            .i32(1)
            .i32(partition)
            .i64(offset)
            .i32(FETCH_BYTES);
        let answer = self.ask(1, 4, &body.0)?;
        let mut answer = Answer::new(&answer);
        answer.skip(8)?;
        answer.text()?;
        answer.skip(8)?;
        let error = answer.i16()?;
        let high_watermark = answer.i64()?;
        answer.skip(8)?;
        let aborted = usize::try_from(answer.i32()?).unwrap_or_default();
        answer.skip(aborted * 16)?;
        let bytes = answer.bytes()?.to_vec();
        Ok(Fetched {
            error,
            high_watermark,
            bytes,
        })
    }

    /// The offset for a time (ListOffsets 1); -2 is the earliest, -1 the end.
    ///
    /// # Errors
    /// The connection failed or the broker refused.
    pub fn list_offset(&mut self, topic: &str, partition: i32, time: i64) -> io::Result<i64> {
        let mut body = Body::default();
        body.i32(-1)
            .i32(1)
            .text(topic)
            .i32(1)
            .i32(partition)
            .i64(time);
        let answer = self.ask(2, 1, &body.0)?;
        let mut answer = Answer::new(&answer);
        answer.skip(4)?;
        answer.text()?;
        answer.skip(8)?;
        let error = answer.i16()?;
        answer.skip(8)?;
        match error {
            0 => answer.i64(),
            error => Err(refused("ListOffsets", error)),
        }
    }

    /// Reads a whole partition, from its start to its high watermark.
    ///
    /// # Errors
    /// The connection failed, the broker refused, or a batch is damaged.
    pub fn read_partition(&mut self, topic: &str, partition: i32) -> io::Result<Vec<Record>> {
        let mut offset = self.list_offset(topic, partition, -2)?;
        let end = self.list_offset(topic, partition, -1)?;
        let mut records = Vec::new();
        while offset < end {
            let fetched = self.fetch(topic, partition, offset, 200)?;
            if fetched.error != 0 {
                return Err(refused("Fetch", fetched.error));
            }
            let Some(next) = batch::next_offset(&fetched.bytes) else {
                // Nothing but a gap lies between here and the end.
                break;
            };
            let found = batch::decode(&fetched.bytes).map_err(io::Error::other)?;
            // The first batch may begin before the offset asked for.
            records.extend(found.into_iter().filter(|record| record.offset >= offset));
            offset = next;
        }
        Ok(records)
    }

    fn ask(&mut self, key: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
        self.send(key, version, body)?;
        self.receive()
    }

    fn send(&mut self, key: i16, version: i16, body: &[u8]) -> io::Result<()> {
        self.correlation += 1;
        let mut head = Body::default();
        head.i32(0)
            .i16(key)
            .i16(version)
            .i32(self.correlation)
            .text("xtask");
        let length = i32::try_from(head.0.len() - 4 + body.len()).unwrap_or(i32::MAX);
        head.0[..4].copy_from_slice(&length.to_be_bytes());
        head.0.extend_from_slice(body);
        self.stream.write_all(&head.0)
    }

    /// Reads one answer, without its length and correlation id.
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if !(4..=FRAME_SIZE_MAX).contains(&length) {
            return Err(io::Error::other(format!("an answer of {length} bytes")));
        }
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }
}

fn refused(request: &str, error: i16) -> io::Error {
    io::Error::other(format!("{request} answered error {error}"))
}

#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn i8(&mut self, value: i8) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i16(&mut self, value: i16) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn i64(&mut self, value: i64) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        self.0.extend_from_slice(text.as_bytes());
        self
    }
}

struct Answer<'a> {
    rest: &'a [u8],
}

impl<'a> Answer<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn skip(&mut self, count: usize) -> io::Result<&'a [u8]> {
        if count > self.rest.len() {
            return Err(io::Error::other("an answer is cut off"));
        }
        let (head, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.skip(N)?);
        Ok(out)
    }

    fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> io::Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Skips a nullable string.
    fn text(&mut self) -> io::Result<()> {
        let length = self.i16()?;
        self.skip(usize::try_from(length).unwrap_or_default())?;
        Ok(())
    }

    fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let length = self.i32()?;
        self.skip(usize::try_from(length).unwrap_or_default())
    }
}
