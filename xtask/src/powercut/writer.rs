//! Clients that write until the node goes away, and remember what they were
//! promised.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ledger::{Guarantee, Ledger};
use crate::node::Ports;
use crate::wire::batch::{self, Producer};
use crate::wire::kafka::{self, DUPLICATE_SEQUENCE};
use crate::wire::mqtt::{Client, Packet};

/// The topic that Kafka writers produce to, one partition each.
pub const TOPIC: &str = "produced";

/// MQTT publishes in flight per writer: enough that a cut hits several.
const MQTT_WINDOW: usize = 16;

/// Produce requests in flight: what Kafka allows an idempotent producer.
const KAFKA_WINDOW: usize = 5;

/// A pause between rounds of a writer, so that 50 cuts stay readable in
/// memory; commits overlap with it.
const PACE: Duration = Duration::from_millis(2);

/// How long a silent connection is waited on before `stop` is looked at.
const SILENCE: Duration = Duration::from_millis(300);

/// A client that writes.
#[derive(Debug)]
pub enum Writer {
    /// Over MQTT.
    Mqtt(MqttWriter),
    /// Over Kafka.
    Kafka(KafkaWriter),
}

impl Writer {
    /// The usual company: MQTT at QoS 1 and 2, Kafka with and without
    /// idempotence. `value_size` is the payload of the Kafka writers.
    #[must_use]
    pub fn company(value_size: usize) -> Vec<Self> {
        let mut writers = Vec::new();
        for number in 0..2 {
            writers.push(Self::Mqtt(MqttWriter::new(1, number)));
            writers.push(Self::Mqtt(MqttWriter::new(2, number)));
        }
        for partition in 0..4 {
            writers.push(Self::Kafka(KafkaWriter::new(
                partition,
                partition % 2 == 0,
                value_size,
            )));
        }
        writers
    }

    /// What it remembers.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        match self {
            Self::Mqtt(writer) => &writer.ledger,
            Self::Kafka(writer) => &writer.ledger,
        }
    }

    /// Writes until the connection fails or `stop` is set.
    ///
    /// # Errors
    /// The connection failed, as it does when the node is killed.
    pub fn drive(&mut self, ports: Ports, stop: &AtomicBool) -> io::Result<()> {
        match self {
            Self::Mqtt(writer) => {
                let address = ports
                    .mqtt
                    .ok_or_else(|| io::Error::other("the node has no MQTT port"))?;
                writer.drive(address, stop)
            }
            Self::Kafka(writer) => writer.drive(ports.kafka, stop),
        }
    }
}

/// A publish that is not finished.
#[derive(Debug)]
struct Publish {
    sequence: u64,
    id: u16,
    received: bool,
}

/// A publisher with a persistent session that sends what is unfinished again,
/// as MQTT 3.1.1 section 4.4 asks.
#[derive(Debug)]
pub struct MqttWriter {
    ledger: Ledger,
    qos: u8,
    topic: String,
    pending: VecDeque<Publish>,
    has_session: bool,
}

impl MqttWriter {
    /// A publisher at `qos`.
    #[must_use]
    pub fn new(qos: u8, number: u32) -> Self {
        let name = format!("qos{qos}-{number}");
        let guarantee = if qos == 2 {
            Guarantee::ExactlyOnce
        } else {
            Guarantee::AtLeastOnce
        };
        Self {
            topic: format!("press/{name}/temperature"),
            ledger: Ledger::new(name, guarantee),
            qos,
            pending: VecDeque::new(),
            has_session: false,
        }
    }

    /// What it remembers.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Connects, sends the unfinished again, and publishes.
    ///
    /// # Errors
    /// The connection failed.
    pub fn drive(&mut self, address: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
        let mut client = self.resume(address)?;
        while !stop.load(Ordering::Relaxed) {
            self.fill(&mut client, MQTT_WINDOW);
            client.flush()?;
            self.collect(&mut client)?;
            thread::sleep(PACE);
        }
        Ok(())
    }

    /// Publishes until `total` messages were sent and all are acknowledged.
    ///
    /// # Errors
    /// The connection failed.
    pub fn complete(&mut self, address: SocketAddr, total: u64, pace: Duration) -> io::Result<()> {
        let mut client = self.resume(address)?;
        while self.ledger.sent() < total || !self.pending.is_empty() {
            if self.ledger.sent() < total {
                let left = usize::try_from(total - self.ledger.sent()).unwrap_or(usize::MAX);
                let room = self.pending.len().saturating_add(left);
                self.fill(&mut client, MQTT_WINDOW.min(room));
            }
            client.flush()?;
            self.collect(&mut client)?;
            thread::sleep(pace);
        }
        Ok(())
    }

    fn resume(&mut self, address: SocketAddr) -> io::Result<Client> {
        let (mut client, present) = Client::connect(address, &self.ledger.name, false)?;
        client.stream().set_read_timeout(Some(SILENCE))?;
        if self.has_session && !present {
            self.ledger.violations.push(format!(
                "{}: the session was acknowledged and is gone",
                self.ledger.name
            ));
        }
        self.has_session = true;
        for publish in &self.pending {
            if publish.received {
                client.release(publish.id);
            } else {
                self.ledger.resent.insert(publish.sequence);
                let payload = self.ledger.payload(publish.sequence, 100);
                client.publish(&self.topic, publish.id, self.qos, true, &payload);
            }
        }
        client.flush()?;
        Ok(client)
    }

