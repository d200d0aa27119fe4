"""An OPC UA server by asyncua, for the interop scenarios.

Usage: opcua_asyncua.py PORT DIRECTORY OTHERS

DIRECTORY holds the server's certificate, made when it is missing. OTHERS namespaces lie in front of
the nodes' own. Prints a line of JSON when it listens, then answers one line of
JSON per line on its standard input: {"set": {NAME: VALUE}} or {"get": NAME}. It
serves until its standard input is closed.
"""

import asyncio
import json
import sys
from datetime import datetime, timezone
from pathlib import Path

from asyncua import Server, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.server.user_managers import User, UserManager, UserRole
from cryptography.x509.oid import ExtendedKeyUsageOID

LINE = "urn:plant:line1"
USER = ("operator", "secret")


class Users(UserManager):
    """Anybody may come, the operator with the password only."""

    def get_user(self, iserver, username=None, password=None, certificate=None):
        if username is not None:
            return User(role=UserRole.User, name=username) if (username, password) == USER else None
        return User(role=UserRole.User, name="anonymous")


async def main():
    port, directory, others = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    directory.mkdir(parents=True, exist_ok=True)
    uri = "urn:plant:server"
    certificate, key = directory / "server.der", directory / "server.pem"
    await setup_self_signed_certificate(
        key, certificate, uri, "127.0.0.1", [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], {"commonName": "plant"}
    )
    server = Server(user_manager=Users())
    await server.init()
    await server.set_application_uri(uri)
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy(
        [
            ua.SecurityPolicyType.NoSecurity,
            ua.SecurityPolicyType.Basic256Sha256_Sign,
            ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
            ua.SecurityPolicyType.Aes128Sha256RsaOaep_Sign,
            ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
            ua.SecurityPolicyType.Aes256Sha256RsaPss_Sign,
            ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
        ],
        permission_ruleset=None,
    )
    server.set_identity_tokens([ua.AnonymousIdentityToken, ua.UserNameIdentityToken, ua.X509IdentityToken])
    await server.load_certificate(str(certificate))
    await server.load_private_key(str(key))
    for number in range(others):
        await server.register_namespace(f"urn:plant:other{number}")
    index = await server.register_namespace(LINE)
    folder = await server.nodes.objects.add_folder(ua.NodeId("Line1", index), f"{index}:Line1")

    async def add(name, value, kind, writable=False):
        node = await folder.add_variable(ua.NodeId(name, index), f"{index}:{name}", value, kind)
        if writable:
            await node.set_writable()
        return node

    nodes = {
        "speed": await add("speed", 0.0, ua.VariantType.Double),
        "count": await add("count", 0, ua.VariantType.UInt32),
        "running": await add("running", True, ua.VariantType.Boolean),
        "text": await add("text", "Pumpe 7 Süd", ua.VariantType.String),
        "levels": await add("levels", [1, 2, 3], ua.VariantType.Int16),
        "single": await add("single", 21.1, ua.VariantType.Float),
        "since": await add("since", datetime(2026, 11, 23, tzinfo=timezone.utc), ua.VariantType.DateTime),
        "setpoint": await add("setpoint", 1.5, ua.VariantType.Float, writable=True),
        "mode": await add("mode", 3, ua.VariantType.Int16, writable=True),
    }
    kinds = {"speed": ua.VariantType.Double, "count": ua.VariantType.UInt32}
    async with server:
        print(json.dumps({"port": port}), flush=True)
        loop = asyncio.get_running_loop()
        while True:
            line = await loop.run_in_executor(None, sys.stdin.readline)
            if not line:
                return
            asked = json.loads(line)
            for name, value in asked.get("set", {}).items():
                stamped = ua.DataValue(
                    ua.Variant(value, kinds[name]), SourceTimestamp=datetime.now(timezone.utc)
                )
                await nodes[name].write_value(stamped)
            answer = await nodes[asked["get"]].read_value() if "get" in asked else None
            print(json.dumps({"value": answer}), flush=True)


asyncio.run(main())
