import sys

import pytest

import ssmd_core
from ssmd_core.errors import PluginError
from ssmd_core.plugins.index import PluginIndex, Status
from ssmd_core.plugins.registry import Registry


def refusal(call, *args) -> str:
    with pytest.raises(PluginError) as caught:
        call(*args)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_named_feed_is_loaded(install, registry, feed_code):
    install("ssmd-acme", {"feed:acme": "ssmd_acme_x"}, feed_code("acme"), module="ssmd_acme_x")
    found = registry().feed("acme")
    assert (found.name, found.api_version) == ("acme", 1)


def test_the_origin_of_a_record_is_its_distribution_version_and_module(
    install, registry, feed_code
):
    install("ssmd-acme", {"feed:acme": "acme_m"}, feed_code("acme"), module="acme_m")
    plugins = registry()
    assert plugins.origin(plugins.feed("acme")).origin == "ssmd-acme 1.0 (acme_m)"


def test_an_entry_point_may_name_an_object_of_a_module(install, registry, feed_code):
    code = feed_code("acme") + "\nclass Plugin:\n    ssmd_feeds = staticmethod(ssmd_feeds)\n"
    install("ssmd-acme", {"feed:acme": "acme_o:Plugin"}, code, module="acme_o")
    assert registry().feed("acme").name == "acme"


def test_one_module_may_provide_several_types(install, registry):
    code = """
        from pydantic import BaseModel
        from ssmd_core.plugins import StorageType, hookimpl

        class Config(BaseModel):
            pass

        @hookimpl
        def ssmd_storages():
            for name in ("tape", "drum"):
                yield StorageType(name=name, api_version=1, config=Config, open=print)
    """
    install("ssmd-old", {"storage:tape": "old_m", "storage:drum": "old_m"}, code, module="old_m")
    plugins = registry()
    assert plugins.storage("drum").name == "drum"
    assert plugins.storage("tape").name == "tape"


def test_what_is_not_named_is_not_imported(install, registry, feed_code):
    install("ssmd-acme", {"feed:acme": "acme_n"}, feed_code("acme"), module="acme_n")
    install("ssmd-loud", {"feed:loud": "loud_n"}, "raise RuntimeError('loud')", module="loud_n")
    plugins = registry()
    plugins.feed("acme")
    assert [entry.status for entry in plugins.entries()] == [Status.INSTALLED, Status.INSTALLED]
    assert "loud_n" not in sys.modules


def test_nobody_provides_it_lists_what_is_installed_and_the_nearest(install, registry, feed_code):
    install("ssmd-acme", {"feed:acme": "acme_l"}, feed_code("acme"), module="acme_l")
    assert refusal(registry().feed, "acne") == (
        "nobody provides the feed type `acne`; did you mean `acme`?; installed: acme (ssmd-acme); "
        "`pip install ssmd-acne` installs it where it has the usual name"
    )


@pytest.mark.parametrize(
    ("kind", "type_", "command"),
    [
        ("feed", "kalshi", "pip install ssmd-kalshi"),
        ("transport", "nats", "pip install ssmd-sink-nats"),
        ("storage", "local", "pip install ssmd-sink-file"),
    ],
)
def test_nobody_provides_it_names_the_command_that_would_help(registry, kind, type_, command):
    message = refusal(getattr(registry(), kind), type_)
    assert f"`{command}`" in message
    assert "installed: none" in message


def test_two_distributions_that_claim_a_type_are_refused_with_both_versions(
    install, registry, feed_code
):
    install("ssmd-acme", {"feed:acme": "acme_a"}, feed_code("acme"), module="acme_a")
    install("acme-pro", {"feed:acme": "acme_b"}, feed_code("acme"), version="2.5", module="acme_b")
    message = refusal(registry().feed, "acme")
    assert "acme-pro 2.5 and ssmd-acme 1.0" in message
    assert "`acme-pro:acme`" in message
    assert {"acme_a", "acme_b"}.isdisjoint(sys.modules)


@pytest.mark.parametrize("spec", ["ssmd-acme:acme", "SSMD_Acme:acme"])
def test_a_distribution_before_the_type_picks_one_of_two(install, registry, feed_code, spec):
    install("ssmd-acme", {"feed:acme": "acme_c"}, feed_code("acme"), module="acme_c")
    install("acme-pro", {"feed:acme": "acme_d"}, feed_code("acme"), module="acme_d")
    plugins = registry()
    assert plugins.origin(plugins.feed("ignored", spec)).distribution == "ssmd-acme"


def test_a_distribution_that_is_not_installed_is_named(install, registry, feed_code):
    install("ssmd-acme", {"feed:acme": "acme_e"}, feed_code("acme"), module="acme_e")
    assert "`other:acme`" in refusal(registry().feed, "other:acme")


def test_a_distribution_for_another_core_is_refused_before_import(install, registry):
    install(
        "ssmd-acme",
        {"feed:acme": "acme_f"},
        "raise RuntimeError",
        requires=["ssmd-core>=9,<10"],
        module="acme_f",
    )
    message = refusal(registry().feed, "acme")
    assert "ssmd-acme 1.0" in message
    assert "requires ssmd-core<10,>=9" in message
    assert f"installed is ssmd-core {ssmd_core.__version__}" in message
    assert "acme_f" not in sys.modules


