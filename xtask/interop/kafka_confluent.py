"""Kafka scenarios with confluent-kafka (librdkafka)."""

import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from peers import PATIENCE_S, expect, main, wait_for

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def create(kafka, topic, partitions=1):
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        future.result(PATIENCE_S)
    return admin


def produce(kafka, topic, values, partition=None, **settings):
    """Produces and checks each delivery report; returns the offsets."""
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5, **settings})
    offsets = []
    problems = []

    def report(error, message):
        if error:
            problems.append(str(error))
        else:
            offsets.append(message.offset())

    for value in values:
        where = {} if partition is None else {"partition": partition}
        producer.produce(topic, value, callback=report, **where)
        producer.poll(0)
    expect(producer.flush(PATIENCE_S), 0, "messages left in the queue")
    expect(problems, [], "delivery problems")
    return offsets


def consumer(kafka, group, **settings):
    return Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            **settings,
        }
    )


def read(client, count, patience_s=PATIENCE_S):
    """Reads exactly count messages."""
    messages = []
    deadline = time.monotonic() + patience_s
    while len(messages) < count and time.monotonic() < deadline:
        message = client.poll(0.2)
        if message is None:
            continue
        if message.error():
            raise AssertionError(str(message.error()))
        messages.append(message)
    expect(len(messages), count, "messages read")
    return messages


def codecs(_mqtt, kafka):
    """What is produced with each compression is read back unchanged."""
    for codec in CODECS:
        topic = f"codec-{codec}"
        create(kafka, topic)
        values = [f"{codec} {number} {'x' * 500}".encode() for number in range(2000)]
        produce(kafka, topic, values, **{"compression.type": codec, "acks": "all"})
        client = consumer(kafka, f"reader-{codec}")
        client.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        expect([message.value() for message in read(client, len(values))], values, codec)
        client.close()


def groups(_mqtt, kafka):
    """Two members share the partitions, and one takes over from the other."""
    create(kafka, "shared", 4)
    members = [consumer(kafka, "team") for _ in range(2)]
    seen = [[], []]
    held = [0, 0]  # Each member's partitions; a member is used by one thread only.
    stop = [threading.Event(), threading.Event()]

    def work(index):
        while not stop[index].is_set():
            message = members[index].poll(0.1)
            held[index] = len(members[index].assignment())
            if message is not None and not message.error():
                seen[index].append((message.partition(), message.offset()))
                members[index].commit(message, asynchronous=False)
        members[index].close()

    threads = []
    for index in range(2):
        members[index].subscribe(["shared"])
        threads.append(threading.Thread(target=work, args=(index,)))
        threads[index].start()
    try:
        wait_for(
            lambda: held == [2, 2],
            "two partitions for each member",
        )
        for partition in range(4):
            produce(kafka, "shared", [b"first"] * 50, partition)
        wait_for(lambda: len(seen[0]) + len(seen[1]) == 200, "200 messages")
        expect(bool(seen[0]) and bool(seen[1]), True, "both members read")
        stop[0].set()
        threads[0].join(PATIENCE_S)
        wait_for(lambda: held[1] == 4, "the other takes over")
        for partition in range(4):
            produce(kafka, "shared", [b"second"] * 25, partition)
        wait_for(lambda: len(seen[0]) + len(seen[1]) == 300, "300 messages")
    finally:
        for event in stop:
            event.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    everything = seen[0] + seen[1]
    expect(len(set(everything)), 300, "distinct messages")


def commit(_mqtt, kafka):
    """A group goes on where it committed."""
    create(kafka, "resumed")
    produce(kafka, "resumed", [str(number).encode() for number in range(100)])
    first = consumer(kafka, "resumer", **{"enable.auto.commit": False})
    first.subscribe(["resumed"])
    messages = read(first, 40)
    first.commit(messages[-1], asynchronous=False)
    read(first, 10)
    first.close()
    second = consumer(kafka, "resumer", **{"enable.auto.commit": False})
    second.subscribe(["resumed"])
    expect(read(second, 60)[0].value(), b"40", "first value after the commit")
    position = second.committed([TopicPartition("resumed", 0)], timeout=PATIENCE_S)[0]
    expect(position.offset, 40, "committed offset")
    second.close()


