"""Every overlay is what kubectl makes of it, valid by the API's own schemas, restricted, and without a secret."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from shared import config

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
VERSIONS = ("1.29", "1.37")


@cache
def rendered(overlay: str) -> list[dict[str, Any]]:
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", KUBERNETES / "overlays" / overlay], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of(overlay: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in rendered(overlay) if one["kind"] == kind]


def pods(overlay: str) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in rendered(overlay) if "template" in one.get("spec", {})]


def ours(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in [*pod["containers"], *pod.get("initContainers", [])] if "wazuh-jetstream" in one["image"]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_is_valid_by_the_api_s_schemas(overlay: str, version: str) -> None:
    assert rendered(overlay)
    for manifest in rendered(overlay):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_manifest_with_an_unknown_field_is_none() -> None:
    """The schemas do refuse something."""
    manifest = of("example", "Deployment")[0]
    broken = {**manifest, "spec": {**manifest["spec"], "replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_in_them_and_no_container_of_ours_may_more_than_restricted(overlay: str) -> None:
    assert of(overlay, "Secret") == []
    containers = [(pod, one) for pod in pods(overlay) for one in ours(pod)]
    assert containers
    for pod, one in containers:
        context = pod.get("securityContext", {}) | one["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= set(one["resources"])


def test_two_relays_stand_by_for_each_other_and_one_of_them_stays() -> None:
    (relay,), (budget,) = of("example", "Deployment"), of("example", "PodDisruptionBudget")
    assert relay["spec"]["replicas"] == 2
    assert budget["spec"]["minAvailable"] == 1
    assert budget["spec"]["selector"]["matchLabels"].items() <= relay["spec"]["template"]["metadata"]["labels"].items()
    (container,) = relay["spec"]["template"]["spec"]["containers"]
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


def test_each_of_wazuh_s_statefulsets_gets_a_collector_with_a_spool_that_stays() -> None:
    assert [one["metadata"]["name"] for one in of("wazuh-sidecar", "StatefulSet")] == ["wazuh-manager-master", "wazuh-manager-worker"]
    for manager in of("wazuh-sidecar", "StatefulSet"):
        claims = {claim["metadata"]["name"] for claim in manager["spec"]["volumeClaimTemplates"]}
        assert claims == {manager["metadata"]["name"], "wazuh-jetstream-spool"}
        (collector,) = ours(manager["spec"]["template"]["spec"])
        mounts = {mount["mountPath"]: mount for mount in collector["volumeMounts"]}
        assert mounts["/var/lib/wazuh-jetstream"]["name"] == "wazuh-jetstream-spool"
        for path in ("/var/ossec/etc", "/var/ossec/queue"):
            assert mounts[path]["readOnly"] is True
            assert mounts[path]["name"] == manager["metadata"]["name"]


@pytest.mark.parametrize("path", ["base/relay-config.yaml", "components/collector-sidecar/collector-config.yaml"])
def test_the_configuration_in_it_is_one(path: str) -> None:
    assert config.load(KUBERNETES / path, {}).nats.url.startswith("tls://")
