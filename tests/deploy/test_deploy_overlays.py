"""The overlays of deploy/k8s as `kubectl apply -k` would send them."""

import os

import kubernetes_validate
import pytest

from rig.manifests import K8S, build, builder, gather, lay_out, objects, only, workloads

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        builder() is None,
        reason="neither kubectl nor kustomize on this machine: the files are tested one by one",
    ),
]
OVERLAYS = sorted(path.parent.name for path in (K8S / "overlays").glob("*/kustomization.yaml"))
COMPONENTS = sorted(path.parent.name for path in (K8S / "components").glob("*/kustomization.yaml"))
CUSTOM = {"PodMonitor", "Stream"}


@pytest.fixture
def overlay(tmp_path):
    """Build an overlay of an operator's own, outside the repository."""

    def make(resource, *components, more=""):
        def there(folder, name):
            return os.path.relpath((K8S / folder / name).resolve(), tmp_path.resolve())

        lines = ["resources:", f"  - {there('overlays', resource)}"]
        if components:
            lines += ["components:", *(f"  - {there('components', name)}" for name in components)]
        (tmp_path / "kustomization.yaml").write_text("\n".join([*lines, more, ""]))
        return build(tmp_path)

    return make


def identities(manifests):
    return sorted((each["kind"], each["metadata"]["name"]) for each in manifests)


def validate(manifests):
    for each in manifests:
        if each["kind"] not in CUSTOM:
            kubernetes_validate.validate(each, "1.34", strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
async def test_an_overlay_builds_to_valid_objects_and_leaves_none_out(name):
    built = build(K8S / "overlays" / name)
    validate(built)
    told = gather(K8S / "overlays" / name)
    namespace = {("Namespace", "ssmd"): ("Namespace", "ssmd-beside")} if name == "beside" else {}
    assert identities(built) == sorted(namespace.get(each, each) for each in identities(told))


@pytest.mark.parametrize("name", ["nats", "file", "both", "separate"])
async def test_building_changes_nothing_that_the_files_say(name):
    def comparable(manifests):
        found = [each for each in manifests if each["kind"] != "ConfigMap"]
        return sorted(found, key=lambda each: (each["kind"], each["metadata"]["name"]))

    folder = K8S / "overlays" / name
    assert comparable(build(folder)) == comparable(gather(folder))


@pytest.mark.parametrize("name", OVERLAYS)
async def test_a_config_map_has_the_name_and_the_files_that_the_pod_mounts(name):
    built = build(K8S / "overlays" / name)
    for workload in workloads(built):
        source = workload.volume("config")["configMap"]
        data = only(built, "ConfigMap", source["name"])["data"]
        assert {item["key"] for item in source["items"]} == {*data}


@pytest.mark.parametrize("name", sorted({*COMPONENTS} - {"nats", "file", "both"}))
async def test_every_component_can_be_added_to_an_overlay(overlay, name):
    validate(overlay("file", name))


async def test_the_separate_overlay_runs_the_guides_two_workloads():
    built = build(K8S / "overlays/separate")
    names = {(workload.manifest["kind"], workload.name) for workload in workloads(built)}
    assert names == {
        ("Deployment", "ssmd-connector-nats"),
        ("StatefulSet", "ssmd-connector-file"),
    }


@pytest.mark.parametrize("name", ["nats", "file", "both"])
async def test_without_a_cpu_limit_everything_else_of_the_resources_stays(overlay, name):
    (workload,) = workloads(overlay(name, "no-cpu-limit"))
    assert workload.container["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"memory": "512Mi"},
    }


async def test_production_has_the_stream_the_monitor_and_no_cpu_limit():
    built = build(K8S / "overlays/production")
    (workload,) = workloads(built)
    assert "cpu" not in workload.container["resources"]["limits"]
    assert {"Job", "PodMonitor"} <= {each["kind"] for each in built}


@pytest.mark.parametrize("name", ["nats", "file", "both", "separate"])
async def test_an_operator_names_the_image_in_one_place(overlay, name):
    image = "images:\n- {name: ghcr.io/OWNER/ssmd-connector, newName: r.example/x, newTag: 9.9.9}"
    images = {workload.container["image"] for workload in workloads(overlay(name, more=image))}
    assert images == {"r.example/x:9.9.9"}


async def test_an_operator_changes_the_environment_file_by_merging(overlay, tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    merge = """
configMapGenerator:
- name: ssmd-file-config
  namespace: ssmd
  behavior: merge
  files: [prod-file.yaml=mine.yaml]
  options: {disableNameSuffixHash: true}
"""
    data = only(overlay("file", more=merge), "ConfigMap", "ssmd-file-config")["data"]
    assert data["prod-file.yaml"] == "name: mine\n"
    assert objects(data["kalshi.yaml"])[0]["name"] == "kalshi"


@pytest.mark.parametrize("name", ["file", "both"])
async def test_an_existing_claim_takes_the_place_of_the_template(overlay, name):
    (workload,) = workloads(overlay(name, "existing-claim"))
    assert workload.claims == []
    assert workload.volume("ssmd-data")["persistentVolumeClaim"]["claimName"] == "ssmd-data"
    assert workload.mount("ssmd-data")["subPath"] == "archive"


async def test_beside_the_reference_nothing_is_shared(program):
    built = build(K8S / "overlays/beside")
    places = {each["metadata"].get("namespace") for each in built} - {None}
    assert places == {"ssmd-beside"}
    (workload,) = workloads(built)
    run = program(**workload.variables)
    done = await run.run("check", *lay_out(workload, built, run.folder))
    assert (done.returncode, done.stderr) == (0, "")
    # The environment's name is in every subject and in the name of the stream.
    assert "environment   beside\n" in done.stdout
    assert "create_stream = True" in done.stdout