def test_picking_an_incompatible_one_of_two_is_refused_too(install, registry, feed_code):
    install("ssmd-acme", {"feed:acme": "acme_g"}, feed_code("acme"), module="acme_g")
    install(
        "acme-pro",
        {"feed:acme": "acme_h"},
        feed_code("acme"),
        requires=["ssmd-core==0.0.1"],
        module="acme_h",
    )
    assert "requires ssmd-core==0.0.1" in refusal(registry().feed, "acme-pro:acme")


def test_a_requirement_that_does_not_apply_here_is_no_obstacle(install, registry, feed_code):
    install(
        "ssmd-acme",
        {"feed:acme": "acme_i"},
        feed_code("acme"),
        requires=["ssmd-core>=9; extra == 'next'", "ssmd_core>=0.1", "other>=99", "not valid ==="],
        module="acme_i",
    )
    assert registry().feed("acme").name == "acme"


@pytest.mark.parametrize("version", [2, 0, "1", True, None])
def test_another_api_version_is_refused_with_both_numbers(install, registry, feed_code, version):
    code = feed_code("acme", api_version=version)
    install("ssmd-acme", {"feed:acme": "acme_v"}, code, module="acme_v")
    message = refusal(registry().feed, "acme")
    assert f"speaks api_version {version!r}, this ssmd-core speaks 1" in message


BROKEN = {
    "import": ("import no_such_thing", "cannot be imported: ModuleNotFoundError"),
    "syntax": ("def", "cannot be imported: SyntaxError"),
    "exit": ("raise SystemExit(0)", "cannot be imported: SystemExit"),
    "missing hook": ("x = 1", "has no hook `ssmd_feeds`"),
    "undecorated": ("def ssmd_feeds(): pass", "lacks the decorator @hookimpl"),
    "misspelt": (
        "from ssmd_core.plugins import hookimpl\n@hookimpl\ndef ssmd_feedz(): return []",
        "hook `ssmd_feedz` is none of ssmd's; did you mean `ssmd_feeds`?",
    ),
    "argument": (
        "from ssmd_core.plugins import hookimpl\n@hookimpl\ndef ssmd_feeds(config): return []",
        "has a hook that does not fit",
    ),
    "async": (
        "from ssmd_core.plugins import hookimpl\n@hookimpl\nasync def ssmd_feeds(): return []",
        "hook `ssmd_feeds` is async",
    ),
    "async generator": (
        "from ssmd_core.plugins import hookimpl\n@hookimpl\nasync def ssmd_feeds(): yield 1",
        "hook `ssmd_feeds` is async",
    ),
    "raises": (
        (
            "from ssmd_core.plugins import hookimpl\n@hookimpl\ndef ssmd_feeds():\n"
            "    raise ValueError('bad day')\n    yield"
        ),
        "`ssmd_feeds` raised ValueError: bad day",
    ),
    "no iterable": (
        "from ssmd_core.plugins import hookimpl\n@hookimpl\ndef ssmd_feeds(): return 5",
        "`ssmd_feeds` raised TypeError",
    ),
    "not a record": (
        "from ssmd_core.plugins import hookimpl\n@hookimpl\ndef ssmd_feeds(): yield {}",
        "`ssmd_feeds` yields dict, must be FeedType",
    ),
    "nothing": (
        "from ssmd_core.plugins import hookimpl\n@hookimpl\ndef ssmd_feeds(): return []",
        "`ssmd_feeds` yields nothing, but the entry point is named acme",
    ),
    "endless": (
        (
            "from itertools import count\nfrom ssmd_core.plugins import hookimpl\n"
            "@hookimpl\ndef ssmd_feeds(): return count()"
        ),
        "`ssmd_feeds` yields int, must be FeedType",
    ),
}


