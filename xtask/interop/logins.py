"""Logins and permissions over MQTT, Kafka and HTTP, by the clients people have.

Each function is called with the MQTT and the Kafka address of a node and a file of
facts about it; see xtask/src/interop/logins.rs, whose users and permissions the
expectations below are about.
"""

import json
import os
import pathlib
import queue
import socket
import ssl
import struct
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request

import confluent_kafka
import kafka as pure
import paho.mqtt.client as mqtt
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from peers import PATIENCE_S, expect, main, wait_for

REFUSED = "SASL_AUTHENTICATION_FAILED"
# What is denied over MQTT 5: "not authorized".
NOT_AUTHORIZED = 0x87
# Wrong passwords of one address.
GUESSES = 10_000
# Memory that a node may keep after them; passwords are checked two at a time, with
# 12 MiB each.
GROWTH_KIB_MAX = 48 * 1024


class Plant:
    """The node and what is known of its users."""

    def __init__(self, mqtt_address, kafka_address, file):
        facts = json.loads(pathlib.Path(file).read_text())
        self.mqtt = mqtt_address
        self.kafka = kafka_address
        self.kafka_tls = facts["kafka_tls"]
        self.mqtt_tls = facts["mqtt_tls"]
        self.http = facts["http"]
        self.pid = facts["pid"]
        self.log = pathlib.Path(facts["log"])
        self.work = pathlib.Path(facts["work"])
        self.tls = pathlib.Path(facts["tls"])
        self.program = facts["program"]
        self.config = facts["config"]
        self.passwords = facts["passwords"]
        self.tokens = facts["tokens"]

    def password(self, user):
        return self.passwords[user]

    def run(self, *words, password=None):
        """A command of the program, with the password of a user in a file."""
        words = [self.program, *words]
        if password is not None:
            file = self.work / "password"
            file.write_text(password)
            words += ["--password-file", str(file)]
        return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)


# Kafka


def librdkafka(plant, user, mechanism, secure, password=None):
    """How librdkafka logs in."""
    settings = {
        "bootstrap.servers": plant.kafka_tls if secure else plant.kafka,
        "security.protocol": "SASL_SSL" if secure else "SASL_PLAINTEXT",
        "sasl.mechanism": mechanism,
        "sasl.username": user,
        "sasl.password": plant.passwords.get(user, "none") if password is None else password,
        "socket.timeout.ms": 10_000,
    }
    if secure:
        settings["ssl.ca.location"] = str(plant.tls / "ca.crt")
    return settings


def with_certificate(plant, name):
    """How librdkafka shows a certificate."""
    return {
        "bootstrap.servers": plant.kafka_tls,
        "security.protocol": "SSL",
        "ssl.ca.location": str(plant.tls / "ca.crt"),
        "ssl.certificate.location": str(plant.tls / f"{name}.crt"),
        "ssl.key.location": str(plant.tls / f"{name}.key"),
    }


def produced(settings, topic, value=b"x"):
    """The error of one record, or None."""
    told = queue.Queue()
    producer = confluent_kafka.Producer(
        {
            **settings,
            "error_cb": lambda error: told.put(name_of(error)),
            "message.timeout.ms": 8_000,
            "log_level": 0,
        }
    )
    producer.produce(topic, value, on_delivery=lambda error, _: told.put(name_of(error)))
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        producer.poll(0.05)
        while not told.empty():
            name = told.get()
            # What follows from a failed login is not the news.
            if name not in ("_ALL_BROKERS_DOWN", "_TRANSPORT"):
                producer.purge()
                return name
    raise AssertionError(f"no delivery to {topic}")


def name_of(error):
    if error is None:
        return None
    name = error.name()
    return REFUSED if name == "_AUTHENTICATION" else name


def consumed(settings, topic, group, count=1):
    """The values read with a group, or the name of an error."""
    told = queue.Queue()
    more = {
        "group.id": group,
        "auto.offset.reset": "earliest",
        "error_cb": lambda error: told.put(name_of(error)),
        "log_level": 0,
    }
    consumer = confluent_kafka.Consumer({**settings, **more})
    consumer.subscribe([topic])
    values = []

    def step():
        message = consumer.poll(0.2)
        while not told.empty():
            name = told.get()
            if name not in ("_ALL_BROKERS_DOWN", "_TRANSPORT"):
                return name
        if message is None:
            return None
        if message.error():
            return name_of(message.error())
        values.append(message.value())
        return values if len(values) == count else None

    try:
        return wait_for(step, f"{count} records of {topic}")
    finally:
        consumer.close()


