// An OPC UA server by node-opcua, for the interop scenarios.
//
// Usage: opcua_node.js PORT DIRECTORY OTHERS, as of opcua_asyncua.py.

"use strict";
const path = require("node:path");
const readline = require("node:readline");
const { OPCUAServer, OPCUACertificateManager, SecurityPolicy, MessageSecurityMode } = require("node-opcua");
const { Variant, DataType, VariantArrayType, StatusCodes } = require("node-opcua");

const LINE = "urn:plant:line1";
const [port, directory, others] = [Number(process.argv[2]), process.argv[3], Number(process.argv[4])];

function certificates(name) {
  return new OPCUACertificateManager({
    rootFolder: path.join(directory, name),
    automaticallyAcceptUnknownCertificate: true,
  });
}

async function main() {
  const server = new OPCUAServer({
    port,
    host: "127.0.0.1",
    hostname: "127.0.0.1",
    resourcePath: "",
    allowAnonymous: true,
    disableDiscovery: true,
    maxConnectionsPerEndpoint: 100,
    serverCapabilities: { maxSessions: 100 },
    serverInfo: { applicationUri: "urn:plant:server" },
    securityPolicies: [
      SecurityPolicy.None,
      SecurityPolicy.Basic256Sha256,
      SecurityPolicy.Aes128_Sha256_RsaOaep,
      SecurityPolicy.Aes256_Sha256_RsaPss,
    ],
    securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
    serverCertificateManager: certificates("server"),
    userCertificateManager: certificates("user"),
    userManager: { isValidUser: (user, password) => user === "operator" && password === "secret" },
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  for (let number = 0; number < others; number++) space.registerNamespace(`urn:plant:other${number}`);
  const own = space.registerNamespace(LINE);
  const folder = own.addFolder(space.rootFolder.objects, { browseName: "Line1", nodeId: "s=Line1" });
  const nodes = {};
  function add(name, dataType, value, writable) {
    const access = writable ? "CurrentRead | CurrentWrite" : "CurrentRead";
    nodes[name] = own.addVariable({
      organizedBy: folder,
      browseName: name,
      nodeId: `s=${name}`,
      dataType,
      accessLevel: access,
      userAccessLevel: access,
      minimumSamplingInterval: 10,
      valueRank: Array.isArray(value) ? 1 : -1,
      arrayDimensions: Array.isArray(value) ? [0] : undefined,
      value: {
        dataType,
        arrayType: Array.isArray(value) ? VariantArrayType.Array : VariantArrayType.Scalar,
        value: Array.isArray(value) ? Int16Array.from(value) : value,
      },
    });
  }
  add("speed", DataType.Double, 0.0);
  add("count", DataType.UInt32, 0);
  add("running", DataType.Boolean, true);
  add("text", DataType.String, "Pumpe 7 Süd");
  add("levels", DataType.Int16, [1, 2, 3]);
  add("single", DataType.Float, 21.1);
  add("since", DataType.DateTime, new Date("2026-11-23T00:00:00Z"));
  add("setpoint", DataType.Float, 1.5, true);
  add("mode", DataType.Int16, 3, true);
  const kinds = { speed: DataType.Double, count: DataType.UInt32 };
  await server.start();
  console.log(JSON.stringify({ port }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    for (const [name, value] of Object.entries(asked.set || {})) {
      nodes[name].setValueFromSource(new Variant({ dataType: kinds[name], value }), StatusCodes.Good, new Date());
    }
    const value = asked.get ? nodes[asked.get].readValue().value.value : null;
    console.log(JSON.stringify({ value }));
  }
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
