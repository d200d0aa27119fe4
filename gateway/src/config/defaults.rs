//! Every default and every bound of the configuration, with its reason.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

/// Listeners stay on this machine unless the file says otherwise: there is no
/// authentication on them, so reaching the plant network is a decision.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The port that IANA registered for MQTT without TLS.
pub const MQTT_LISTEN: SocketAddr = SocketAddr::new(LOOPBACK, 1883);

/// A panel or two and a development machine.
pub const MQTT_WEBSOCKET_ORIGINS_MAX: usize = 64;

/// The port that every Kafka client assumes.
pub const KAFKA_LISTEN: SocketAddr = SocketAddr::new(LOOPBACK, 9092);

/// The customary unprivileged HTTP port.
pub const HTTP_LISTEN: SocketAddr = SocketAddr::new(LOOPBACK, 8080);

/// Two threads: one can decode while the other encodes, and each further one
/// costs an allocator arena. Storage has its own threads, so a slow disk does
/// not occupy these.
pub const WORKER_THREADS: usize = 2;
/// More threads than this is a mistyped number on the machines this runs on.
pub const WORKER_THREADS_MAX: u64 = 256;

/// No waiting: an idle log syncs at once, and under load the window gathers
/// for as long as the former sync takes anyway.
pub const COMMIT_LINGER: Duration = Duration::ZERO;
/// A sender waits for its acknowledgement for at least the linger; above one
/// second MQTT clients with short timeouts begin to reconnect.
pub const COMMIT_LINGER_MAX: Duration = Duration::from_secs(1);

/// Retention works by whole segments: 16 MiB is a few hours of one busy
/// sensor topic, and small enough that a 1 GiB card holds dozens of them.
pub const SEGMENT_SIZE: u64 = 16 << 20;
/// Hubs hold many gateways' data; fewer files matter more there.
pub const SEGMENT_SIZE_BROKER: u64 = 128 << 20;
/// Below this, headers, preallocation and file handling outweigh the data.
pub const SEGMENT_SIZE_MIN: u64 = 1 << 20;
/// Offsets inside a segment are 32 bits wide in the index.
pub const SEGMENT_SIZE_MAX: u64 = 2 << 30;

/// A week bridges a long weekend without the link plus the days to notice it.
/// Kafka's own default as well.
pub const RETENTION_TIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// A file system that runs out entirely cannot even record what it dropped;
/// 512 MiB also leaves room for the journal, logs and an upgrade.
pub const KEEP_FREE: u64 = 512 << 20;

/// A reading is some hundred bytes; 1 MiB lets pictures and waveforms of a
/// vibration sensor pass and keeps 1,000 hostile clients under 1 GiB.
pub const MQTT_MAX_PACKET_SIZE: u32 = 1 << 20;
/// Smaller packets could not carry a CONNECT with a will.
pub const MQTT_MAX_PACKET_SIZE_MIN: u64 = 1 << 10;
/// The largest remaining length that MQTT can express (section 1.5.5).
pub const MQTT_MAX_PACKET_SIZE_MAX: u64 = 268_435_455;

/// Publishes wait for the disk; at 5 ms per sync, 1,024 in flight let one
/// client send 200,000 messages a second.
pub const MQTT_RECEIVE_MAXIMUM: u16 = 1024;

/// A sensor that was away for a week comes back to its subscriptions; what a
/// session costs is a cursor, not a queue.
pub const MQTT_SESSION_EXPIRY_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Session expiry is a 32-bit number of seconds (MQTT 5, 3.1.2.11.2).
pub const MQTT_SESSION_EXPIRY_CEILING: Duration = Duration::from_secs(u32::MAX as u64);

/// A dead peer is noticed after one and a half keep alives; the field is a
/// 16-bit number of seconds, and an hour still finds a dead sensor in a shift.
pub const MQTT_KEEP_ALIVE_MAX: Duration = Duration::from_secs(3600);
/// Keep alive is a 16-bit number of seconds (MQTT 5, 3.1.2.10).
pub const MQTT_KEEP_ALIVE_CEILING: Duration = Duration::from_secs(u16::MAX as u64);