def outcome(future):
    """None, or the name of the error."""
    try:
        future.result(PATIENCE_S)
        return None
    except confluent_kafka.KafkaException as error:
        return name_of(error.args[0])


def kcat(plant, user, mechanism, secure, words, text=None):
    settings = librdkafka(plant, user, mechanism, secure)
    options = [part for pair in settings.items() for part in ("-X", f"{pair[0]}={pair[1]}")]
    return subprocess.run(
        ["kcat", *options, *words], input=text, capture_output=True, text=True, timeout=PATIENCE_S
    )


def pure_settings(plant, user, mechanism, secure, password=None):
    """How kafka-python logs in."""
    settings = {
        "bootstrap_servers": plant.kafka_tls if secure else plant.kafka,
        "security_protocol": "SASL_SSL" if secure else "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": user,
        "sasl_plain_password": plant.passwords.get(user, "none") if password is None else password,
    }
    if secure:
        settings["ssl_cafile"] = str(plant.tls / "ca.crt")
    return settings


def sasl(plant, secure):
    """Three clients log in by three mechanisms, produce and consume."""
    topic = "shared"
    mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    for mechanism in mechanisms:
        own = f"{mechanism}-{'tls' if secure else 'plain'}"
        settings = librdkafka(plant, "data", mechanism, secure)
        expect(produced(settings, topic, b"confluent"), None, f"confluent-kafka, {mechanism}")
        producer = pure.KafkaProducer(**pure_settings(plant, "data", mechanism, secure))
        producer.send(topic, b"kafka-python").get(PATIENCE_S)
        producer.close()
        done = kcat(plant, "data", mechanism, secure, ["-P", "-t", topic], "kcat\n")
        expect(done.returncode, 0, f"kcat, {mechanism}: {done.stderr}")
        values = consumed(settings, topic, f"data-{own}", 3)
        expect(values[-3:], [b"confluent", b"kafka-python", b"kcat"], f"read, {mechanism}")
        consumer = pure.KafkaConsumer(
            topic,
            group_id=f"data-pure-{own}",
            auto_offset_reset="earliest",
            **pure_settings(plant, "data", mechanism, secure),
        )
        wait_for(lambda: consumer.poll(200), f"a record for kafka-python, {mechanism}")
        consumer.close()
        read = kcat(plant, "data", mechanism, secure, ["-C", "-t", topic, "-e", "-q"])
        expect(read.stdout.splitlines()[-1], "kcat", f"kcat, {mechanism}: {read.stderr}")
        # Each run begins with its own records.
        admin = AdminClient(librdkafka(plant, "chief", mechanism, secure))
        [deleted] = admin.delete_topics([topic]).values()
        expect(outcome(deleted), None, "deleted")
        # Permissions are the same whatever the mechanism.
        expect(
            produced(librdkafka(plant, "panel", mechanism, secure), topic),
            "TOPIC_AUTHORIZATION_FAILED",
            f"without permission, {mechanism}",
        )
    # Last: these clients try again, until their address is refused without looking.
    for mechanism in mechanisms:
        wrong = librdkafka(plant, "data", mechanism, secure, "guess")
        expect(produced(wrong, topic), REFUSED, f"a wrong password, {mechanism}")
        unknown = librdkafka(plant, "nobody", mechanism, secure, "guess")
        expect(produced(unknown, topic), REFUSED, f"an unknown user, {mechanism}")
        try:
            wrong = pure_settings(plant, "data", mechanism, secure, "guess")
            # It tries until this is over, and does not say why.
            pure.KafkaAdminClient(**wrong, bootstrap_timeout_ms=2_000)
        except pure.errors.KafkaError:
            pass
        else:
            raise AssertionError(f"kafka-python came in, {mechanism}")
    no_secrets(plant)


def sasl_loopback(*arguments):
    sasl(Plant(*arguments), False)


def sasl_tls(*arguments):
    sasl(Plant(*arguments), True)


