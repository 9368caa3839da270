"""Which addresses of media an engine may be sent to fetch: in whatever notation, wherever in the body."""

from typing import Any

import pytest
from payloads import PIXEL

from router.errors import BadRequest
from router.wire.media import MediaRules, is_public, media_hosts

ANYWHERE = MediaRules(frozenset({"*"}))
LISTED = MediaRules(frozenset({"images.example.org", "10.1.2.3", "fd00::1", "store"}))

REFUSED_EVERYWHERE = [
    "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/",
    "http://017700000001/", "http://127.0.0.1./", "http://0/", "http://0.0.0.0/", "http://[::1]/", "http://[::]/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
    "http://[64:ff9b::a9fe:a9fe]/", "http://[2002:7f00:1::]/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/",
    "http://169.254.169.254/latest/meta-data/", "http://0xa9fea9fe/", "http://2852039166/", "http://169.254.43518/",
    "http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.1.1/", "http://100.64.0.1/", "http://[fd00::2]/",
    "http://224.0.0.1/", "http://255.255.255.255/", "http://localhost/", "http://LOCALHOST./", "http://a.localhost/",
    "http://metadata/", "http://metadata.google.internal/", "http://vllm.models.svc/", "http://printer.local/",
    "http://1.2.3.4.0x5/", "http://1.2.3.999/", "http://08.1.1.1/",
    "file:///etc/passwd", "FILE:///etc/passwd", "ftp://images.example.org/", "gopher://x/", "javascript:1",
    "//images.example.org/x", "/etc/passwd", "images.example.org/x.png", "", "http:/images.example.org/",
    "http:images.example.org",
    "http:///images.example.org/", "http://", "http://@127.0.0.1/", "http://images.example.org@127.0.0.1/",
    "http://images.example.org:80@127.0.0.1/", "http://127.0.0.1#@images.example.org/",
    "http://images.example.org#@127.0.0.1/", "http://images.example.org\\@127.0.0.1/", "http:\\\\127.0.0.1\\",
    " http://127.0.0.1/", "http://images.example.org /", "http://images.example.org\t.evil/", "http://images.example.org\n/",
    "http://127.0.0.1%2f@images.example.org/", "http://images%2eexample.org/", "http://ⓛocalhost/", "http://１２７.0.0.1/",
    "http://images.example.org。evil/", "http://a..b.example/", "http://-a.example/", "http://images.example.org:x/",
    "dat:,", "data", "http://[127.0.0.1]/", "http://[::1/", "http://::1/", "view-source:http://images.example.org/",
]  # fmt: skip


def look(url: object, name: str = "image_url") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": name, name: {"url": url}}]}]}


@pytest.mark.parametrize("url", REFUSED_EVERYWHERE)
def test_what_may_not_be_fetched_in_any_notation(url: str) -> None:
    for rules in (MediaRules(), LISTED, ANYWHERE):
        with pytest.raises(BadRequest, match="may not be fetched") as raised:
            media_hosts(look(url), rules)
        assert raised.value.param == "messages"
        assert url in ("", "data", "dat:,") or url not in raised.value.message


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://upload.example.com/a.png?x=1#y", "upload.example.com"),
        ("HTTP://Upload.Example.COM:8080", "upload.example.com"),
        ("https://upload.example.com./a@b:c", "upload.example.com."),
        ("https://xn--bcher-kva.example/ü", "xn--bcher-kva.example"),
    ],
)
def test_a_public_name_is_fetched_from_where_everything_is_allowed_once_it_is_looked_up(url: str, host: str) -> None:
    assert media_hosts(look(url), ANYWHERE) == {host}
    for rules in (MediaRules(), LISTED):
        with pytest.raises(BadRequest):
            media_hosts(look(url), rules)


def test_public_addresses_need_no_look_up() -> None:
    assert media_hosts(look("http://93.184.215.14/a.png"), ANYWHERE) == frozenset()
    assert media_hosts(look("http://[2606:2800:21f:cb07::1]/a.png"), ANYWHERE) == frozenset()


@pytest.mark.parametrize(
    "url",
    [
        "https://images.example.org/a",
        "http://IMAGES.example.org:81/a",
        "http://10.1.2.3/",
        "http://[FD00:0::1]/",
        "http://store/x",
    ],
)
def test_a_listed_host_is_the_operators_word(url: str) -> None:
    assert media_hosts(look(url), LISTED) == frozenset()


@pytest.mark.parametrize(
    "url", ["https://a.images.example.org/", "https://images.example.org.evil.example/", "http://10.1.2.4/"]
)
def test_what_is_like_a_listed_host_is_not_listed(url: str) -> None:
    with pytest.raises(BadRequest, match=r"of 10\.1\.2\.3, fd00::1, images\.example\.org, store"):
        media_hosts(look(url), LISTED)


EVIL = "http://169.254.169.254/"


@pytest.mark.parametrize(
    "members",
    [
        look(EVIL),
        look(EVIL, "audio_url"),
        look(EVIL, "video_url"),
        {"messages": [{"role": "user", "content": [{"image_url": EVIL}]}]},
        {"messages": [{"role": "tool", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": EVIL}]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": EVIL}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": EVIL, "format": "wav"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": EVIL}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": EVIL}}]}]},
        {"messages": [{"content": [{"type": "tool_result", "content": [{"source": {"type": "url", "url": EVIL}}]}]}]},
        {"system": [{"type": "image", "source": {"type": "url", "url": EVIL}}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": EVIL}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": EVIL}]}]},
        {"input": [{"type": "function_call_output", "output": [{"type": "input_image", "image_url": EVIL}]}]},
        {"query": "x", "documents": [{"content": [{"type": "image_url", "image_url": {"url": EVIL}}]}]},
        {"data_1": {"content": [{"type": "video_url", "video_url": {"url": EVIL}}]}},
    ],
)  # fmt: skip
def test_an_address_is_found_wherever_it_stands(members: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        media_hosts(members, ANYWHERE)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": f"what is at {EVIL}?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "image_url", "image_url": PIXEL.replace("data:", "DATA:")},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url", "image_url": None},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "file", "file": {"file_id": "file-1", "file_data": "data:application/pdf;base64,AA=="}},
        {"type": "tool_use", "name": "fetch", "input": {"url": EVIL, "image_url": EVIL}},
        {"type": "output_text", "text": "x", "annotations": [{"type": "url_citation", "url": EVIL}]},
    ],
)
def test_what_is_no_address_of_media_passes(part: dict[str, Any]) -> None:
    assert media_hosts({"messages": [{"role": "user", "content": [part]}]}, MediaRules()) == frozenset()


@pytest.mark.parametrize(
    ("address", "is_so"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07::1", True),
        ("127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("100.64.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("2001:0:7f00:1::", False),
        ("240.0.0.1", False),
        ("no address", False),
    ],
)
def test_an_address_is_public_if_anybody_can_reach_it(address: str, is_so: bool) -> None:
    assert is_public(address) is is_so
