"""The Kubernetes manifests as a cluster takes them: objects, and the files a container finds."""

import functools
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

__all__ = [
    "K8S",
    "MODES",
    "Workload",
    "build",
    "builder",
    "gather",
    "lay_out",
    "objects",
    "only",
    "workloads",
]

K8S = Path(__file__).resolve().parents[3] / "deploy/k8s"
MODES = ("nats", "file", "both")
_WORKLOADS = ("Deployment", "StatefulSet")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")

Manifest = dict[str, Any]


@functools.cache
def objects(text: str) -> list[Manifest]:
    """Read every document of a YAML text, once; a key that stands twice is an error."""
    return [each for each in YAML(typ="safe", pure=True).load_all(text) if each is not None]


def only(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """Return the one object of a kind, or of a kind and name."""
    (found,) = (
        each
        for each in manifests
        if each["kind"] == kind and name in {None, each["metadata"]["name"]}
    )
    return found


@functools.cache
def gather(folder: Path) -> list[Manifest]:
    """Return what a kustomization names, as it stands in the files: nothing is patched."""
    (told,) = objects((folder / "kustomization.yaml").read_text("utf-8"))
    found: list[Manifest] = []
    for name in [*told.get("resources", ()), *told.get("components", ())]:
        path = (folder / name).resolve()
        found += gather(path) if path.is_dir() else objects(path.read_text("utf-8"))
    for generator in told.get("configMapGenerator", ()):
        if generator.get("behavior") != "merge":
            found.append(_config_map(folder, generator))
    return found


def _config_map(folder: Path, generator: Manifest) -> Manifest:
    files = {Path(name).name: folder / name for name in generator["files"]}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": generator["name"], "namespace": generator["namespace"]},
        "data": {key: path.read_text("utf-8") for key, path in files.items()},
    }


def builder() -> list[str] | None:
    """Return the command that builds a kustomization, where this machine has one."""
    if kubectl := shutil.which("kubectl"):
        return [kubectl, "kustomize"]
    if kustomize := shutil.which("kustomize"):
        return [kustomize, "build"]
    return None


@functools.cache
def build(folder: Path) -> list[Manifest]:
    """Build a kustomization as ``kubectl apply -k`` would."""
    done = subprocess.run(
        [*(builder() or ()), str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()
    return objects(done.stdout)


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment or StatefulSet of one connector."""

    manifest: Manifest

    @property
    def name(self) -> str:
        return self.manifest["metadata"]["name"]

    @property
    def mode(self) -> str:
        return self.name.removeprefix("ssmd-connector-")

    @property
    def template(self) -> Manifest:
        return self.manifest["spec"]["template"]

    @property
    def pod(self) -> Manifest:
        return self.template["spec"]

    @property
    def container(self) -> Manifest:
        (container,) = self.pod["containers"]
        return container

    @property
    def claims(self) -> list[Manifest]:
        return self.manifest["spec"].get("volumeClaimTemplates", [])

    @property
    def variables(self) -> dict[str, str]:
        """The variables that hold their value; secrets are not among them."""
        return {each["name"]: each["value"] for each in self.container["env"] if "value" in each}

    @property
    def secrets(self) -> dict[str, tuple[str, str]]:
        """Variable: name and key of the secret that fills it."""
        found = {
            each["name"]: each["valueFrom"]["secretKeyRef"]
            for each in self.container["env"]
            if "valueFrom" in each
        }
        return {name: (ref["name"], ref["key"]) for name, ref in found.items()}

    def volume(self, name: str) -> Manifest:
        (found,) = (each for each in self.pod["volumes"] if each["name"] == name)
        return found

    def mount(self, name: str) -> Manifest:
        (found,) = (each for each in self.container["volumeMounts"] if each["name"] == name)
        return found


def workloads(manifests: list[Manifest]) -> Iterator[Workload]:
    """Yield every connector of a set of manifests."""
    return (Workload(each) for each in manifests if each["kind"] in _WORKLOADS)


def lay_out(workload: Workload, manifests: list[Manifest], root: Path) -> list[str]:
    """Write the mounted ConfigMap below ``root`` as the kubelet would; return the arguments."""
    source = workload.volume("config")["configMap"]
    data = only(manifests, "ConfigMap", source["name"])["data"]
    assert all(_KEY.fullmatch(key) for key in data), f"no API server takes these keys: {[*data]}"
    mounted = root / workload.mount("config")["mountPath"].lstrip("/")
    for item in source["items"]:
        path = mounted / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data[item["key"]], "utf-8")
    return [
        str(root / word.lstrip("/")) if word.startswith("/") else word
        for word in workload.container["args"]
    ]