/// A client sends CONNECT with its first segment; ten seconds forgive a slow
/// radio link and limit what silent connections hold.
pub const MQTT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer wait only helps a client that means harm.
pub const MQTT_CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// The shortest `kafka.offsets_retention`: consumers restart within it.
pub const KAFKA_OFFSETS_RETENTION_MIN: Duration = Duration::from_hours(1);

/// The longest `kafka.offsets_retention`: ten years.
pub const KAFKA_OFFSETS_RETENTION_MAX: Duration = Duration::from_hours(3_650 * 24);

/// Mosquitto's interval, which monitoring tools expect.
pub const MQTT_SYS_INTERVAL: Duration = Duration::from_secs(10);
/// Values that are older than an hour describe another shift.
pub const MQTT_SYS_INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// 64 messages of 1 KiB fill a path of 64 KiB, which is a round trip of 50 ms
/// at 10 Mbit/s. The protocol machine has the same default.
pub const MQTT_INFLIGHT: NonZeroU16 = NonZeroU16::new(64).expect("64 is not zero");
/// A commit of a busy node; what is more is read from the log.
pub const MQTT_QUEUED: u32 = 256;
/// A megabyte of pointers per client; beyond that the log is the better queue.
pub const MQTT_QUEUED_MAX: u64 = 65_536;
/// Matching a backlog tries each subscription per message.
pub const MQTT_SUBSCRIPTIONS: u32 = 1_000;
/// More subscriptions than this belong in a wildcard.
pub const MQTT_SUBSCRIPTIONS_MAX: u64 = 100_000;
/// A slower byte rate could not carry a packet of the smallest allowed
/// maximum in a second.
pub const MQTT_PUBLISH_BYTES_RATE_MIN: u64 = 1 << 10;

/// Ten thousand sensors and some tools. With a few kilobytes for an idle one
/// that is below 100 MB.
pub const MQTT_MAX_CONNECTIONS: u32 = 12_000;
/// The broker's own limit, argued there.
pub const KAFKA_MAX_CONNECTIONS: u32 = 12_000;
/// A process has at most about a million file descriptors on Linux
/// (`fs.nr_open`).
pub const MAX_CONNECTIONS_MAX: u64 = 1_000_000;

/// A first `kcat -P` on a new name works, as with Kafka's own default.
pub const KAFKA_AUTO_CREATE_TOPICS: bool = true;

/// One partition keeps all readings of a topic in one order; who needs
/// parallel readers says so per route.
pub const PARTITIONS: u32 = 1;
/// Each partition costs a directory, a file and preallocated space. The broker
/// has the same limit.
pub const PARTITIONS_MAX: u64 = 1_000;

/// Kafka's default of `message.max.bytes`, so that producers tuned for Kafka
/// pass unchanged.
pub const KAFKA_MAX_MESSAGE_BYTES: u32 = 1_048_588;
/// Fits one reading with its headers.
pub const KAFKA_MAX_MESSAGE_BYTES_MIN: u64 = 1 << 10;
/// A batch is held in memory as a whole; 64 MiB is half of a small board's
/// budget.
pub const KAFKA_MAX_MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// The topic of publishes that no route names.
pub const ROUTE_TOPIC: &str = "readings";
/// The filter of the default route: everything.
pub const ROUTE_FILTER: &str = "#";
/// Routes are tried one after the other for every new path; a table of this
/// length is written by a script, not by a person.
pub const ROUTES_MAX: usize = 1_000;

