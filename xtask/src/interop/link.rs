//! A gateway and a hub whose link is cut at random while readings flow, and
//! which are killed in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Stage, finish};
use crate::failure::{During, Failure, Outcome};
use crate::node::{Node, Ports, Spec};
use crate::powercut::ledger::{Guarantee, parse};
use crate::powercut::writer::MqttWriter;
use crate::proxy::{Fault, Proxy};
use crate::wire::kafka::Client;

/// How often the link is cut.
const CUTS: u32 = 30;

/// Publishers; half at QoS 1, half at QoS 2.
const PUBLISHERS: u32 = 10;

/// A pause between rounds of a publisher: with 10 publishers of 16 in flight
/// the readings last about as long as the cuts.
const PACE: Duration = Duration::from_millis(25);

/// How long the uplink may take to catch up when the link is whole again.
const CATCH_UP: Duration = Duration::from_secs(120);

/// The topic at the gateway and its name at the hub.
const TOPIC: &str = "readings";
const TOPIC_AT_HUB: &str = "press-shop.readings";

/// What lies in a log: partition and offset to key and value.
type Log = BTreeMap<(i32, i64), (Vec<u8>, Vec<u8>)>;

pub fn cut_at_random(stage: &Stage) -> Outcome {
    let nowhere = ([127, 0, 0, 1], 1).into();
    let proxy = Proxy::start(nowhere).during("proxy")?;
    let mut hub_spec = Spec::hub(&stage.program, "link-hub", stage.work.path());
    hub_spec.advertise = Some(proxy.address());
    let mut hub = Node::start(&hub_spec)?;
    proxy.retarget(hub.ports.kafka);
    let mut spec = Spec::gateway(&stage.program, "press-shop", stage.work.path());
    spec.hub = Some(proxy.address());
    spec.uplink = "site = \"press-shop\"\n".to_owned();
    spec.sections = format!("[[route]]\nfilter = \"#\"\ntopic = \"{TOPIC}\"\npartitions = 4\n");
    let mut gateway = Node::start(&spec)?;

    let ports = Mutex::new(gateway.ports);
    let giving_up = AtomicBool::new(false);
    let each = stage.readings / u64::from(PUBLISHERS);
    let result = thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|number| {
                let (ports, giving_up) = (&ports, &giving_up);
                scope.spawn(move || {
                    let mut writer = MqttWriter::new(1 + u8::from(number % 2 == 1), number);
                    publish_all(&mut writer, each, ports, giving_up);
                    writer
                })
            })
            .collect();
        let result = disturb(&proxy, &mut hub, &hub_spec, &mut gateway, &spec, &ports);
        if result.is_err() {
            giving_up.store(true, Ordering::Relaxed);
        }
        let writers: Vec<MqttWriter> = publishers.into_iter().flat_map(|p| p.join().ok()).collect();
        result.map(|()| writers)
    });
    let writers = result?;
    wait_for_the_hub(&gateway)?;
    audit(stage, &gateway, &hub)?;
    compare(stage, &gateway, &hub, &writers)
}

