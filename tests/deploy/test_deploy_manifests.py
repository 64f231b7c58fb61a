"""Every file of deploy/k8s on its own, and what its parts must know of each other."""

import re
import shlex

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator

from rig.manifests import K8S, MODES, Workload, gather, objects, only, workloads
from ssmd_core.config import ProcessSettings
from ssmd_sink_nats.streams import add_command

CRDS = K8S.parents[1] / "tests/deploy/crds"
SCHEMAS = {
    schema["properties"]["kind"]["const"]: Draft202012Validator(schema)
    for path in sorted(CRDS.glob("*.yaml"))
    for schema in objects(path.read_text("utf-8"))
}
VERSIONS = ("1.27", kubernetes_validate.latest_version())
KUSTOMIZATIONS = sorted(K8S.rglob("kustomization.yaml"))
CONFIG = {path for path in K8S.rglob("*.yaml") if path.parent.name in {"feeds", "environments"}}
FILES = sorted({*K8S.rglob("*.yaml")} - {*KUSTOMIZATIONS} - CONFIG)
UID = 10001


def faults(manifest):
    """Return what a cluster would refuse, or drop in silence."""
    if schema := SCHEMAS.get(manifest["kind"]):
        return [error.message for error in schema.iter_errors(manifest)]
    try:
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [error.message]
    return []


def named(path):
    return str(path.relative_to(K8S))


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture
def manifests(mode):
    return gather(K8S / "overlays" / mode)


@pytest.fixture
def workload(manifests):
    (workload,) = workloads(manifests)
    return workload


# ── each file ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_cluster_takes_every_field_of_the_file(path):
    manifests = objects(path.read_text("utf-8"))
    assert manifests
    assert [fault for manifest in manifests for fault in faults(manifest)] == []


@pytest.mark.parametrize("path", FILES, ids=named)
def test_every_object_but_the_namespace_says_where_it_belongs(path):
    for manifest in objects(path.read_text("utf-8")):
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "ssmd"


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        ("components/file/statefulset.yaml", "readOnlyRootFilesystem", "readOnlyRootFileSystem"),
        ("components/stream-nack/stream.yaml", "maxAge", "max_age"),
        ("components/pod-monitor/pod-monitor.yaml", "interval: 15s", "interval: 15 seconds"),
        ("examples/sealed-secret.yaml", "encryptedData", "encrypted"),
    ],
)
def test_a_mistake_in_a_manifest_is_found(path, right, wrong):
    text = (K8S / path).read_text("utf-8")
    assert right in text
    mistaken = objects(text.replace(right, wrong))
    assert [fault for manifest in mistaken for fault in faults(manifest)]


def test_every_file_is_named_by_a_kustomization_or_is_an_example():
    reached = set()
    for path in KUSTOMIZATIONS:
        (told,) = objects(path.read_text("utf-8"))
        generated = [name for each in told.get("configMapGenerator", ()) for name in each["files"]]
        names = [*told.get("resources", ()), *told.get("components", ()), *generated]
        reached |= {(path.parent / name.rpartition("=")[2]).resolve() for name in names}
    assert {path for path in reached if not path.exists()} == set()
    examples = {*(K8S / "examples").iterdir()}
    assert {*FILES} | CONFIG == {path for path in reached if path.is_file()} | examples


# ── the guide's names and values ─────────────────────────────────────────────────


def test_the_workload_and_what_it_mounts_have_the_guides_names(mode, manifests, workload):
    assert workload.name == f"ssmd-connector-{mode}"
    assert workload.manifest["spec"]["selector"]["matchLabels"] == {"app": workload.name}
    assert workload.volume("config")["configMap"]["name"] == f"ssmd-{mode}-config"
    assert only(manifests, "Namespace")["metadata"]["name"] == "ssmd"
    assert workload.container["image"] == "ghcr.io/OWNER/ssmd-connector:0.1.0"
    assert [port["name"] for port in workload.container["ports"]] == ["health"]
    assert workload.container["ports"][0]["containerPort"] == 8080
    assert workload.container["args"] == [
        *("--feed", "/config/feeds/kalshi.yaml"),
        *("--env", f"/config/environments/prod-{mode}.yaml"),
    ]
    assert workload.manifest["spec"]["replicas"] == 1


def test_the_credentials_and_the_log_level_come_as_in_the_guide(workload):
    assert workload.secrets == {
        "KALSHI_API_KEY": ("ssmd-kalshi-credentials", "api-key"),
        "KALSHI_PRIVATE_KEY": ("ssmd-kalshi-credentials", "private-key"),
    }
    assert workload.variables["RUST_LOG"] == "info"
    assert "SSMD_LOG" not in workload.variables, "it would win over RUST_LOG"


def test_the_resources_are_the_guides(workload):
    assert workload.container["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "500m", "memory": "512Mi"},
    }


def test_the_sealed_secret_opens_to_the_secret_that_the_pods_read(workload):
    (sealed,) = objects((K8S / "examples/sealed-secret.yaml").read_text("utf-8"))
    keys = {(sealed["metadata"]["name"], key) for key in sealed["spec"]["encryptedData"]}
    assert keys == set(workload.secrets.values())


# ── how a pod runs ───────────────────────────────────────────────────────────────