def certificate(*arguments):
    """A certificate is a login; its name may what the permissions say."""
    plant = Plant(*arguments)
    shown = with_certificate(plant, "press-1")
    expect(produced(shown, "press-1.raw"), None, "its topic")
    expect(produced(shown, "shared"), "TOPIC_AUTHORIZATION_FAILED", "another topic")
    guest = with_certificate(plant, "guest")
    expect(produced(guest, "press-1.raw"), "TOPIC_AUTHORIZATION_FAILED", "a guest")
    # The password of a user does not command where the certificate does.
    path = "plant/press-1/valve/set"
    by_password = MqttClient(plant.mqtt_tls, "press-1", plant.password("press-1"), tls=plant.tls)
    expect(by_password.publish(path), NOT_AUTHORIZED, "by password")
    by_certificate = MqttClient(plant.mqtt_tls, None, None, tls=plant.tls, shown="press-1")
    expect(by_certificate.publish(path), 0, "by certificate")
    # A user who is shut out is shut out with the certificate as well.
    done = plant.run("user", "disable", "press-1", "--users-file", users_file(plant))
    expect(done.returncode, 0, done.stderr)
    wait_for(lambda: by_certificate.is_gone(), "the connection of a disabled user is closed")
    expect(produced(guest, "press-1.raw"), "TOPIC_AUTHORIZATION_FAILED", "others go on")
    expect(produced(shown, "press-1.raw") is None, False, "with the certificate")
    no_secrets(plant)


def users_file(plant):
    return str(pathlib.Path(plant.log).parent / "data" / "users")


# MQTT


class MqttClient:
    """A client of MQTT 5 that keeps what it is told."""

    def __init__(self, address, user, password, tls=None, shown=None):
        self.told = queue.Queue()
        self.gone = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        if user:
            self.client.username_pw_set(user, password)
        if tls:
            secure = ssl.create_default_context(cafile=tls / "ca.crt")
            if shown:
                secure.load_cert_chain(tls / f"{shown}.crt", tls / f"{shown}.key")
            self.client.tls_set_context(secure)
        self.client.on_connect = lambda _c, _u, _f, reason, _p: self.told.put(reason.value)
        self.client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.told.put(reasons[0].value)
        self.client.on_publish = lambda _c, _u, _m, reason, _p: self.told.put(reason.value)
        self.client.on_disconnect = lambda *_: self.gone.set()
        host, port = address.rsplit(":", 1)
        host = "localhost" if tls else host
        self.client.connect(host, int(port))
        self.client.loop_start()
        self.entered = self.told.get(timeout=PATIENCE_S)
        if self.entered != 0:
            self.client.disconnect()

    def subscribe(self, topic):
        self.client.subscribe(topic, 1)
        return self.told.get(timeout=PATIENCE_S)

    def publish(self, topic):
        self.client.publish(topic, b"1", 1)
        return self.told.get(timeout=PATIENCE_S)

    def is_gone(self):
        return self.gone.is_set()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


# HTTP


def asked(plant, method, path, token=None):
    """The status and the body; the request looks as if a proxy had passed it on, so
    that being on the same machine counts for nothing."""
    request = urllib.request.Request(f"http://{plant.http}{path}", method=method)
    request.add_header("x-forwarded-for", "192.0.2.1")
    if token:
        request.add_header("authorization", f"Bearer {token}")
    if method == "POST":
        request.add_header("content-type", "application/json")
        request.data = b"{}"
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


# The matrix

PATHS = ["plant/press-1/a", "plant/press-2/a", "plant/press-1/valve/set"]
TOPICS = ["readings", "press-1.raw"]
GROUPS = ["panel-1", "other"]

# What each user may: `r` subscribe and `w` publish by path; `r` and `w` by topic; `r`
# by group; what the console shows; whether the node may be changed.
EXPECTED = {
    #           PATHS                   TOPICS        GROUPS     shown      changes
    "press-1": (["rw", "", "r"], ["", "rw"], ["r", "r"], [PATHS[0], PATHS[2]], False),
    "panel": (["r", "r", "rw"], ["r", ""], ["r", ""], sorted(PATHS), False),
    "data": (["", "", ""], ["r", ""], ["r", "r"], [], False),
    "writer": (["", "", ""], ["w", ""], ["", ""], [], False),
    "chief": (["rw", "rw", "rw"], ["rw", "rw"], ["r", "r"], sorted(PATHS), True),
}


def matrix(*arguments):
    """Every user over every protocol with every action, cell by cell."""
    plant = Plant(*arguments)
    chief = MqttClient(plant.mqtt, "chief", plant.password("chief"))
    for path in PATHS:
        chief.publish(path)
    chief.close()
    chiefs = librdkafka(plant, "chief", "PLAIN", False)
    for topic in TOPICS:
        expect(produced(chiefs, topic), None, topic)
    shown = lambda: json.loads(asked(plant, "GET", "/api/v1/paths", plant.tokens["chief"])[1])
    wait_for(lambda: len(shown()["paths"]) == len(PATHS), "the paths on the console")
    for user, expected in EXPECTED.items():
        expect(cells(plant, user), expected, user)
    no_login(plant)
    no_secrets(plant)