/// Publishes to whatever gateway lives at the moment until all is acknowledged.
fn publish_all(writer: &mut MqttWriter, total: u64, ports: &Mutex<Ports>, giving_up: &AtomicBool) {
    while !giving_up.load(Ordering::Relaxed) {
        let address = ports.lock().unwrap_or_else(PoisonError::into_inner).mqtt;
        if let Some(address) = address
            && writer.complete(address, total, PACE).is_ok()
        {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Cuts the link; at every fifth cut the hub or the gateway is killed as well.
fn disturb(
    proxy: &Proxy,
    hub: &mut Node,
    hub_spec: &Spec,
    gateway: &mut Node,
    spec: &Spec,
    ports: &Mutex<Ports>,
) -> Outcome {
    let mut counts = BTreeMap::new();
    for cut in 1..=CUTS {
        thread::sleep(Duration::from_millis(fastrand::u64(100..700)));
        let fault = Fault::ALL[fastrand::usize(..Fault::ALL.len())];
        *counts.entry(format!("{fault:?}")).or_insert(0) += 1;
        proxy.set(fault);
        thread::sleep(Duration::from_millis(fastrand::u64(50..600)));
        if cut % 10 == 5 {
            hub.kill();
            *hub = Node::start(hub_spec)?;
            proxy.retarget(hub.ports.kafka);
        } else if cut % 10 == 0 {
            gateway.kill();
            *gateway = Node::start(spec)?;
            *ports.lock().unwrap_or_else(PoisonError::into_inner) = gateway.ports;
        }
        proxy.set(Fault::None);
    }
    println!(
        "       {CUTS} cuts {counts:?}, {} bytes over the link",
        proxy.bytes()
    );
    Ok(())
}

fn wait_for_the_hub(gateway: &Node) -> Outcome {
    let started = Instant::now();
    let mut last = Value::Null;
    while started.elapsed() < CATCH_UP {
        let status = gateway.status()?;
        last = status.get("uplink").cloned().unwrap_or_default();
        if last.get("lag_records").and_then(Value::as_u64) == Some(0) {
            println!(
                "       caught up {:.1} s after the last cut",
                started.elapsed().as_secs_f64()
            );
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    Err(Failure::new(format!(
        "the hub is not caught up after {CATCH_UP:?}: {last}"
    )))
}

fn audit(stage: &Stage, gateway: &Node, hub: &Node) -> Outcome {
    let mut command = Command::new(&stage.program);
    command
        .args(["audit", "--json", "--site", "press-shop"])
        .args(["--gateway", &gateway.ports.kafka.to_string()])
        .args(["--hub", &hub.ports.kafka.to_string()]);
    let output = finish(&mut command, Duration::from_secs(120))?;
    let audit: Value = serde_json::from_slice(&output).during("forebay audit --json")?;
    let count = |name: &str| audit.get(name).and_then(Value::as_u64);
    let clean = audit.get("clean") == Some(&Value::Bool(true));
    if clean
        && count("gaps") == Some(0)
        && count("duplicates") == Some(0)
        && count("pending") == Some(0)
    {
        Ok(())
    } else {
        Err(Failure::new(format!("forebay audit: {audit}")))
    }
}

/// The own check: both logs are the same, offset for offset, and hold what the
/// publishers were promised.
fn compare(stage: &Stage, gateway: &Node, hub: &Node, writers: &[MqttWriter]) -> Outcome {
    let here = read_here(gateway)?;
    let there = read_there(stage, hub)?;
    if here != there {
        let missing = here
            .keys()
            .filter(|place| !there.contains_key(place))
            .count();
        let extra = there
            .keys()
            .filter(|place| !here.contains_key(place))
            .count();
        return Err(Failure::new(format!(
            "gateway {} records, hub {}: {missing} missing, {extra} extra, the rest differs",
            here.len(),
            there.len()
        )));
    }
    let mut counts: BTreeMap<(&str, u64), u32> = BTreeMap::new();
    for (_, value) in there.values() {
        let (name, sequence) = parse(value).ok_or_else(|| Failure::new("a foreign record"))?;
        *counts.entry((name, sequence)).or_default() += 1;
    }
    let mut resent = 0;
    for writer in writers {
        let ledger = writer.ledger();
        if let Some(violation) = ledger.violations.first() {
            return Err(Failure::new(violation.clone()));
        }
        for sequence in 0..ledger.sent() {
            let count = counts
                .get(&(ledger.name.as_str(), sequence))
                .copied()
                .unwrap_or(0);
            let again =
                ledger.guarantee == Guarantee::AtLeastOnce && ledger.resent.contains(&sequence);
            if count != 1 && !(again && count > 1) {
                return Err(Failure::new(format!(
                    "{} {sequence} is at the hub {count} times",
                    ledger.name
                )));
            }
        }
        resent += ledger.resent.len();
    }
    let partitions: BTreeSet<i32> = here.keys().map(|(partition, _)| *partition).collect();
    println!(
        "       {} records in {} partitions at the hub, {resent} publishes were sent again",
        there.len(),
        partitions.len()
    );
    Ok(())
}

fn read_here(gateway: &Node) -> Outcome<Log> {
    let mut client = Client::connect(gateway.ports.kafka).during("gateway")?;
    let mut log = Log::new();
    for partition in 0..client.partitions(TOPIC).during(TOPIC)? {
        for record in client.read_partition(TOPIC, partition).during(TOPIC)? {
            log.insert((partition, record.offset), (record.key, record.value));
        }
    }
    Ok(log)
}

/// Reads the hub with librdkafka, which also understands compressed batches.
/// The hub advertises the proxy, which passes everything at this point.
fn read_there(stage: &Stage, hub: &Node) -> Outcome<Log> {
    let target = stage.directory("link")?.join("hub.tsv");
    let file = target.display().to_string();
    stage.script("kafka_confluent.py", "dump", hub, &[&file, TOPIC_AT_HUB])?;
    let text = fs::read(&target).during(&file)?;
    let mut log = Log::new();
    for line in text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let mut parts = line.splitn(5, |byte| *byte == b'\t').skip(1);
        let mut next = || parts.next().unwrap_or_default();
        let partition = String::from_utf8_lossy(next())
            .parse()
            .during("partition")?;
        let offset = String::from_utf8_lossy(next()).parse().during("offset")?;
        let (key, value) = (next().to_vec(), next().to_vec());
        if log.insert((partition, offset), (key, value)).is_some() {
            return Err(Failure::new(format!(
                "offset {offset} of {partition} is there twice"
            )));
        }
    }
    Ok(log)
}
