"""How large a request can turn out to be."""

from dataclasses import replace

import pytest

from router.domain.request import Endpoint, Prompt
from router.selection.extent import TEMPLATE_TOKENS, extent


def test_a_prompt_has_no_more_tokens_than_bytes_nor_than_the_window_holds(fleet, ask) -> None:
    small = fleet.backends[0]
    assert extent(ask(body_bytes=500), small).prompt_tokens == 500 + TEMPLATE_TOKENS
    assert extent(ask(body_bytes=10**6), small).prompt_tokens == small.context_tokens
    several = ask(endpoint=Endpoint.COMPLETIONS, body_bytes=10**6, prompts=3, choices=3)
    assert extent(several, small).prompt_tokens == 3 * small.context_tokens


@pytest.mark.parametrize("what", ["has_images", "has_audio", "has_files"])
def test_a_link_says_nothing_of_the_size_of_what_it_leads_to(fleet, ask, what) -> None:
    small = fleet.backends[0]
    request = replace(ask(body_bytes=500), prompt=Prompt("look", **{what: True}))
    assert extent(request, small).prompt_tokens == small.context_tokens


@pytest.mark.parametrize(
    ("asked", "cap", "tokens"), [(100, 0, 200), (None, 0, 2 * 8192), (None, 1000, 2000), (5000, 1000, 2000), (0, 0, 0)]
)
def test_a_completion_is_as_long_as_asked_or_as_the_backend_allows(fleet, ask, asked, cap, tokens) -> None:
    backend = replace(fleet.backends[0], completion_tokens_max=cap)
    assert extent(ask(completion_tokens_max=asked, choices=2), backend).completion_tokens == tokens


def test_what_generates_nothing_is_bounded_by_its_body(fleet, ask) -> None:
    found = extent(ask(endpoint=Endpoint.EMBEDDINGS, body_bytes=10**6), fleet.backends[0])
    assert found == (10**6 + TEMPLATE_TOKENS, 0, 0.0)


def test_audio_is_as_long_as_its_bytes_can_be(fleet, ask) -> None:
    found = extent(ask(endpoint=Endpoint.TRANSCRIPTIONS, body_bytes=594_000), fleet.backends[0])
    assert (found.audio_seconds, found.prompt_tokens) == (1000.0, 50_001)
