"""What a continuous query gives to subscribers, Kafka clients and people.

The gateway runs a query `bearing`: windows of 10 s of event time per machine
into the topic `analytics.bearing`, an alert `worn` above 7.1 until below 4.5.
"""

import json
import subprocess
import time
import urllib.request

from confluent_kafka import Consumer, TopicPartition

from mqtt5 import Peer
from peers import PATIENCE_S, expect, main, wait_for

NOT_AUTHORIZED = 0x87
ROWS = "forebay/queries/analytics.bearing"
ALERT = "forebay/alerts/bearing/worn/m1"


def get(http, path):
    with urllib.request.urlopen(f"http://{http}{path}", timeout=PATIENCE_S) as answer:
        return answer.read().decode()


def run(program, *arguments):
    """Runs a command of the program; returns its exit code and output."""
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    return done.returncode, done.stdout + done.stderr


def records(kafka, topic, count):
    """Reads a topic of one partition from its start until so many are there."""
    client = Consumer({"bootstrap.servers": kafka, "group.id": "reader"})
    client.assign([TopicPartition(topic, 0, 0)])
    found = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count and time.monotonic() < deadline:
        message = client.poll(0.2)
        if message is not None and not message.error():
            found.append((message.key().decode(), json.loads(message.value())))
    client.close()
    expect(len(found), count, f"records in {topic}")
    return found


def refused(peer, topic, payload, retain=False):
    """A publish that the gateway does not take."""
    reasons = []
    peer.client.on_publish = lambda _c, _u, _m, reason, _p: reasons.append(reason.value)
    peer.client.publish(topic, payload, 1, retain)
    wait_for(lambda: reasons, f"PUBACK for {topic}")
    peer.client.on_publish = None
    expect(reasons, [NOT_AUTHORIZED], f"publish to {topic}")


def rows_alerts(mqtt, kafka, http, program):
    """Rows, alerts, acknowledgement and clearing, over every door."""
    base = (int(time.time() * 1000) - 600_000) // 10_000 * 10_000
    rows, publisher = Peer(mqtt, "rows"), Peer(mqtt, "publisher")
    rows.subscribe(f"{ROWS}/#")
    alerts = Peer(mqtt, "alerts")
    alerts.subscribe("forebay/alerts/#")

    def window(number, levels):
        """Publishes readings of m1 and m2 in a window, and returns its start."""
        start = base + number * 10_000
        for machine in ("m1", "m2"):
            for index, level in enumerate(levels.get(machine, [])):
                reading = {"ts": start + index * 1_000, "rms": level}
                publisher.publish(f"plant/{machine}/vibration", json.dumps(reading))
        return start

    first = window(0, {"m1": [8.0, 9.0], "m2": [1.0]})
    rows.silent()
    second = window(2, {"m1": [8.0, 8.0, 8.0]})
    got = {}
    for _ in range(2):
        message = rows.next("a row")
        got[message.topic] = json.loads(message.payload)
    row = {"window_start": first, "window_end": first + 10_000}
    expect(
        got,
        {
            f"{ROWS}/m1": {"machine": "m1", "n": 2, "level": 8.5, **row},
            f"{ROWS}/m2": {"machine": "m2", "n": 1, "level": 1, **row},
        },
        "rows over MQTT",
    )
    in_log = records(kafka, "analytics.bearing", 2)
    expect(dict(in_log), got, "rows over Kafka")

    # The alert: live, retained for who comes later, in the list, in the metrics.
    message = alerts.next("the alert")
    expect((message.topic, message.retain), (ALERT, False), "live alert")
    raised = json.loads(message.payload)
    expect(
        (raised["state"], raised["severity"], raised["key"], raised["value"], raised["threshold"]),
        ("raised", "critical", {"machine": "m1"}, 8.5, 7.1),
        "alert",
    )
    late = Peer(mqtt, "late")
    late.subscribe("forebay/alerts/#")
    message = late.next("the retained alert")
    expect((message.topic, message.retain), (ALERT, True), "retained alert")
    expect(json.loads(message.payload), raised, "retained alert")
    code, listed = run(program, "alerts", "--json", "--http", http)
    listed = json.loads(listed)
    expect((code, [one["id"] for one in listed]), (1, [raised["id"]]), "forebay alerts")
    expect(listed[0]["alert"], raised, "forebay alerts")

    # Nobody else writes there, and nobody else clears an alert.
    for topic, payload in ((f"{ROWS}/m1", "{}"), ("forebay/queries/x", "1"), (ALERT, "{}")):
        refused(publisher, topic, payload)
        refused(publisher, topic, payload, retain=True)
    refused(publisher, ALERT, "", retain=True)
    rows.silent()

    unknown, said = run(program, "alerts", "acknowledge", "nothing", "--by", "mia", "--http", http)
    expect((unknown, "nothing" in said), (1, True), said)
    code, said = run(program, "alerts", "acknowledge", raised["id"], "--by", "mia", "--http", http)
    expect(code, 0, said)
    message = alerts.next("the acknowledgement")
    expect(message.topic, "forebay/alerts/.acknowledged/bearing", "acknowledgement")
    said = json.loads(message.payload)
    expect((said["id"], said["by"]), (raised["id"], "mia"), "acknowledgement")
    code, listed = run(program, "alerts", "--json", "--http", http)
    expect((code, json.loads(listed)[0]["acknowledged"]["by"]), (0, "mia"), "forebay alerts")

    metrics = get(http, "/metrics").splitlines()
    for line in (
        'forebay_query_up{query="bearing"} 1',
        'forebay_query_rows_in_total{query="bearing"} 6',
        'forebay_query_rows_out_total{query="bearing"} 2',
        'forebay_query_active_alerts{query="bearing"} 1',
        'forebay_query_rows_refused_total{query="bearing",reason="late"} 0',
    ):
        expect(line in metrics, True, line)

    # A late reading is kept, and the alert ends.
    window(0, {"m2": [3.0]})
    key, _ = records(kafka, "analytics.bearing.late", 1)[0]
    expect(key, f"{ROWS}/late/plant/m2/vibration", "late reading")
    window(4, {"m1": [2.0]})
    window(6, {"m1": [2.0]})
    message = alerts.next("the end of the alert")
    cleared = json.loads(message.payload)
    expect((message.topic, cleared["state"]), (ALERT, "cleared"), "end")
    expect((cleared["id"], cleared["value"]), (raised["id"], 2), "end")
    kinds = [record["state"] for _, record in records(kafka, "alerts", 3)]
    expect(kinds, ["raised", "acknowledged", "cleared"], "alerts over Kafka")
    after = Peer(mqtt, "after")
    after.subscribe("forebay/alerts/#")
    after.silent()
    code, listed = run(program, "alerts", "--json", "--http", http)
    expect((code, json.loads(listed)), (0, []), "forebay alerts")
    expect(second < base + 40_000, True, "order of windows")


if __name__ == "__main__":
    main({"rows-alerts": rows_alerts})
