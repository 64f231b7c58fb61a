from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ssmd_core.config.document import parse_document, read_document
from ssmd_core.errors import ConfigError


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "x.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.yaml: is empty"),
        ("# only this\n", "x.yaml: is empty"),
        ("- a\n", "x.yaml:1: must be a mapping of keys to values"),
        ("\nword\n", "x.yaml:2: must be a mapping of keys to values"),
        ("a:\n\tb: 1\n", "x.yaml:2: is not YAML: a tab; indent with spaces"),
        ("a: 1\n---\nb: 2\n", "x.yaml:2: is not YAML: expected a single document in the stream"),
        ("a: b: c\n", "x.yaml:1: is not YAML: mapping values are not allowed here"),
        (
            "a: *b\n",
            "x.yaml:1: is not YAML: an alias without its anchor; put a value that begins",
        ),
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3: a: duplicate key, first on line 1; remove one"),
        ("a: {b: 1, b: 2}\n", "x.yaml:1: a.b: duplicate key, first on line 1; remove one"),
        ("a:\n  - .nan\n", "x.yaml:2: a[0]: .nan is not a number to configure with"),
        ("a: -.inf\n", "x.yaml:1: a: -.inf is not a number to configure with"),
        ("a: !!python/name:os.system x\n", "x.yaml:1: a: tags are not supported"),
        (
            "a: !secret x\n",
            "x.yaml:1: a: tags are not supported; put a value that begins with `!` in quotes",
        ),
        ("? [a]\n: 1\n", "x.yaml:1: a key must be text"),
        ("a: &a [*a]\n", "is nested too deeply"),
        ("a: \x07\n", "x.yaml: is not YAML"),
        ("a: " + "[" * 1100, "x.yaml: is not YAML, or nested too deeply"),
        ("a: {<<: 5}\n", "x.yaml:1: a: `<<` merges mappings only"),
    ],
)
def test_what_is_no_yaml_mapping_is_refused(text, message):
    assert message in complaint(text)


def test_aliases_cannot_grow_without_limit():
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "grows through aliases" in complaint("a0: &a0 x\n" + "\n".join(levels))


def test_words_of_yaml_1_1_stay_text():
    document = parse_document("a: no\nb: on\nc: 12:30\nd: 010\ne: 0x1F\nf: 2026-01-01\n", "x")
    assert document.data == {
        "a": "no",
        "b": "on",
        "c": "12:30",
        "d": 10,
        "e": 31,
        "f": "2026-01-01",
    }


def test_anchors_and_merges_are_read_and_own_keys_win():
    text = "base: &base {a: 1, b: 2}\nhere: {<<: *base, b: 3}\nboth: {<<: [*base, {a: 9, c: 4}]}\n"
    data = parse_document(text, "x").data
    assert data["here"] == {"a": 1, "b": 3}
    assert data["both"] == {"a": 1, "b": 2, "c": 4}


def test_every_key_has_its_line():
    document = parse_document("a:\n  - b: 1\n    c: 2\n\nd: 3\n", "x")
    lines = {path: mark.line for path, mark in document.marks.items()}
    assert lines == {
        (): 1,
        ("a",): 1,
        ("a", 0): 2,
        ("a", 0, "b"): 2,
        ("a", 0, "c"): 3,
        ("d",): 5,
    }


def test_a_repr_holds_no_value():
    assert "hunter2" not in repr(parse_document("password: hunter2\n", "x"))


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is a directory"):
        read_document(tmp_path)


def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigError, match=r"x\.yaml:2: is not UTF-8 text"):
        read_document(file)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(file).data == {"a": 1}


def test_a_huge_file_is_refused(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(b"a: 1\n" + b"#" * 1024 * 1024)
    with pytest.raises(ConfigError, match="is larger than"):
        read_document(file)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_never_crashes(text):
    try:
        told = repr(type(parse_document(text, "x.yaml").data))
    except ConfigError as error:
        told = str(error)
    assert told.startswith(("x.yaml:", "<class 'dict'>"))


WORDS = st.text(st.characters(codec="ascii", min_codepoint=97, max_codepoint=122), min_size=1)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(WORDS, VALUES, min_size=1, max_size=4))
def test_plain_values_are_read_as_they_were_written(tree):
    stream = StringIO()
    YAML(typ="safe", pure=True).dump(tree, stream)
    assert parse_document(stream.getvalue(), "x.yaml").data == tree