/// The priority of an uplink topic that names none: after those that do.
pub const UPLINK_PRIORITY: u8 = 1;
/// Ten levels are more than anyone can tell apart.
pub const UPLINK_PRIORITY_MAX: u64 = 9;
/// A slower cap could not carry one full batch in the request timeout.
pub const UPLINK_MAX_RATE_MIN: u64 = 1 << 10;
/// One address per hub node suffices.
pub const UPLINK_BOOTSTRAP_MAX: usize = 16;

/// A plant has a few brokers to connect.
pub const BRIDGES_MAX: usize = 64;
/// Mappings of one bridge: each message tries them in order.
pub const BRIDGE_TOPICS_MAX: usize = 256;
/// Half a minute notices a dead link before a shift does, at two packets.
pub const BRIDGE_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The client library takes no less.
pub const BRIDGE_KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);
/// Fills a round trip of 50 ms at 1,280 messages a second; brokers accept at
/// least 20 at once, and MQTT 5 ones say how many they take.
pub const BRIDGE_INFLIGHT: u16 = 64;
/// Above this the window holds megabytes of messages to be repeated.
pub const BRIDGE_INFLIGHT_MAX: u64 = 10_000;

/// Starts, stops, alarms and link changes; nothing per message.
pub const LOG_LEVEL: &str = "info";

/// What most devices are asked at, and what the readings of a machine need.
pub const MODBUS_INTERVAL: Duration = Duration::from_secs(1);
/// Faster than 100 polls a second no device on the market answers.
pub const MODBUS_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Serial numbers and the like are read once a week at least.
pub const MODBUS_INTERVAL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The unit that devices have when they leave the factory.
pub const MODBUS_UNIT: u8 = 1;
/// Eight unwanted registers are 16 bytes: less than the 12 bytes of a request
/// and the 9 bytes around an answer that a second request would cost.
pub const MODBUS_FILL: u16 = 8;
/// Slow serial devices behind a converter answer within half a second.
pub const MODBUS_TIMEOUT: Duration = Duration::from_secs(1);
/// Below this a busy network alone makes time-outs.
pub const MODBUS_TIMEOUT_MIN: Duration = Duration::from_millis(10);
/// Above this one dead device would stop its bus for minutes.
pub const MODBUS_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// One lost frame is noise; two in a row are a fault worth a bad reading.
pub const MODBUS_RETRIES: u32 = 1;
/// More repetitions only keep the neighbours waiting.
pub const MODBUS_RETRIES_MAX: u64 = 10;
/// Devices that need longer pauses are polled less often instead.
pub const MODBUS_PAUSE_MAX: Duration = Duration::from_secs(60);
/// A value that does not change is reported this often all the same, so that
/// silence means trouble.
pub const MODBUS_REPORT_INTERVAL: Duration = Duration::from_secs(600);
/// A person or a program that sets a value more than twice a second per tag is
/// a loop gone wrong.
pub const WRITE_INTERVAL: Duration = Duration::from_millis(500);
/// Rarer than once a week nothing is written by machines.
pub const WRITE_INTERVAL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Ten times the tags that a gateway is measured with.
pub const MODBUS_TAGS_MAX: usize = 1_000_000;
/// Each endpoint is a task and a connection.
pub const MODBUS_DEVICES_MAX: usize = 10_000;

