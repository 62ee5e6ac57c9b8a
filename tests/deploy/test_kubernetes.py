"""The manifests fit the operator's own CRDs and Kubernetes' schemas, and are closed."""

import copy
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
CLUSTERS = ("cluster-cpu", "cluster-gpu")
VERSION = "1.34"


def manifest(name):
    return yaml.safe_load((KUBERNETES / f"{name}.yaml").read_text())


def chart():
    """Return the folder of the operator's Helm chart, inside its Python package."""
    (package,) = find_spec("dask_kubernetes").submodule_search_locations
    return Path(package, "operator/deployment/helm/dask-kubernetes-operator")


def strict(schema):
    """Return an OpenAPI schema as JSON schema that refuses unknown fields."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(part) for key, part in schema.items()}
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("type", None)
        schema["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in schema and "x-kubernetes-preserve-unknown-fields" not in schema:
        schema.setdefault("additionalProperties", False)
    return schema


@pytest.fixture(scope="module")
def errors_of():
    """Return the function from a DaskCluster to what the operator's CRD says of it."""
    (resource,) = yaml.safe_load_all((chart() / "crds/daskcluster.yaml").read_text())
    schema = strict(resource["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    schema["properties"].update(apiVersion={}, kind={}, metadata={})
    validator = jsonschema.Draft202012Validator(schema)
    return lambda document: [error.message for error in validator.iter_errors(document)]


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters_fit_the_crd_of_the_operator(name, errors_of):
    assert errors_of(manifest(name)) == []


def test_the_crd_finds_what_is_wrong(errors_of):
    for spoil in (
        lambda spec: spec.pop("scheduler"),
        lambda spec: spec["worker"].update(replicas="two"),
        lambda spec: spec["worker"]["spec"]["containers"][0].update(resorces={}),
    ):
        document = copy.deepcopy(manifest("cluster-gpu"))
        spoil(document["spec"])
        assert errors_of(document)


@pytest.mark.parametrize("name", ["strain-job", "network-policy", "data"])
def test_the_others_fit_kubernetes(name):
    kubernetes_validate.validate(manifest(name), VERSION, strict=True)


def pods():
    """Return the pods of all manifests with their names."""
    for name in CLUSTERS:
        spec = manifest(name)["spec"]
        for part in ("scheduler", "worker"):
            yield f"{name}: {part}", spec[part]["spec"]
    yield "strain-job", manifest("strain-job")["spec"]["template"]["spec"]


@pytest.mark.parametrize("pod", [p for _, p in pods()], ids=[n for n, _ in pods()])
def test_pods_have_limits_and_no_privileges(pod):
    head = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}}
    kubernetes_validate.validate(head | {"spec": pod}, VERSION, strict=True)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 1000
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for volume in volumes.values():
        if "emptyDir" in volume:
            assert "sizeLimit" in volume["emptyDir"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)


def test_a_gpu_worker_has_one_gpu():
    pod = manifest("cluster-gpu")["spec"]["worker"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["args"][:3] == ["dask", "cuda", "worker"]
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_helm_values_are_known_to_the_chart():
    known = yaml.safe_load((chart() / "values.yaml").read_text())

    def unknown(values, chart_values, path=""):
        for key, value in values.items():
            if key not in chart_values:
                yield f"{path}{key}"
            elif isinstance(value, dict) and chart_values[key]:
                yield from unknown(value, chart_values[key], f"{path}{key}.")

    assert list(unknown(manifest("operator-values"), known)) == []
    assert list(unknown({"rback": {}}, known)) == ["rback"]
