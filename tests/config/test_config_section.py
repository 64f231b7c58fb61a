from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from ssmd_core.config.document import parse_document
from ssmd_core.config.section import Section
from ssmd_core.errors import ConfigError


def even(number: int) -> int:
    if number % 2:
        raise ValueError("must be even")
    return number


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    ca: str


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: str | list[str]
    mode: Literal["fast", "safe"] = "safe"
    window: Annotated[int, Field(gt=0), AfterValidator(even)] = 2
    password: SecretStr | None = None
    tls: Inner | None = None
    pair: tuple[int, ...] = ()


def section(text: str) -> Section:
    document = parse_document("transport:\n" + text, "env.yaml")
    return Section(
        file="env.yaml", path=("transport",), data=document.data["transport"], marks=document.marks
    )


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        section(text).validate(Model)
    return str(caught.value)


def test_a_valid_section_becomes_its_model():
    found = section("  url: [a, b]\n  tls: {ca: x}\n  window: 4\n").validate(Model)
    assert found == Model(url=["a", "b"], tls=Inner(ca="x"), window=4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "  url: a\n  windw: 3\n",
            (
                "env.yaml:3: transport.windw: unknown key; did you mean `window`? "
                "allowed: url, mode, window, password, tls, pair"
            ),
        ),
        ("  window: 2\n", "env.yaml:1: transport.url: is missing"),
        (
            "  url: 5\n",
            (
                "env.yaml:2: transport.url: must be text, not a number or "
                "must be a list, not a number"
            ),
        ),
        (
            "  url: a\n  mode: fats\n",
            (
                "env.yaml:3: transport.mode: `fats` is not known; did you mean `fast`? "
                "allowed: fast, safe"
            ),
        ),
        ("  url: a\n  window: 0\n", "env.yaml:3: transport.window: must be greater than 0"),
        ("  url: a\n  window: 3\n", "env.yaml:3: transport.window: must be even"),
        (
            "  url: a\n  tls:\n    caa: x\n",
            "env.yaml:4: transport.tls.caa: unknown key; did you mean `ca`? allowed: ca",
        ),
        (
            "  url: a\n  tls: yes\n",
            "env.yaml:3: transport.tls: must be a mapping of keys to values, not text",
        ),
        (
            "  url: a\n  pair: [1, x]\n",
            (
                "env.yaml:3: transport.pair[1]: must be a valid integer, "
                "unable to parse string as an integer"
            ),
        ),
        ("  url: a\n  pair: 1\n", "env.yaml:3: transport.pair: must be a list, not a number"),
    ],
)
def test_a_fault_is_told_with_file_line_key_and_what_is_allowed(text, message):
    assert message in complaint(text).splitlines()


def test_an_error_holds_no_secret():
    text = complaint("  url: {hunter2: x}\n  password: [hunter2]\n  tls: hunter2\n")
    assert "hunter2" not in text
    assert len(text.splitlines()) == 3


def test_a_repr_holds_no_value():
    assert "hunter2" not in repr(section("  password: hunter2\n"))


def test_a_default_is_set_only_where_nothing_is_given():
    assert section("  url: a\n").with_default("url", "b").data["url"] == "a"
    assert section("  url:\n").with_default("url", "b").data["url"] == "b"
    assert section("  mode: fast\n").with_default("url", "b").data["url"] == "b"


def test_a_key_that_is_given_empty_is_not_there():
    assert not section("  url:\n  mode: ''\n").has("url", "mode")
    assert section("  url: x\n").has("url", "mode")