def test_the_pods_of_all_modes_differ_in_names_and_in_the_archive_only():
    def common(mode):
        name = "deployment.yaml" if mode == "nats" else "statefulset.yaml"
        text = (K8S / "components" / mode / name).read_text("utf-8")
        (workload,) = workloads(objects(text.replace(f"-{mode}", "-MODE")))
        mounts = workload.container["volumeMounts"]
        mounts[:] = [each for each in mounts if each["name"] != "ssmd-data"]
        return workload.template

    assert common("nats") == common("file") == common("both")


def hardened(pod):
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == UID
    assert pod["securityContext"]["runAsGroup"] == UID
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (tmp,) = (each for each in pod["volumes"] if each["name"] == "tmp")
    assert tmp["emptyDir"]["sizeLimit"]


def test_a_pod_has_the_least_rights(workload):
    hardened(workload.pod)


def test_the_job_has_the_least_rights_too():
    hardened(only(gather(K8S / "components/stream-job"), "Job")["spec"]["template"]["spec"])


def test_the_namespace_refuses_a_pod_with_more_rights():
    labels = only(gather(K8S / "base"), "Namespace")["metadata"]["labels"]
    assert labels["name"] == "ssmd"
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_user_of_the_pods_is_the_user_of_the_image():
    image = K8S.parent / "Dockerfile"
    if not image.is_file():
        pytest.skip("deploy/Dockerfile is not in this checkout")
    users = re.findall(r"^USER\s+(\S+)", image.read_text("utf-8"), re.MULTILINE)
    assert users[-1].partition(":")[0] == str(UID)


def test_the_drain_ends_before_the_kubelet_loses_patience(workload):
    settings = ProcessSettings.read(workload.variables)
    assert workload.pod["terminationGracePeriodSeconds"] >= settings.shutdown_seconds + 20


def test_every_variable_of_ours_is_one_that_the_program_reads(workload):
    known = {"RUST_LOG": "log", "SSMD_LOG_FORMAT": "log_format"}
    settings = ProcessSettings.read(workload.variables)
    for name, field in known.items():
        assert getattr(settings, field) == workload.variables[name]
    assert {*workload.variables} == {*known, "SSMD_SHUTDOWN_SECONDS"}


# ── the archive ──────────────────────────────────────────────────────────────────


def test_what_keeps_an_archive_never_runs_twice(workload):
    kind, spec = workload.manifest["kind"], workload.manifest["spec"]
    if workload.mode == "nats":
        assert kind == "Deployment"
        assert workload.claims == []
        return
    assert kind == "StatefulSet"
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"


@pytest.mark.parametrize("mode", ["file", "both"], indirect=True)
def test_the_volume_is_mounted_where_the_archive_is_written(manifests, workload):
    data = only(manifests, "ConfigMap")["data"]
    (environment,) = objects(data[f"prod-{workload.mode}.yaml"])
    mount = workload.mount("ssmd-data")
    assert mount["mountPath"] == environment["storage"]["path"] == "/data"
    assert mount["subPath"], "lost+found lies in the root of a volume"
    assert not mount.get("readOnly")
    (claim,) = workload.claims
    assert claim["metadata"]["name"] == "ssmd-data"
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "100Gi"


@pytest.mark.parametrize("mode", ["file", "both"], indirect=True)
def test_the_volume_can_be_written_by_the_group_of_the_pod(workload):
    context = workload.pod["securityContext"]
    assert context["fsGroup"] == context["runAsGroup"]
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"


def test_without_an_archive_nothing_is_mounted_to_write_to():
    (workload,) = workloads(gather(K8S / "components/nats"))
    mounts = {each["name"] for each in workload.container["volumeMounts"]}
    assert mounts == {"config", "tmp"}


# ── the stream ───────────────────────────────────────────────────────────────────

URL = "nats://nats.nats.svc.cluster.local:4222"


def options(command):
    """Return the words and the options of one ``nats stream add``, the server's address apart."""
    words = shlex.split(re.sub(r" --defaults| -s \S+", "", command))
    names = [number for number, word in enumerate(words) if word.startswith("--")]
    return words[: names[0]], {words[number]: words[number + 1] for number in names}


def test_the_job_adds_the_stream_that_the_connector_asks_for():
    job = Workload(only(gather(K8S / "components/stream-job"), "Job"))
    (script,) = job.container["args"]
    asked = add_command("PROD_KALSHI", ["prod.kalshi.>"], URL)
    added = script[script.index("nats stream add") :].replace("\\\n", " ")
    # Without it the program asks for what is left open, and fails where nobody sits.
    assert "--defaults" in added.split()
    assert options(added) == options(asked)
    assert job.variables["NATS_URL"] == URL


def test_the_nack_stream_is_the_one_that_the_connector_asks_for():
    spec = dict(only(gather(K8S / "components/stream-nack"), "Stream")["spec"])
    _, asked = options(add_command(spec.pop("name"), spec.pop("subjects"), URL))
    assert asked.pop("--subjects") == "prod.kalshi.>"
    names = {re.sub("[A-Z]", lambda m: f"-{m[0].lower()}", key): spec[key] for key in spec}
    assert {f"--{name}": str(value) for name, value in names.items()} == asked