    fn fill(&mut self, client: &mut Client, window: usize) {
        while self.pending.len() < window {
            let (sequence, payload) = self.ledger.next_payload(100);
            // Identifiers repeat after 60,000 publishes; at most a window of
            // them is in use.
            let id = u16::try_from(sequence % 60_000).unwrap_or_default() + 1;
            client.publish(&self.topic, id, self.qos, false, &payload);
            self.pending.push_back(Publish {
                sequence,
                id,
                received: false,
            });
        }
    }

    fn collect(&mut self, client: &mut Client) -> io::Result<()> {
        if !client.poll()? {
            return Ok(());
        }
        loop {
            match client.read()? {
                Packet::PubAck(id) => self.finish(id, true),
                Packet::PubRec(id) => {
                    if let Some(publish) = self.pending.iter_mut().find(|p| p.id == id) {
                        publish.received = true;
                        self.ledger.acknowledge(publish.sequence, None);
                    }
                    client.release(id);
                }
                Packet::PubComp(id) => self.finish(id, false),
                _ => {}
            }
            if !client.has_buffered() {
                return client.flush();
            }
        }
    }

    fn finish(&mut self, id: u16, acknowledges: bool) {
        if let Some(at) = self.pending.iter().position(|publish| publish.id == id)
            && let Some(publish) = self.pending.remove(at)
            && acknowledges
        {
            self.ledger.acknowledge(publish.sequence, None);
        }
    }
}

/// A batch that is not acknowledged.
#[derive(Debug)]
struct Produce {
    first: u64,
    count: u64,
    batch: Vec<u8>,
}

/// A producer with acks=all into a partition of its own.
#[derive(Debug)]
pub struct KafkaWriter {
    ledger: Ledger,
    partition: i32,
    value_size: usize,
    idempotent: bool,
    producer: Producer,
    pending: VecDeque<Produce>,
}

impl KafkaWriter {
    /// A producer; an idempotent one sends what is unfinished again.
    #[must_use]
    pub fn new(partition: i32, idempotent: bool, value_size: usize) -> Self {
        let kind = if idempotent { "idempotent" } else { "plain" };
        let name = format!("{kind}-{partition}");
        Self {
            ledger: Ledger::new(name, Guarantee::ExactlyOnce),
            partition,
            value_size,
            idempotent,
            producer: Producer::NONE,
            pending: VecDeque::new(),
        }
    }

    fn drive(&mut self, address: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
        let mut client = kafka::Client::connect(address)?;
        if self.idempotent && self.producer.id < 0 {
            let (id, epoch) = client.init_producer()?;
            self.producer = Producer {
                id,
                epoch,
                sequence: 0,
            };
        }
        if !self.idempotent {
            // Without idempotence a second sending would be a second record.
            self.pending.clear();
        }
        for produce in &self.pending {
            client.send_produce(TOPIC, self.partition, &produce.batch)?;
        }
        while !stop.load(Ordering::Relaxed) {
            while self.pending.len() < KAFKA_WINDOW {
                // It is in flight even if the sending fails: its numbers are used.
                let produce = self.next_batch();
                let batch = produce.batch.clone();
                self.pending.push_back(produce);
                client.send_produce(TOPIC, self.partition, &batch)?;
            }
            self.collect(&mut client)?;
            thread::sleep(PACE);
        }
        while !self.pending.is_empty() {
            self.collect(&mut client)?;
        }
        Ok(())
    }

    fn next_batch(&mut self) -> Produce {
        let count = fastrand::u64(1..=10);
        let mut values = Vec::new();
        let mut first = None;
        for _ in 0..count {
            let (sequence, payload) = self.ledger.next_payload(self.value_size);
            first.get_or_insert(sequence);
            values.push(payload);
        }
        let first = first.unwrap_or_default();
        let mut producer = self.producer;
        if self.idempotent {
            producer.sequence = i32::try_from(first).unwrap_or_default();
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let timestamp = i64::try_from(now.as_millis()).unwrap_or_default();
        Produce {
            first,
            count,
            batch: batch::encode(producer, timestamp, &values),
        }
    }

    fn collect(&mut self, client: &mut kafka::Client) -> io::Result<()> {
        let produced = client.read_produced()?;
        if produced.error != 0 && produced.error != DUPLICATE_SEQUENCE {
            if produced.error == 45 {
                let firsts: Vec<u64> = self.pending.iter().map(|p| p.first).collect();
                self.ledger.violations.push(format!(
                    "{}: out of order sequence, in flight were {firsts:?} and {} was acknowledged last",
                    self.ledger.name,
                    self.ledger.acknowledged.keys().last().copied().unwrap_or_default()
                ));
            }
            return Err(io::Error::other(format!(
                "Produce error {}",
                produced.error
            )));
        }
        let Some(done) = self.pending.pop_front() else {
            return Err(io::Error::other("an answer to no request"));
        };
        for index in 0..done.count {
            let offset = produced.base_offset + i64::try_from(index).unwrap_or_default();
            let told = produced.error == 0 && produced.base_offset >= 0;
            let position = told.then_some((self.partition, offset));
            self.ledger.acknowledge(done.first + index, position);
        }
        Ok(())
    }
}
