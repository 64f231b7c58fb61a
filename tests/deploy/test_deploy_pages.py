"""The commands of the pages against the manifests: what they name is there."""

import re

import pytest

from rig.manifests import K8S, gather, workloads

ROOT = K8S.parents[1]
PAGES = ("deploy/k8s/README.md", "docs/operate.md", "docs/runbook.md")
TEXTS = {page: (ROOT / page).read_text("utf-8").replace("\\\n", " ") for page in PAGES}
KINDS = {"deploy": "Deployment", "deployment": "Deployment"} | dict.fromkeys(
    ("sts", "statefulset"), "StatefulSet"
)
RUNNING = {
    (each.manifest["kind"], each.name): each
    for mode in ("separate", "both")
    for each in workloads(gather(K8S / "overlays" / mode))
}
TARGET = re.compile(r"\b(deploy|deployment|sts|statefulset)/(ssmd-[\w-]+)")
CALLS = sorted(
    {
        (page, call.strip())
        for page, text in TEXTS.items()
        for call in re.findall(r"kubectl [^\n`|]*", text)
        if TARGET.search(call)
    }
)


def test_the_pages_name_workloads_at_all():
    assert {page for page, _ in CALLS} >= {"docs/operate.md", "docs/runbook.md"}


@pytest.mark.parametrize(("page", "call"), CALLS)
def test_a_workload_that_a_command_names_is_deployed_as_that_kind(page, call):
    kind, name = TARGET.search(call).groups()
    assert (KINDS[kind], name) in RUNNING


@pytest.mark.parametrize(("page", "call"), [each for each in CALLS if " /config/" in each[1]])
def test_a_file_that_a_command_reads_in_a_pod_is_mounted_there(page, call):
    kind, name = TARGET.search(call).groups()
    workload = RUNNING[KINDS[kind], name]
    items = workload.volume("config")["configMap"]["items"]
    mounted = {f"{workload.mount('config')['mountPath']}/{item['path']}" for item in items}
    assert {*re.findall(r"/config/\S+", call)} <= mounted


@pytest.mark.parametrize("page", PAGES)
def test_a_label_that_a_command_selects_by_is_on_some_pod(page):
    labels = {each.template["metadata"]["labels"]["app"] for each in RUNNING.values()}
    assert {*re.findall(r"-l app=([\w-]+)", TEXTS[page])} <= labels


@pytest.mark.parametrize("page", PAGES)
def test_what_a_command_applies_or_builds_is_there(page):
    for option, path in re.findall(r"kubectl (apply -[kf]|kustomize) (deploy/\S+)", TEXTS[page]):
        there = ROOT / path.rstrip("`")
        assert there.is_file() if option.endswith("f") else (there / "kustomization.yaml").is_file()


def test_an_overlay_or_a_component_that_a_page_names_is_there():
    for page, text in TEXTS.items():
        for name in re.findall(r"`((?:overlays|components)/[a-z-]+)`", text):
            assert (K8S / name / "kustomization.yaml").is_file(), f"{page}: {name}"