@pytest.mark.parametrize(("code", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_named_with_distribution_version_module_and_cause(
    install, registry, code, reason
):
    install("ssmd-acme", {"feed:acme": "acme_z"}, code, version="4.2", module="acme_z")
    message = refusal(registry().feed, "acme")
    assert message.startswith("plugin ssmd-acme 4.2 (acme_z)")
    assert reason in message


@pytest.mark.parametrize("name", ["import", "raises", "argument"])
def test_the_cause_of_a_broken_plugin_is_chained(install, registry, name):
    install("ssmd-acme", {"feed:acme": "acme_q"}, BROKEN[name][0], module="acme_q")
    with pytest.raises(PluginError) as caught:
        registry().feed("acme")
    assert caught.value.__cause__ is not None


def test_a_record_of_another_kind_is_refused(install, registry, feed_code):
    code = feed_code("acme", record="StorageType")
    install("ssmd-acme", {"feed:acme": "acme_k"}, code, module="acme_k")
    assert "yields StorageType, must be FeedType" in refusal(registry().feed, "acme")


def test_a_record_named_unlike_its_entry_point_is_refused(install, registry, feed_code):
    install("ssmd-acme", {"feed:acme": "acme_r"}, feed_code("akme"), module="acme_r")
    message = refusal(registry().feed, "acme")
    assert "yields akme, but the entry point is named acme" in message


@pytest.mark.parametrize(
    ("field", "reason"),
    [("open=Venue", "`open` is not callable"), ("config=Config", "`config` is no subclass")],
)
def test_a_record_with_unusable_fields_is_refused(install, registry, feed_code, field, reason):
    code = feed_code("acme").replace(field, f"{field.partition('=')[0]}=5")
    install("ssmd-acme", {"feed:acme": "acme_u"}, code, module="acme_u")
    assert reason in refusal(registry().feed, "acme")


def test_the_bare_base_model_is_no_config(install, registry, feed_code):
    code = feed_code("acme").replace("config=Config", "config=BaseModel")
    install("ssmd-acme", {"feed:acme": "acme_t"}, code, module="acme_t")
    assert "`config` is no subclass of BaseModel" in refusal(registry().feed, "acme")


def test_plugins_of_equal_names_do_not_collide(install, registry, feed_code):
    install("one", {"feed:acme": "plug_one"}, feed_code("acme"), module="plug_one")
    transports = """
        from pydantic import BaseModel
        from ssmd_core.plugins import TransportType, hookimpl

        class Config(BaseModel):
            pass

        @hookimpl
        def ssmd_transports():
            yield TransportType(name="acme", api_version=1, config=Config, open=print)
    """
    install("two", {"transport:acme": "plug_two"}, transports, module="plug_two")
    plugins = registry()
    assert type(plugins.feed("acme")).__name__ == "FeedType"
    assert type(plugins.transport("acme")).__name__ == "TransportType"


SCHEMAS = """
from ssmd_core.plugins import SchemaType, hookimpl

@hookimpl
def ssmd_schemas():
    for version in ("v1", "v2"):
        yield SchemaType(name="trade", api_version=1, version=version, open=print)
"""


def test_a_schema_is_found_by_name_and_version(install, registry):
    install("ssmd-s", {"schema:trade": "schemas_a"}, SCHEMAS, module="schemas_a")
    found = registry().schema("trade:v2")
    assert (found.name, found.version) == ("trade", "v2")


@pytest.mark.parametrize("label", ["trade:v9", "quote:v1"])
def test_an_unknown_schema_lists_the_known_ones(install, registry, label):
    install("ssmd-s", {"schema:trade": "schemas_b"}, SCHEMAS, module="schemas_b")
    install("broken", {"schema:other": "schemas_c"}, "raise RuntimeError", module="schemas_c")
    assert refusal(registry().schema, label) == (
        f"unknown schema `{label}`; known: trade:v1, trade:v2"
    )


def test_a_distribution_before_the_schema_picks_one_of_two(install, registry):
    install("one", {"schema:trade": "schemas_d"}, SCHEMAS, module="schemas_d")
    install("two", {"schema:trade": "schemas_e"}, SCHEMAS, module="schemas_e")
    plugins = registry()
    assert "provided by one 1.0 and two 1.0" in refusal(plugins.schema, "trade:v1")
    assert plugins.origin(plugins.schema("two:trade:v1")).distribution == "two"


def test_checking_tells_sound_from_broken_and_never_raises(install, registry, feed_code):
    install("a-good", {"feed:good": "chk_good"}, feed_code("good"), module="chk_good")
    install("b-bad", {"feed:bad": "chk_bad"}, "raise RuntimeError('no')", module="chk_bad")
    install("c-old", {"feed:old": "chk_old"}, "x", requires=["ssmd-core<0.0.1"], module="chk_old")
    install("d-two", {"feed:twin": "chk_d"}, feed_code("twin"), module="chk_d")
    install("e-two", {"feed:twin": "chk_e"}, feed_code("twin"), module="chk_e")
    install("f-api", {"feed:api": "chk_f"}, feed_code("api", api_version=7), module="chk_f")
    found = {entry.distribution: entry for entry in registry().entries(check=True)}
    assert {name: entry.status.value for name, entry in found.items()} == {
        "a-good": "ok",
        "b-bad": "broken",
        "c-old": "incompatible",
        "d-two": "conflict",
        "e-two": "conflict",
        "f-api": "broken",
    }
    assert "RuntimeError: no" in (found["b-bad"].error or "")
    assert "e-two 1.0" in (found["d-two"].error or "")


def test_checking_finds_a_record_that_no_entry_point_names(install, registry, feed_code):
    code = feed_code("acme") + (
        "    yield FeedType(name='lost', api_version=1, config=Config, open=Venue)\n"
    )
    install("ssmd-acme", {"feed:acme": "acme_s"}, code, module="acme_s")
    plugins = registry()
    assert plugins.feed("acme").name == "acme"
    [entry] = plugins.entries(check=True)
    assert entry.status is Status.BROKEN
    assert "no entry point names `lost`" in (entry.error or "")


def test_the_core_s_own_plugins_are_sound():
    entries = Registry(PluginIndex.installed()).entries(check=True)
    own = [entry for entry in entries if entry.distribution == "ssmd-core"]
    assert own
    assert [entry.error for entry in own] == [None] * len(own)
