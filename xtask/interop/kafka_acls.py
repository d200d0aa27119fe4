"""Permissions, listed and changed by the clients of two libraries."""

import confluent_kafka
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLFilter, ACLOperation, ACLPermissionType
from kafka.admin import ACLResourcePatternType, ResourcePattern, ResourcePatternFilter
from kafka.admin import ResourceType as PureResourceType

from peers import PATIENCE_S, expect, main, wait_for

TOPIC = "readings"


def login(kafka, user, password):
    """How librdkafka logs in."""
    return {
        "bootstrap.servers": kafka,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": user,
        "sasl.password": password,
    }


def produced(kafka, user, password, topic=TOPIC):
    """The error of one record, or None."""
    errors = []
    producer = confluent_kafka.Producer(login(kafka, user, password))
    producer.produce(topic, b"x", on_delivery=lambda error, _: errors.append(error))
    producer.flush(PATIENCE_S)
    expect(len(errors), 1, "deliveries")
    return errors[0].name() if errors[0] else None


def consumed(kafka, user, password, group):
    """The error of the first record read with a group, or None."""
    more = {"group.id": group, "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer({**login(kafka, user, password), **more})
    consumer.subscribe([TOPIC])
    message = wait_for(lambda: consumer.poll(0.2), "a record or an error")
    consumer.close()
    return message.error().name() if message.error() else None


def outcomes(futures):
    """What became of each request: its result, or the name of its error."""
    found = []
    for future in futures.values():
        try:
            found.append(future.result(PATIENCE_S))
        except confluent_kafka.KafkaException as error:
            found.append(error.args[0].name())
    return found


def binding(name, operation, kind=ResourceType.TOPIC, pattern=ResourcePatternType.LITERAL):
    return AclBinding(
        kind, name, pattern, "User:mia", "*", operation, AclPermissionType.ALLOW
    )


def about_mia(kind=ResourceType.ANY):
    return AclBindingFilter(
        kind,
        None,
        ResourcePatternType.ANY,
        "User:mia",
        None,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )


def confluent(_mqtt, kafka, password):
    """What librdkafka grants holds at once, and what it takes away is gone."""
    chief = AdminClient(login(kafka, "chief", password))
    mia = AdminClient(login(kafka, "mia", password))
    # librdkafka shows an error of DescribeAcls as a list without entries.
    expect(mia.describe_acls(about_mia()).result(PATIENCE_S), [], "listed for mia")
    own = binding("*", AclOperation.ALL)
    expect(outcomes(mia.create_acls([own])), ["CLUSTER_AUTHORIZATION_FAILED"], "for mia")
    expect(produced(kafka, "mia", password), "TOPIC_AUTHORIZATION_FAILED", "before")
    granted = [
        binding("read", AclOperation.WRITE, pattern=ResourcePatternType.PREFIXED),
        binding(TOPIC, AclOperation.READ),
        binding("mia-1", AclOperation.READ, kind=ResourceType.GROUP),
    ]
    expect(outcomes(chief.create_acls(granted)), [None] * 3, "granted")
    expect(outcomes(chief.create_acls(granted)), [None] * 3, "granted again")
    listed = chief.describe_acls(about_mia()).result(PATIENCE_S)
    expect(sorted(map(str, listed)), sorted(map(str, granted)), "listed")
    expect(produced(kafka, "mia", password), None, "after")
    expect(consumed(kafka, "mia", password, "mia-1"), None, "with her group")
    expect(
        consumed(kafka, "mia", password, "mia-2"), "GROUP_AUTHORIZATION_FAILED", "with another"
    )
    refused = binding(TOPIC, AclOperation.IDEMPOTENT_WRITE)
    expect(outcomes(chief.create_acls([refused])), ["INVALID_REQUEST"], "what cannot be")
    removed = outcomes(chief.delete_acls([about_mia(ResourceType.TOPIC)]))
    expect(len(removed[0]), 2, "removed")
    expect(produced(kafka, "mia", password), "TOPIC_AUTHORIZATION_FAILED", "without")
    left = chief.describe_acls(about_mia()).result(PATIENCE_S)
    expect([str(one) for one in left], [str(granted[2])], "left")


def pure(_mqtt, kafka, password):
    """kafka-python lists what the configuration grants, and cannot remove it."""
    chief = KafkaAdminClient(
        bootstrap_servers=kafka,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username="chief",
        sasl_plain_password=password,
    )

    def named(principal, topic=None, kind=PureResourceType.ANY):
        return ACLFilter(
            principal=principal,
            host=None,
            operation=ACLOperation.ANY,
            permission_type=ACLPermissionType.ANY,
            resource_pattern=ResourcePatternFilter(
                kind, topic, ACLResourcePatternType.MATCH
            ),
        )

    def lines(acls):
        return sorted(
            f"{acl.resource_pattern.resource_type.name} {acl.resource_pattern.resource_name} "
            f"{acl.resource_pattern.pattern_type.name} {acl.operation.name}"
            for acl in acls
        )

    configured = [
        "GROUP * LITERAL READ",
        "TOPIC analytics. PREFIXED DESCRIBE_CONFIGS",
        "TOPIC analytics. PREFIXED READ",
    ]
    listed, error = chief.describe_acls(named("User:panel"))
    expect(error.errno, 0, "listed")
    expect(lines(listed), configured, "of the configuration")
    denial = ACL(
        principal="User:panel",
        host="127.0.0.1",
        operation=ACLOperation.READ,
        permission_type=ACLPermissionType.DENY,
        resource_pattern=ResourcePattern(
            PureResourceType.TOPIC, "analytics.a", ACLResourcePatternType.LITERAL
        ),
    )
    created = chief.create_acls([denial])
    expect((len(created["succeeded"]), created["failed"]), (1, []), "denied")
    listed, _ = chief.describe_acls(named("User:panel", "analytics.a", PureResourceType.TOPIC))
    about = configured[1:] + ["TOPIC analytics.a LITERAL READ"]
    expect(lines(listed), about, "about a topic")
    [(_, removed, error)] = chief.delete_acls([named("User:panel")])
    expect(error.errno, 0, "removed")
    # Each that stays has an error of its own, which this library does not show.
    expect(len(removed), 4, "selected")
    listed, _ = chief.describe_acls(named("User:panel"))
    expect(lines(listed), configured, "left")
    chief.close()


if __name__ == "__main__":
    main({"confluent": confluent, "pure": pure})
