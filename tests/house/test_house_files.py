from __future__ import annotations

import re

import pytest

# In parts, so that this file does not hold what it looks for.
MACHINE = re.compile(
    "|".join(
        [
            r"(?<![\w.])/ho" + r"me/\w+/",
            r"(?<![\w.])/Us" + r"ers/\w+/",
            r"(?<![\w.])/ro" + r"ot/[\w.]",
            r"(?<![\w.])/wo" + r"rk/(?:main|shared)",
            r"(?<![\w.])/tm" + r"p/[\w.]",
            r"C:\\Us" + r"ers",
        ]
    )
)
REGISTRY = re.compile(
    "|".join(
        [
            r"https?://[\w.-]*/?\w*/simp" + r"le\b",
            r"files\.python" + r"hosted",
            r"pypi\.o" + r"rg",
            r"test\.py" + r"pi",
            r"registry\.npm" + r"js",
            r"index-u" + r"rl\s*=",
            r"\[\[tool\.uv\.in" + r"dex",
        ]
    )
)


def texts(tracked):
    for path in tracked:
        try:
            yield path, path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


def found(pattern, root, tracked):
    return [
        f"{path.relative_to(root)}:{number}: {line.strip()[:100]}"
        for path, text in texts(tracked)
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_path_of_somebodys_machine(root, tracked):
    assert found(MACHINE, root, tracked) == []


def test_no_file_names_the_host_of_a_package_registry(root, tracked):
    assert found(REGISTRY, root, tracked) == []


@pytest.mark.parametrize(
    "line",
    ["cd /ho" + "me/ann/ssmd", "see /ro" + "ot/.cache", "out: /tm" + "p/x", "/wo" + "rk/main/x"],
)
def test_the_pattern_finds_the_path_of_a_machine(line):
    assert MACHINE.search(line)


@pytest.mark.parametrize("line", ["/homepage/x", "path: /data", "https://host/home/x", "a/tmp/b"])
def test_the_pattern_lets_other_paths_be(line):
    assert not MACHINE.search(line)


@pytest.mark.parametrize(
    "line",
    ["https://py" + "pi.org/simple", "index-u" + "rl = x", "https://mirror.example/simp" + "le"],
)
def test_the_pattern_finds_a_registry(line):
    assert REGISTRY.search(line)


def test_no_lock_file_is_tracked(root, tracked):
    # It would hold the address of whatever registry its author uses.
    assert [path for path in tracked if path.name == "uv.lock"] == []


def test_no_tests_folder_is_a_package(root, tracked):
    # With __init__.py pytest collects one file under several names.
    packages = [path for path in tracked if path.name == "__init__.py" and "tests" in path.parts]
    assert [path for path in packages if "src" not in path.parts] == []


def test_no_tracked_file_is_large(root, tracked):
    sizes = {str(path.relative_to(root)): path.stat().st_size for path in tracked}
    assert {name: size for name, size in sizes.items() if size > 1_000_000} == {}
