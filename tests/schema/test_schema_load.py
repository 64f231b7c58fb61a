import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ssmd_core.errors import SchemaError
from ssmd_core.schema import find_schema, load, load_schema

ROOT = Path(__file__).parents[2]


def test_a_checkout_finds_the_text_at_the_root_of_the_repository():
    assert find_schema("trade.capnp") == ROOT / "schemas" / "trade.capnp"


def test_the_packaged_text_wins_over_the_checkout(tmp_path):
    places = [tmp_path / "packaged", tmp_path / "checkout"]
    for place in places:
        place.mkdir()
        (place / "trade.capnp").touch()
    assert find_schema("trade.capnp", places) == places[0] / "trade.capnp"


def test_the_wheel_carries_the_text_to_where_it_is_looked_for():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    target = build["targets"]["wheel"]["force-include"]["schemas/trade.capnp"]
    assert ROOT / target == load._PLACES[0] / "trade.capnp"


def test_a_text_that_is_nowhere_is_named_with_the_places_looked_at(tmp_path):
    with pytest.raises(SchemaError, match=f"quote.capnp.*{tmp_path}"):
        find_schema("quote.capnp", [tmp_path])


def test_a_path_is_loaded_once_however_it_is_spelt(tmp_path):
    path = tmp_path / "once.capnp"
    path.write_text("@0xc0ffee0000010001;\nstruct Once { a @0 :UInt8; }\n")
    (tmp_path / "sub").mkdir()
    assert load_schema(path) is load_schema(tmp_path / "sub" / ".." / "once.capnp")


def test_a_text_without_a_file_id_is_refused(tmp_path):
    path = tmp_path / "anonymous.capnp"
    path.write_text("# @0xc0ffee0000010002;\nstruct A { a @0 :UInt8; }\n")
    with pytest.raises(SchemaError, match=r"anonymous\.capnp: no file id"):
        load_schema(path)


def test_a_text_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SchemaError, match=r"missing\.capnp: cannot read"):
        load_schema(tmp_path / "missing.capnp")


def test_a_text_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "latin.capnp"
    path.write_bytes(b"# \xe9\n@0xc0ffee0000010003;\n")
    with pytest.raises(SchemaError, match=r"latin\.capnp: cannot read"):
        load_schema(path)


def test_two_texts_with_one_file_id_do_not_abort_the_process(tmp_path):
    # In a process of its own, because pycapnp aborts where it does not like an id.
    text = "@0xc0ffee0000010004;\nstruct Twin { a @0 :UInt8; }\n"
    for name in ("one.capnp", "two.capnp"):
        (tmp_path / name).write_text(text)
    script = (
        "import sys, pathlib\n"
        "from ssmd_core.schema import load_schema\n"
        "one, two = (load_schema(pathlib.Path(path)) for path in sys.argv[1:])\n"
        "message = one.Twin.new_message()\n"
        "message.a = 7\n"
        "with two.Twin.from_bytes(message.to_bytes()) as read:\n"
        "    print(read.a)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "one.capnp", tmp_path / "two.capnp"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "7"), done.stderr
