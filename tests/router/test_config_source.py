"""What can be said of a YAML file before its shape is known."""

from pathlib import Path

import pytest

from router.config_source import ConfigRefused, looks_secret, read_source

# A text, and the line:column, finding and remedy that it must bring.
MISTAKES = {
    "a member set twice": (
        "port: 1\nhost: a\nport: 2\n",
        "3:1: `port` is set twice (first in line 1); keep one of them",
    ),
    "a nested member set twice": ("a:\n  b: 1\n  b: 2\n", "3:3: `b` is set twice (first in line 2); keep one of them"),
    "a name that YAML takes for a truth value": ("on: 1\n", "1:1: `on` is not the name of a member; put it in quotes"),
    "a name that is a number": ("a:\n  8080: x\n", "2:3: `8080` is not the name of a member; put it in quotes"),
    "a name that is a list": ("? [a, b]\n: 1\n", "1:3: this is not the name of a member; put it in quotes"),
    "a date that is none": ("a: 2026-13-45\n", "1:4: `2026-13-45` cannot be read; put it in quotes if it is text"),
    "an octal number": ("usd: 010\n", "1:6: `010` is a number of another base to YAML; write it in decimal"),
    "a number to the base of 16": ("usd: 0x10\n", "1:6: `0x10` is a number of another base to YAML"),
    "a number to the base of 60": ("usd: 1:30\n", "1:6: `1:30` is a number of another base to YAML"),
    "a fraction to the base of 60": ("usd: 1:30.5\n", "1:6: `1:30.5` is a number of another base to YAML"),
    "a merge of a scalar": ("a:\n  <<: b\n", "2:7: `<<` merges what is not a mapping; name a mapping"),
    "OpenAI's key": (
        "a: sk-proj-AbCdEfGh12345678\n",
        "1:4: what looks like a secret stands here in clear text; take it out",
    ),
    "a key in a comment": ("a: 1  # was sk-jeton-AbCdEfGh12345678\n", "1:13: what looks like a secret stands here"),
    "a bearer token": ('a: "Bearer abcdefghijklmnop"\n', "1:5: what looks like a secret"),
    "Hugging Face's token": ("a: hf_abcdefghijklmnopqrstuvwx\n", "1:4: what looks like a secret"),
    "a private key": ("a: |\n  -----BEGIN RSA PRIVATE KEY-----\n", "2:3: what looks like a secret"),
}

# Texts of which nothing can be read.
UNREADABLE = {
    "a tag that builds": ("a: !!python/object/apply:os.system [id]\n", "1:4: is not valid YAML: the tag"),
    "a tag of one's own": ("a: !secret b\n", "1:4: is not valid YAML: the tag !secret is not accepted; remove it"),
    "a standard tag": ("a: !!binary aGk=\n", "1:4: is not valid YAML: the tag"),
    "a tab": ("a:\n\tb: 1\n", "2:1: is not valid YAML: while scanning for the next token found character '\\t'"),
    "a quote without its end": ('a: "b\n', "2:1: is not valid YAML: while scanning a quoted scalar"),
    "bad indentation": ("a:\n  b: 1\n c: 2\n", "3:2: is not valid YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "2:1: is not valid YAML"),
    "an alias of nothing": ("a: *b\n", "1:4: is not valid YAML: found undefined alias 'b'"),
    "a control character": ("a: \x01\n", "1:1: is not valid YAML"),
    "an alias of itself": ("a: &a [*a, *a]\n", "1:4: is nested or repeated without end; write out"),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_told_with_its_place_and_remedy(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(text)
    (mistake,) = read_source(path).mistakes
    assert str(mistake).startswith(f"{path}:{expected}")


@pytest.mark.parametrize(("text", "expected"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(text)
    with pytest.raises(ConfigRefused) as refusal:
        read_source(path)
    assert str(refusal.value).startswith(f"{path}:{expected}")


def test_every_mistake_is_told_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text("a: 1\nyes: 2\na: 3\nb: sk-jeton-AbCdEfGh12345678\n")
    mistakes = ConfigRefused(read_source(path).mistakes).mistakes
    assert [mistake.line for mistake in mistakes] == [2, 3, 4]


def test_a_secret_is_never_repeated(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text("sk-jeton-AbCdEfGh12345678: [sk-jeton-AbCdEfGh12345678\n")
    with pytest.raises(ConfigRefused) as refusal:
        read_source(path)
    assert "AbCdEfGh" not in str(refusal.value)


@pytest.mark.parametrize("number", ["0", "10", "-0.5", "1_000", "1.0e+3", "0.10", "'010'", "22:00-06:00", "2026-01-01"])
def test_what_is_read_as_it_is_written_is_no_mistake(tmp_path: Path, number: str) -> None:
    (tmp_path / "router.yaml").write_text(f"a: {number}\n")
    assert read_source(tmp_path / "router.yaml").mistakes == ()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefused, match=r"nowhere\.yaml:1:1: cannot be read \(No such file or directory\)"):
        read_source(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigRefused, match="cannot be read"):
        read_source(tmp_path)


def test_bytes_that_are_not_utf8_are_refused_where_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(ConfigRefused, match=r"router\.yaml:2:7: is not UTF-8; save the file as UTF-8"):
        read_source(path)


def test_repetition_by_aliases_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigRefused, match="nested or repeated without end"):
        read_source(path)


def test_depth_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    for depth in (100, 10_000):
        path.write_text("a: " + "[" * depth + "]" * depth)
        with pytest.raises(ConfigRefused, match="is nested"):
            read_source(path)


def test_anchors_and_merges_are_plain_values_with_their_own_places(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text("one: &one\n  port: 1\n  host: a\ntwo:\n  <<: *one\n  port: 2\nthree: *one\n")
    source = read_source(path)
    assert source.mistakes == ()
    assert source.value == {
        "one": {"port": 1, "host": "a"},
        "two": {"port": 2, "host": "a"},
        "three": {"port": 1, "host": "a"},
    }
    assert str(source.finding(("two", "port"), "x")).startswith(f"{path}:6:9: ")
    assert str(source.finding(("two", "host"), "x")).startswith(f"{path}:3:9: ")


def test_a_place_that_the_file_has_not_is_what_stands_around_it(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text("pools:\n  - name: edge\n")
    source = read_source(path)
    assert source.finding(("pools", 0, "price"), "x").line == 2
    assert source.finding(("pools", 0, "a union's branch", "name"), "x").column == 11
    assert (source.finding(("nothing",), "x").line, source.finding(("nothing",), "x").column) == (1, 1)


@pytest.mark.parametrize("text", ["sk-…", "sk-YOUR-KEY", "central-small", "mock-8b", "risk-assessment-model-2026-01"])
def test_names_and_placeholders_are_no_secrets(tmp_path: Path, text: str) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(f"a: x  # {text}\n")
    assert read_source(path).mistakes == ()


def test_a_value_that_begins_like_a_key_is_never_shown() -> None:
    assert looks_secret("sk-test")
    assert not looks_secret("risk-test")
