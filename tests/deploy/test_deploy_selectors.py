"""Which pods the policies, budgets, services and monitors of deploy/k8s choose."""

import ipaddress

import pytest

from rig.manifests import K8S, gather, only

OVERLAYS = sorted(path.parent.name for path in (K8S / "overlays").glob("*/kustomization.yaml"))
BUS, DNS, WEB = (4222, "TCP"), (53, "UDP"), (443, "TCP")
OWN = {"app", "app.kubernetes.io/name", "app.kubernetes.io/part-of"}


@pytest.fixture(params=OVERLAYS)
def manifests(request):
    return gather(K8S / "overlays" / request.param)


def pods(manifests):
    """Return the labels of every pod that the objects make, by the name of its maker."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in manifests
        if "template" in each["spec" if "spec" in each else "metadata"]
        and each["kind"] in {"Deployment", "StatefulSet", "Job"}
    }


def chosen(selector, manifests):
    """Return the makers of the pods that a selector chooses; an empty one chooses all."""
    labels = selector.get("matchLabels", selector)
    return {name for name, owned in pods(manifests).items() if labels.items() <= owned.items()}


def connectors(manifests):
    return {name for name in pods(manifests) if name.startswith("ssmd-connector-")}


def policies(manifests):
    return [each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"]


def let_out(manifests, name):
    """Return the ports that a pod may connect to."""
    return {
        (port["port"], port["protocol"])
        for spec in policies(manifests)
        if name in chosen(spec["podSelector"], manifests)
        for rule in spec.get("egress", ())
        for port in rule["ports"]
    }


def test_a_workload_owns_its_own_pods_and_no_others(manifests):
    owners = [each for each in manifests if each["kind"] in {"Deployment", "StatefulSet"}]
    assert owners
    for each in owners:
        assert chosen(each["spec"]["selector"], manifests) == {each["metadata"]["name"]}


def test_every_connector_has_one_disruption_budget_that_lets_a_node_be_drained(manifests):
    budgets = [each["spec"] for each in manifests if each["kind"] == "PodDisruptionBudget"]
    covered = [name for spec in budgets for name in chosen(spec["selector"], manifests)]
    assert sorted(covered) == sorted(connectors(manifests))
    assert all(spec["maxUnavailable"] == 1 and "minAvailable" not in spec for spec in budgets)


def test_a_stateful_set_has_the_headless_service_that_it_names(manifests):
    sets = [each for each in manifests if each["kind"] == "StatefulSet"]
    for each in sets:
        service = only(manifests, "Service", each["spec"]["serviceName"])["spec"]
        assert service["clusterIP"] == "None"
        assert chosen(service["selector"], manifests) == {each["metadata"]["name"]}
        assert service["ports"][0]["targetPort"] == "health"
    assert len(sets) == sum(each["kind"] == "Service" for each in manifests)


def test_nothing_comes_in_or_goes_out_but_what_is_named(manifests):
    everything = [spec for spec in policies(manifests) if spec["podSelector"] == {}]
    closed = [spec for spec in everything if not spec.keys() & {"ingress", "egress"}]
    assert [sorted(spec["policyTypes"]) for spec in closed] == [["Egress", "Ingress"]]


def test_every_policy_chooses_some_pod(manifests):
    for spec in policies(manifests):
        assert chosen(spec["podSelector"], manifests)


def test_a_pod_reaches_names_the_venue_and_where_it_publishes_the_bus(manifests):
    for name in connectors(manifests):
        bus = set() if name == "ssmd-connector-file" else {BUS}
        assert let_out(manifests, name) == {DNS, (53, "TCP"), WEB} | bus


def test_the_job_that_adds_the_stream_reaches_the_bus_and_nothing_else():
    manifests = gather(K8S / "overlays/production")
    assert let_out(manifests, "ssmd-stream") == {DNS, (53, "TCP"), BUS}


def test_no_peer_of_a_policy_is_chosen_by_a_label_of_ours(manifests):
    for spec in policies(manifests):
        for rule in [*spec.get("egress", ()), *spec.get("ingress", ())]:
            for peer in rule.get("to", rule.get("from")):
                labels = peer.get("podSelector", {}).get("matchLabels", {})
                assert not labels.keys() & OWN


def test_the_way_to_the_venue_does_not_lead_into_the_cluster_or_to_its_cloud(manifests):
    (web,) = (
        rule
        for spec in policies(manifests)
        for rule in spec.get("egress", ())
        if rule["ports"][0]["port"] == WEB[0]
    )
    blocks = [peer["ipBlock"] for peer in web["to"]]
    assert {block["cidr"] for block in blocks} == {"0.0.0.0/0", "::/0"}
    kept = [ipaddress.ip_network(cidr) for block in blocks for cidr in block["except"]]
    for inside in ("10.96.0.1", "172.20.0.1", "192.168.1.1", "169.254.169.254", "fd00:ec2::254"):
        address = ipaddress.ip_address(inside)
        assert any(address in network for network in kept if network.version == address.version)


def test_only_monitoring_comes_in_and_only_to_the_health_port(manifests):
    (rule,) = (rule for spec in policies(manifests) for rule in spec.get("ingress", ()))
    assert rule["ports"] == [{"port": "health", "protocol": "TCP"}]
    (peer,) = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


def test_prometheus_scrapes_the_connectors_and_no_other_pod():
    manifests = gather(K8S / "overlays/production")
    spec = only(manifests, "PodMonitor")["spec"]
    assert chosen(spec["selector"], manifests) == connectors(manifests)
    (endpoint,) = spec["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("health", "/metrics")


def test_all_that_lies_in_the_namespace_of_the_policies_is_held_by_them(manifests):
    places = {each["metadata"].get("namespace") for each in manifests} - {None}
    assert places == {"ssmd"}