/// What machines are looked at, twice as often as Modbus devices: the server
/// reports changes only.
pub const OPCUA_PUBLISHING_INTERVAL: Duration = Duration::from_millis(500);
/// Below this no server that was tried keeps its promise.
pub const OPCUA_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// A value that is wanted less often than hourly is read by Modbus or by hand.
pub const OPCUA_INTERVAL_MAX: Duration = Duration::from_secs(3600);
/// A dead server is noticed after three of these; each costs a message.
pub const OPCUA_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Below this a busy controller looks dead.
pub const OPCUA_KEEP_ALIVE_MIN: Duration = Duration::from_millis(100);
/// Above this nobody would call it being noticed.
pub const OPCUA_KEEP_ALIVE_MAX: Duration = Duration::from_secs(600);
/// Small controllers take a second or two for a batch.
pub const OPCUA_TIMEOUT: Duration = Duration::from_secs(5);
/// Below this a busy network alone makes time-outs.
pub const OPCUA_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Above this one lost answer would hold a session up for minutes.
pub const OPCUA_TIMEOUT_MAX: Duration = Duration::from_secs(120);
/// How long a server keeps values behind a broken link; most allow an hour.
pub const OPCUA_SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// A reconnect takes some seconds.
pub const OPCUA_SESSION_TIMEOUT_MIN: Duration = Duration::from_secs(5);
/// The limit of common servers.
pub const OPCUA_SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Values of one node that the server keeps between two publishes, as the peers
/// have it.
pub const OPCUA_QUEUE: u32 = 10;
/// More is refused or cut by every server that was tried.
pub const OPCUA_QUEUE_MAX: u64 = 10_000;
/// Browsed nodes; more are asked for by name.
pub const OPCUA_NODES: u64 = 10_000;
/// Ten times the nodes that a gateway is measured with.
pub const OPCUA_NODES_MAX: u64 = 100_000;
/// Levels below Objects; machines have six.
pub const OPCUA_DEPTH: u64 = 10;
/// Deeper is a loop.
pub const OPCUA_DEPTH_MAX: u64 = 50;
/// Patterns to browse by, per server.
pub const OPCUA_PATTERNS_MAX: usize = 1_000;
/// Each is a task and a connection.
pub const OPCUA_SERVERS_MAX: usize = 1_000;

/// The first level of Sparkplug readings.
pub const SPARKPLUG_PREFIX: &str = "sparkplug";
/// The log topic of everything that edge nodes publish.
pub const SPARKPLUG_TOPIC: &str = "sparkplug";
/// One keeps a small device's commit at one file. The key is the edge node, so
/// more would keep each in order too.
pub const SPARKPLUG_PARTITIONS: u32 = 1;
/// A plant has some ten groups.
pub const SPARKPLUG_GROUPS_MAX: usize = 1_024;
/// What the specification calls typical, a couple of seconds.
pub const SPARKPLUG_REORDER_TIMEOUT: Duration = Duration::from_secs(2);
/// Above this, values come later than people look.
pub const SPARKPLUG_REORDER_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// An edge node answers with all its births, which may be megabytes over a
/// radio link.
pub const SPARKPLUG_REBIRTH_INTERVAL: Duration = Duration::from_secs(10);
/// Faster requests find the births of the one before still under way.
pub const SPARKPLUG_REBIRTH_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The doubled interval ends here, and so does what can be asked for.
pub const SPARKPLUG_REBIRTH_INTERVAL_MAX: Duration = Duration::from_secs(300);

/// A minute: people wait for what they switch, and a command that arrives
/// later than that is a surprise.
pub const COMMANDS_MAX_EXPIRY: Duration = Duration::from_secs(60);
/// Identifiers are remembered for as long.
pub const COMMANDS_MAX_EXPIRY_MAX: Duration = Duration::from_secs(3600);
/// Each publish to a writable tag tries them in a row.
pub const COMMANDS_ALLOW_MAX: usize = 256;

/// Each is a task; a gateway has some fifty.
pub const QUERIES_MAX: usize = 1_000;
/// A name is a level of paths and, with `.late` behind it, a topic.
pub const QUERY_NAME_MAX: usize = 100;
/// Bytes of a query's file; a long one has two hundred lines.
pub const QUERY_TEXT_MAX: u64 = forebay_analytics::parse::PROGRAM_BYTES_MAX as u64;
/// What a query's state may take unless it is told otherwise.
pub const QUERY_MEMORY: u64 = forebay_analytics::query::MEMORY_BYTES as u64;
/// Less holds no window of a few keys with its sketches.
pub const QUERY_MEMORY_MIN: u64 = 1 << 20;
/// More than a gateway has.
pub const QUERY_MEMORY_MAX: u64 = 4 << 30;
