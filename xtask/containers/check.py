"""Checks what is shipped for containers: every Kubernetes manifest strictly
against the schemas of the newest Kubernetes, the kustomization against its
files, the Helm chart against the manifests, and the files that Compose mounts.

Helm itself is not packaged for Debian. `render` stands in for it and knows only
the three expressions that the chart keeps to; any other one is an error here.
"""

import hashlib
import json
import pathlib
import re
import sys

import kubernetes_validate
import yaml

CONTAINERS = pathlib.Path(sys.argv[1]) / "containers"
EXPRESSION = re.compile(r"\{\{ (.*?) \}\}")
RELEASE = "forebay"


def load(path):
    return yaml.safe_load(path.read_text())


def validate(name, manifest):
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(manifest, version, strict=True)
    print(f"ok     {name} ({manifest['kind']}, Kubernetes {version})")


def kustomization(directory):
    """Returns its resources by kind; everything it names has to be there."""
    root = load(directory / "kustomization.yaml")
    resources = {}
    for name in root["resources"]:
        manifest = load(directory / name)
        validate(name, manifest)
        resources[manifest["kind"]] = manifest
    listed = set(root["resources"]) | {"kustomization.yaml"}
    stray = {path.name for path in directory.glob("*.yaml")} - listed
    assert not stray, f"not in kustomization.yaml: {stray}"
    pod = resources["StatefulSet"]["spec"]["template"]["spec"]
    (generator,) = root["configMapGenerator"]
    (volume,) = pod["volumes"]
    assert volume["configMap"]["name"] == generator["name"]
    for entry in generator["files"]:
        assert (directory / entry.split("=")[1]).is_file(), entry
    (image,) = root["images"]
    assert pod["containers"][0]["image"] == image["name"]
    return resources, image


def evaluate(expression, values):
    if expression == ".Release.Name":
        return RELEASE

    def value(path):
        found = values
        for key in path.removeprefix(".Values.").split("."):
            found = found[key]
        return found

    if match := re.fullmatch(r"toJson (\.Values[.\w]+)", expression):
        return json.dumps(value(match[1]))
    if match := re.fullmatch(r"(\.Values[.\w]+) \| sha256sum", expression):
        return hashlib.sha256(value(match[1]).encode()).hexdigest()
    assert re.fullmatch(r"\.Values[.\w]+", expression), f"unknown: {expression}"
    return str(value(expression))


def render(path, values):
    text = EXPRESSION.sub(lambda match: evaluate(match[1], values), path.read_text())
    assert "{{" not in text, f"{path.name}: an expression over several lines"
    return yaml.safe_load(text)


def without_chart(manifest):
    """The manifest without what only the chart can add."""
    text = json.dumps(manifest, sort_keys=True)
    text = text.replace(f'"app.kubernetes.io/instance": "{RELEASE}", ', "")
    manifest = json.loads(text)
    if manifest["kind"] == "StatefulSet":
        template = manifest["spec"]["template"]
        template["metadata"]["annotations"].pop("checksum/config", None)
        template["spec"]["containers"][0].pop("imagePullPolicy", None)
        manifest["spec"]["volumeClaimTemplates"][0]["spec"].pop("storageClassName", None)
    return manifest


def chart(directory, resources, image):
    values = load(directory / "values.yaml")
    about = load(directory / "Chart.yaml")
    assert about["appVersion"] == image["newTag"] == values["image"]["tag"]
    plain = (CONTAINERS / "kubernetes/hub.toml").read_text()
    assert values["config"] == plain, "values.yaml: config differs from hub.toml"
    for path in sorted((directory / "templates").iterdir()):
        manifest = render(path, values)
        validate(f"chart {path.name}", manifest)
        if manifest["kind"] == "ConfigMap":
            continue
        expected = resources[manifest["kind"]]
        if manifest["kind"] == "StatefulSet":
            container = expected["spec"]["template"]["spec"]["containers"][0]
            container["image"] = f"{image['newName']}:{image['newTag']}"
        assert without_chart(manifest) == without_chart(expected), path.name


def compose(path):
    services = load(path)["services"]
    for name, service in services.items():
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (path.parent / source).exists(), f"{name}: {source} is missing"
        for other in service.get("depends_on", []):
            assert other in services, f"{name}: {other} is no service"
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), f"{name}: {port} is open to others"
    print(f"ok     compose.yaml ({len(services)} services)")


chart(CONTAINERS / "helm/forebay", *kustomization(CONTAINERS / "kubernetes"))
compose(CONTAINERS / "compose.yaml")