def cells(plant, user):
    client = MqttClient(plant.mqtt, user, plant.password(user))
    expect(client.entered, 0, f"{user} over MQTT")
    paths = []
    for path in PATHS:
        letters = "r" if client.subscribe(path) != NOT_AUTHORIZED else ""
        letters += "w" if client.publish(path) != NOT_AUTHORIZED else ""
        paths.append(letters)
    client.close()
    settings = librdkafka(plant, user, "SCRAM-SHA-256", False)
    topics = []
    for topic in TOPICS:
        fetched = kcat(plant, user, "SCRAM-SHA-256", False, ["-C", "-t", topic, "-c", "1", "-e"])
        letters = "r" if fetched.returncode == 0 and fetched.stdout else ""
        letters += "w" if produced(settings, topic) is None else ""
        topics.append(letters)
    groups = []
    for group in GROUPS:
        found = consumed(settings, "readings", group)
        groups.append("" if found == "GROUP_AUTHORIZATION_FAILED" else "r")
    status, body = asked(plant, "GET", "/api/v1/paths", plant.tokens[user])
    may_look = status == 200
    shown = sorted(one["path"] for one in json.loads(body)["paths"]) if may_look else []
    reloads = asked(plant, "POST", "/api/v1/reload", plant.tokens[user])[0] == 200
    own = AclBinding(
        ResourceType.TOPIC,
        "none",
        ResourcePatternType.LITERAL,
        "User:none",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )
    admin = AdminClient(settings)
    [changed] = admin.create_acls([own]).values()
    grants = outcome(changed) is None
    expect(grants, reloads, f"{user} changes the node over Kafka as over HTTP")
    return (paths, topics, groups, shown, grants)


def no_login(plant):
    """Without a login nothing is served."""
    expect(MqttClient(plant.mqtt, None, None).entered, NOT_AUTHORIZED, "MQTT without a login")
    bad_name_or_password = 0x86
    wrong = MqttClient(plant.mqtt, "panel", "guess").entered
    expect(wrong, bad_name_or_password, "MQTT with a wrong password")
    expect(asked(plant, "GET", "/api/v1/paths")[0], 401, "HTTP without a login")
    expect(asked(plant, "GET", "/metrics", "0" * 43)[0], 401, "HTTP with a wrong token")
    expect(asked(plant, "GET", "/healthz")[0], 200, "health")
    nothing = subprocess.run(
        ["kcat", "-L", "-b", plant.kafka, "-m", "5"], capture_output=True, timeout=PATIENCE_S
    )
    expect(nothing.returncode != 0, True, "Kafka without a login")


def revoked(*arguments):
    """Who is removed is out everywhere within seconds; others stay."""
    plant = Plant(*arguments)
    panel = MqttClient(plant.mqtt, "panel", plant.password("panel"))
    data = MqttClient(plant.mqtt, "data", plant.password("data"))
    expect((panel.entered, data.entered), (0, 0), "both come in")
    expect(produced(librdkafka(plant, "chief", "PLAIN", True), "readings"), None, "a record")
    settings = librdkafka(plant, "panel", "SCRAM-SHA-512", True)
    consumer = confluent_kafka.Consumer({**settings, "group.id": "panel-1", "log_level": 0})
    expect("readings" in consumer.list_topics(timeout=PATIENCE_S).topics, True, "over Kafka")
    token = plant.tokens["panel"]
    expect(asked(plant, "GET", "/api/v1/status", token)[0], 200, "over HTTP")
    done = plant.run("user", "remove", "panel", "--users-file", users_file(plant))
    expect(done.returncode, 0, done.stderr)
    wait_for(panel.is_gone, "MQTT is closed")
    wait_for(lambda: asked(plant, "GET", "/api/v1/status", token)[0] == 401, "HTTP refuses")

    def is_out():
        try:
            consumer.list_topics(timeout=1)
            return False
        except confluent_kafka.KafkaException:
            return True

    wait_for(is_out, "Kafka refuses")
    expect(data.is_gone(), False, "another user stays")
    expect(data.subscribe("x"), NOT_AUTHORIZED, "and is answered")
    again = MqttClient(plant.mqtt, "panel", plant.password("panel"))
    expect(again.entered != 0, True, "panel does not come back")
    no_secrets(plant)