def admin(_mqtt, kafka):
    """Create, describe, alter, grow and delete a topic; look at groups."""
    client = create(kafka, "managed", 2)
    topics = client.list_topics(timeout=PATIENCE_S).topics
    expect(len(topics["managed"].partitions), 2, "partitions")
    resource = ConfigResource(ConfigResource.Type.TOPIC, "managed")
    change = ConfigResource(ConfigResource.Type.TOPIC, "managed")
    change.add_incremental_config(
        ConfigEntry("retention.ms", "3600000", incremental_operation=AlterConfigOpType.SET)
    )
    for future in client.incremental_alter_configs([change]).values():
        future.result(PATIENCE_S)
    for future in client.describe_configs([resource]).values():
        expect(future.result(PATIENCE_S)["retention.ms"].value, "3600000", "retention.ms")
    for future in client.create_partitions([NewPartitions("managed", 5)]).values():
        future.result(PATIENCE_S)
    wait_for(
        lambda: len(client.list_topics(timeout=PATIENCE_S).topics["managed"].partitions) == 5,
        "five partitions",
    )
    cluster = client.describe_cluster(request_timeout=PATIENCE_S).result(PATIENCE_S)
    expect(len(cluster.nodes), 1, "nodes of the cluster")
    reader = consumer(kafka, "visible")
    reader.subscribe(["managed"])
    produce(kafka, "managed", [b"x"] * 10)
    read(reader, 10)
    listing = client.list_consumer_groups(request_timeout=PATIENCE_S).result(PATIENCE_S)
    expect("visible" in [group.group_id for group in listing.valid], True, "group in the list")
    described = client.describe_consumer_groups(["visible"])["visible"].result(PATIENCE_S)
    expect(len(described.members), 1, "members")
    reader.close()
    client.delete_consumer_groups(["visible"])["visible"].result(PATIENCE_S)
    for future in client.delete_topics(["managed"]).values():
        future.result(PATIENCE_S)
    wait_for(
        lambda: "managed" not in client.list_topics(timeout=PATIENCE_S).topics,
        "the topic is gone",
    )


def idempotent(_mqtt, kafka):
    """An idempotent producer's messages arrive once and in order."""
    create(kafka, "exact")
    values = [str(number).encode() for number in range(20000)]
    offsets = produce(
        kafka,
        "exact",
        values,
        **{"enable.idempotence": True, "batch.num.messages": 100, "acks": "all"},
    )
    expect(sorted(offsets), list(range(20000)), "offsets")
    client = consumer(kafka, "exact-reader")
    client.assign([TopicPartition("exact", 0, OFFSET_BEGINNING)])
    expect([message.value() for message in read(client, 20000)], values, "values")
    client.close()


def times(_mqtt, kafka):
    """Offsets are found by time, and the watermarks are right."""
    create(kafka, "timed")
    producer = Producer({"bootstrap.servers": kafka})
    base = 1_700_000_000_000
    for number in range(100):
        producer.produce("timed", str(number).encode(), timestamp=base + number * 1000)
    expect(producer.flush(PATIENCE_S), 0, "messages left")
    client = consumer(kafka, "clock")
    for wanted, expected in ((base, 0), (base + 41_500, 42), (base + 99_000, 99)):
        found = client.offsets_for_times(
            [TopicPartition("timed", 0, wanted)], timeout=PATIENCE_S
        )[0]
        expect(found.offset, expected, f"offset for {wanted}")
    expect(
        client.get_watermark_offsets(TopicPartition("timed", 0), PATIENCE_S),
        (0, 100),
        "watermarks",
    )
    client.close()


def dump(_mqtt, kafka, target, *topics):
    """Writes topic, partition, offset, key and value of every record."""
    client = consumer(kafka, "dump", **{"enable.auto.commit": False})
    listing = client.list_topics(timeout=PATIENCE_S).topics
    wanted = {}
    for topic in topics:
        for partition in listing[topic].partitions:
            place = TopicPartition(topic, partition)
            low, high = client.get_watermark_offsets(place, PATIENCE_S)
            if high > low:
                wanted[(topic, partition)] = high
    client.assign([TopicPartition(topic, part, OFFSET_BEGINNING) for topic, part in wanted])
    with open(target, "wb") as out:
        deadline = time.monotonic() + 120
        while wanted and time.monotonic() < deadline:
            for message in client.consume(1000, 0.2):
                if message.error():
                    raise AssertionError(str(message.error()))
                place = (message.topic(), message.partition())
                head = f"{place[0]}\t{place[1]}\t{message.offset()}\t".encode()
                out.write(head + (message.key() or b"") + b"\t" + message.value() + b"\n")
                if message.offset() + 1 >= wanted.get(place, 1 << 62):
                    del wanted[place]
    client.close()
    expect(wanted, {}, "partitions that were not read to their end")


if __name__ == "__main__":
    main(
        {
            "codecs": codecs,
            "groups": groups,
            "commit": commit,
            "admin": admin,
            "idempotent": idempotent,
            "times": times,
            "dump": dump,
        }
    )
