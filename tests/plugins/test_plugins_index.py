import sys

from ssmd_core.plugins.index import Kind, PluginIndex, Status


def index_of(site) -> PluginIndex:
    return PluginIndex.installed([str(site)])


def test_an_entry_tells_kind_type_distribution_version_and_module(install, site):
    install("ssmd-acme", {"feed:acme": "acme.plugin"}, version="0.9.1")
    [entry] = index_of(site).entries
    assert (entry.kind, entry.type) == (Kind.FEED, "acme")
    assert (entry.distribution, entry.version) == ("ssmd-acme", "0.9.1")
    assert (entry.module, entry.status, entry.error) == ("acme.plugin", Status.INSTALLED, None)


def test_all_five_groups_are_read_and_no_other(install, site):
    kinds = ["feed", "transport", "storage", "schema", "observer"]
    install("ssmd-all", {f"{kind}:x": "m" for kind in [*kinds, "stranger"]})
    assert [entry.kind.value for entry in index_of(site).entries] == kinds


def test_reading_the_index_imports_nothing(install, site):
    install("ssmd-acme", {"feed:acme": "acme_index"}, "", module="acme_index")
    assert index_of(site).entries
    assert "acme_index" not in sys.modules


def test_two_claims_of_one_type_are_both_conflicts_and_name_each_other(install, site):
    install("one", {"feed:acme": "a"})
    install("two", {"feed:acme": "b", "transport:acme": "b"}, version="2.0")
    found = {(e.distribution, e.kind.value): e for e in index_of(site).entries}
    assert found["one", "feed"].error == "also provided by two 2.0 (b)"
    assert found["two", "feed"].error == "also provided by one 1.0 (a)"
    assert found["two", "transport"].status is Status.INSTALLED


def test_observers_never_conflict(install, site):
    install("one", {"observer:watch": "a"})
    install("two", {"observer:watch": "b"})
    assert {entry.status for entry in index_of(site).entries} == {Status.INSTALLED}


def test_a_conflicting_entry_for_another_core_says_both(install, site):
    install("one", {"feed:acme": "a"})
    install("two", {"feed:acme": "b"}, requires=["ssmd-core>=77"])
    [_, entry] = index_of(site).entries
    assert entry.status is Status.CONFLICT
    assert "also provided by one" in (entry.error or "")
    assert "requires ssmd-core>=77" in (entry.error or "")


def test_of_two_copies_of_a_distribution_the_first_on_the_path_counts(install, site, tmp_path):
    install("ssmd-acme", {"feed:acme": "a"}, version="1.0")
    other = tmp_path / "other"
    info = other / "SSMD_Acme-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: SSMD_Acme\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[ssmd.feeds]\nacme = b\n")
    [entry] = PluginIndex.installed([str(site), str(other)]).entries
    assert entry.version == "1.0"


def test_damaged_metadata_hurts_nobody(install, site):
    install("ssmd-acme", {"feed:acme": "a"})
    (site / "empty-1.0.dist-info").mkdir()
    torn = site / "torn-1.0.dist-info"
    torn.mkdir()
    (torn / "METADATA").write_bytes(b"Name: torn\nVersion: 1.0\n")
    (torn / "entry_points.txt").write_bytes(b"[ssmd.feeds]\n\xff\xfe not = [ valid\n")
    assert [entry.distribution for entry in index_of(site).entries] == ["ssmd-acme"]


def test_named_finds_by_type_and_by_distribution(install, site):
    install("ssmd-acme", {"feed:acme": "a", "storage:tape": "a"})
    index = index_of(site)
    assert [entry.type for entry in index.named("tape")] == ["tape"]
    assert [entry.type for entry in index.named("SSMD_acme")] == ["acme", "tape"]
    assert index.named("nobody") == []


def test_the_real_installation_lists_the_memory_transport():
    found = PluginIndex.installed().of(Kind.TRANSPORT, "memory")
    assert [entry.distribution for entry in found] == ["ssmd-core"]
