import subprocess
import sys

from ssmd_core.metrics import Metrics
from ssmd_core.plugins import SchemaType
from ssmd_core.schema.plugin import ssmd_schemas


def test_the_plugin_registers_both_versions_of_trade():
    schemas = list(ssmd_schemas())
    assert all(isinstance(schema, SchemaType) for schema in schemas)
    assert [(schema.name, schema.version, schema.api_version) for schema in schemas] == [
        ("trade", "v1", 1),
        ("trade", "v2", 1),
    ]


def test_what_the_plugin_opens_is_labelled_as_it_is_registered():
    for schema in ssmd_schemas():
        assert schema.open(Metrics()).label == f"{schema.name}:{schema.version}"


def test_importing_and_asking_the_plugin_imports_no_pycapnp():
    script = (
        "import sys\n"
        "from ssmd_core.schema.plugin import ssmd_schemas\n"
        "list(ssmd_schemas())\n"
        "print('capnp' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
