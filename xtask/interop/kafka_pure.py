"""Kafka scenarios with kafka-python, a client of other habits."""

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, NewPartitions, NewTopic
from kafka.admin import ConfigResourceType

from peers import PATIENCE_S, expect, main, wait_for

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


def read(client, count):
    values = []

    def more():
        for records in client.poll(timeout_ms=200).values():
            values.extend(records)
        return len(values) >= count

    wait_for(more, f"{count} records")
    expect(len(values), count, "records read")
    return values


def codecs(_mqtt, kafka):
    """What is produced with each compression is read back unchanged."""
    for codec in CODECS:
        topic = f"pure-{codec}"
        producer = KafkaProducer(
            bootstrap_servers=kafka, compression_type=codec, acks="all", linger_ms=5
        )
        values = [f"{codec} {number} {'y' * 300}".encode() for number in range(1000)]
        futures = [producer.send(topic, value, partition=0) for value in values]
        producer.flush(PATIENCE_S)
        expect(
            [future.get(PATIENCE_S).offset for future in futures], list(range(1000)), "offsets"
        )
        producer.close()
        client = KafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
        client.assign([TopicPartition(topic, 0)])
        expect([record.value for record in read(client, 1000)], values, str(codec))
        client.close()


def groups(_mqtt, kafka):
    """A group commits, leaves, and goes on."""
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics([NewTopic("pure-group", 3, 1)])
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all")
    for number in range(90):
        producer.send("pure-group", str(number).encode(), partition=number % 3)
    producer.flush(PATIENCE_S)
    settings = {
        "bootstrap_servers": kafka,
        "group_id": "pure-team",
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
    }
    first = KafkaConsumer("pure-group", **settings)
    read(first, 90)
    first.commit()
    first.close()
    for number in range(30):
        producer.send("pure-group", f"late {number}".encode(), partition=number % 3)
    producer.flush(PATIENCE_S)
    second = KafkaConsumer("pure-group", **settings)
    late = read(second, 30)
    expect(all(record.value.startswith(b"late") for record in late), True, "only late ones")
    second.close()
    producer.close()
    admin.close()


def admin(_mqtt, kafka):
    """Create, describe, grow and delete a topic."""
    client = KafkaAdminClient(bootstrap_servers=kafka)
    client.create_topics([NewTopic("pure-managed", 1, 1)])
    client.create_partitions({"pure-managed": NewPartitions(3)})
    described = client.describe_topics(["pure-managed"])
    expect(len(described[0]["partitions"]), 3, "partitions")
    resource = ConfigResource(ConfigResourceType.TOPIC, "pure-managed")
    configs = client.describe_configs([resource], config_filter="all")
    expect("retention.ms" in str(configs), True, "retention.ms is described")
    client.delete_topics(["pure-managed"])
    wait_for(lambda: "pure-managed" not in client.list_topics(), "the topic is gone")
    client.close()


def idempotent(_mqtt, kafka):
    """kafka-python's idempotent producer."""
    producer = KafkaProducer(bootstrap_servers=kafka, enable_idempotence=True)
    futures = [producer.send("pure-exact", str(n).encode(), partition=0) for n in range(3000)]
    producer.flush(PATIENCE_S)
    expect([f.get(PATIENCE_S).offset for f in futures], list(range(3000)), "offsets")
    producer.close()


def times(_mqtt, kafka):
    """Offsets are found by time."""
    producer = KafkaProducer(bootstrap_servers=kafka, acks="all")
    base = 1_700_000_000_000
    for number in range(50):
        producer.send("pure-timed", b"x", partition=0, timestamp_ms=base + number * 1000)
    producer.flush(PATIENCE_S)
    producer.close()
    client = KafkaConsumer(bootstrap_servers=kafka)
    place = TopicPartition("pure-timed", 0)
    expect(client.offsets_for_times({place: base + 10_500})[place].offset, 11, "by time")
    expect(client.beginning_offsets([place])[place], 0, "beginning")
    expect(client.end_offsets([place])[place], 50, "end")
    client.close()


if __name__ == "__main__":
    main(
        {
            "codecs": codecs,
            "groups": groups,
            "admin": admin,
            "idempotent": idempotent,
            "times": times,
        }
    )