def guessing(*arguments):
    """Ten thousand wrong passwords cost the guesser its address and nobody else."""
    plant = Plant(*arguments)
    descriptors = lambda: len(os.listdir(f"/proc/{plant.pid}/fd"))
    before, rss_before = descriptors(), resident_kib(plant)
    open_before = MqttClient(plant.mqtt, "data", plant.password("data"))
    expect(open_before.entered, 0, "before")
    host, port = plant.mqtt.rsplit(":", 1)
    answers = {}
    began = time.monotonic()
    for number in range(GUESSES):
        code = guess((host, int(port)), f"guess-{number}")
        answers[code] = answers.get(code, 0) + 1
        if number % 2_500 == 0:
            other = guess((host, int(port)), plant.password("data"), source="127.0.0.2")
            expect(other, 0, "the right password from another address")
    took = time.monotonic() - began
    print(f"{GUESSES} guesses in {took:.1f} s: {answers}")
    # Ten at once and one more each six seconds are looked at, the rest is not.
    looked_at = answers.get(0x86, 0)
    expect(1 <= looked_at <= 11 + took / 6, True, f"{looked_at} passwords were looked at")
    expect(answers.get(0x9F, 0) + looked_at, GUESSES, "all were refused")
    codes = {}
    for number in range(200):
        status, _ = login(plant, "data", f"guess-{number}")
        codes[status] = codes.get(status, 0) + 1
    expect(set(codes) <= {401, 429} and codes.get(429, 0) > 150, True, f"over HTTP: {codes}")
    wrong = librdkafka(plant, "data", "SCRAM-SHA-256", False, "guess")
    expect(produced(wrong, "shared"), REFUSED, "over Kafka")
    expect(open_before.subscribe("x"), NOT_AUTHORIZED, "who was in is still answered")
    open_before.close()
    wait_for(lambda: descriptors() <= before, "descriptors are given back")
    grown = resident_kib(plant) - rss_before
    print(f"resident memory grew by {grown} KiB")
    expect(grown < GROWTH_KIB_MAX, True, f"{grown} KiB more")
    no_secrets(plant)


def login(plant, user, password):
    """Logs in over HTTP as the console does."""
    body = json.dumps({"user": user, "password": password}).encode()
    request = urllib.request.Request(f"http://{plant.http}/api/v1/login", data=body)
    request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def guess(address, password, source=None):
    """The reason code of one MQTT 5 CONNECT."""
    text = lambda value: struct.pack("!H", len(value)) + value.encode()
    body = text("MQTT") + b"\x05\xc2\x00\x3c\x00" + text("") + text("data") + text(password)
    with socket.create_connection(
        address, timeout=PATIENCE_S, source_address=(source, 0) if source else None
    ) as stream:
        stream.sendall(bytes([0x10, len(body)]) + body)
        answer = b""
        while len(answer) < 4:
            more = stream.recv(4 - len(answer))
            expect(bool(more), True, "an answer before the end")
            answer += more
        expect(answer[0], 0x20, "CONNACK")
        return answer[3]


def resident_kib(plant):
    for line in pathlib.Path(f"/proc/{plant.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no resident memory")


# Secrets


def no_secrets(plant):
    """No password, no token and no key is in what the node tells."""
    secrets = [*plant.passwords.values(), *plant.tokens.values()]
    for file in plant.tls.glob("*.key"):
        secrets += [line for line in file.read_text().splitlines() if "-----" not in line]
    kept = pathlib.Path(users_file(plant)).read_text()
    secrets += [word for line in kept.splitlines() for word in line.split() if len(word) > 40]
    token = plant.tokens["chief"]
    told = {"log": plant.log.read_text()}
    for path in ["/metrics", "/api/v1/status", "/api/v1/paths", "/api/v1/groups", "/api/v1/me"]:
        status, body = asked(plant, "GET", path, token)
        expect(status, 200, path)
        told[path] = body.decode()
    archive = plant.work / "bundle.tar.gz"
    chief = plant.work / "chief.token"
    chief.write_text(token)
    done = plant.run(
        *["support-bundle", "--config", plant.config, "--http", plant.http],
        *["--output", str(archive), "--token-file", str(chief)],
    )
    expect(done.returncode, 0, done.stderr)
    with tarfile.open(archive) as bundle:
        for member in bundle.getmembers():
            if member.isfile():
                told[member.name] = bundle.extractfile(member).read().decode(errors="replace")
    expect(any("metrics" in name for name in told), True, f"{sorted(told)}")
    found = [(name, secret) for name, text in told.items() for secret in secrets if secret in text]
    expect(found, [], "secrets")


if __name__ == "__main__":
    main(
        {
            "sasl-loopback": sasl_loopback,
            "sasl-tls": sasl_tls,
            "certificate": certificate,
            "matrix": matrix,
            "revoked": revoked,
            "guessing": guessing,
        }
    )
