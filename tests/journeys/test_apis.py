"""The endpoints beside chat: responses, messages, embeddings, rerank, score, audio, tokenize. Each is answered, and booked."""

from collections.abc import AsyncIterator
from typing import Any

from payloads import HELLO, form, sound
from whole_app import WholeApp


async def test_a_response_is_whole_or_streamed_by_the_same_text(jeton: WholeApp) -> None:
    answer = await jeton.sdk.responses.create(model="small-model", input="Say hello.", max_output_tokens=9)
    stream = await jeton.sdk.responses.create(model="small-model", input="Say hello.", max_output_tokens=9, stream=True)
    events = [event async for event in stream]
    charges = await jeton.charges()
    assert answer.model == "small-model"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == answer.output_text
    assert [event.type for event in events][-1] == "response.completed"
    assert answer.usage is not None
    for charge in charges:
        assert charge["endpoint"] == "responses"
        assert (charge["prompt_tokens"], charge["completion_tokens"]) == (answer.usage.input_tokens, 9)
        assert (charge["status"], charge["usage_source"]) == ("ok", "provider")


async def test_a_message_is_whole_or_streamed_by_the_same_text(jeton: WholeApp) -> None:
    body = {"model": "small-model", "messages": HELLO, "max_tokens": 9}
    key = {"x-api-key": jeton.api_key, "anthropic-version": "2023-06-01"}
    whole = (await jeton.http.post("/v1/messages", json=body, headers=key)).json()
    stream = (await jeton.http.post("/v1/messages", json={**body, "stream": True}, headers=key)).text
    charges = await jeton.charges()
    assert whole["model"] == "small-model"
    assert whole["content"][0]["type"] == "text"
    assert stream.count("event: content_block_delta") >= 1
    assert stream.rstrip().rpartition("event: ")[2].startswith("message_stop")
    for charge in charges:
        assert charge["endpoint"] == "messages"
        assert (charge["prompt_tokens"], charge["completion_tokens"]) == (whole["usage"]["input_tokens"], 9)
        assert (charge["status"], charge["usage_source"]) == ("ok", "provider")


async def test_embeddings_come_back_in_both_encodings(jeton: WholeApp) -> None:
    floats = await jeton.sdk.embeddings.create(model="embed-model", input=["one", "two"], encoding_format="float")
    packed = await jeton.sdk.embeddings.create(model="embed-model", input=["one", "two"])  # the SDK asks for base64
    assert [len(row.embedding) for row in floats.data] == [128, 128]
    assert packed.data[0].embedding[0] == floats.data[0].embedding[0]
    assert [charge["completion_tokens"] for charge in await jeton.charges()] == [0, 0]


async def test_rerank_and_score_are_served_under_all_their_paths(jeton: WholeApp) -> None:
    rerank = {"model": "embed-model", "query": "cats", "documents": ["a dog", "cats"], "top_n": 1}
    score = {"model": "embed-model", "text_1": "cats", "text_2": ["a dog", "cats"]}
    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        answer = await jeton.http.post(path, json=rerank)
        assert [row["index"] for row in answer.json()["results"]] == [1]
    for path in ("/v1/score", "/score"):
        answer = await jeton.http.post(path, json=score)
        assert len(answer.json()["data"]) == 2
    assert [charge["endpoint"] for charge in await jeton.charges()] == ["rerank"] * 3 + ["score"] * 2


async def test_a_sound_is_written_down_and_translated(jeton: WholeApp) -> None:
    file = ("sound.wav", sound(2))
    text = await jeton.sdk.audio.transcriptions.create(model="audio-model", file=file)
    english = await jeton.sdk.audio.translations.create(model="audio-model", file=file)
    assert text.text
    assert english.text
    charges = await jeton.charges()
    assert [charge["endpoint"] for charge in charges] == ["transcriptions", "translations"]
    assert {(charge["status"], charge["cost_status"]) for charge in charges} == {("ok", "priced")}


async def test_a_transcription_is_streamed_and_its_forced_usage_is_not_seen(jeton: WholeApp) -> None:
    stream: Any = await jeton.sdk.audio.transcriptions.create(
        model="audio-model", file=("sound.wav", sound(2)), stream=True
    )
    events = [event async for event in stream]
    (charge,) = await jeton.charges()
    assert events
    assert all("usage" not in event.model_fields_set for event in events)
    assert (charge["status"], charge["usage_source"]) == ("ok", "provider")
    assert charge["completion_tokens"] > 0


async def test_a_form_may_have_its_file_first_and_its_model_last(jeton: WholeApp) -> None:
    body = form(("file", sound()), ("language", "en"), ("unknown", "ü"), ("model", "audio-model"))
    answer = await jeton.http.post(
        "/v1/audio/transcriptions", content=body, headers={"content-type": "multipart/form-data; boundary=limit"}
    )
    assert answer.status_code == 200, answer.text
    (seen,) = [seen for seen in jeton.replica("audio").requests_seen if seen.path.startswith("/v1/audio")]
    assert sound() in seen.body
    assert b'name="model"\r\n\r\nscribe\r\n' in seen.body
    assert b'name="unknown"\r\n\r\n\xc3\xbc\r\n' in seen.body
    assert b"audio-model" not in seen.body


async def test_a_large_form_goes_on_while_it_arrives(jeton: WholeApp) -> None:
    """The attempt is under way before the client has sent it all."""
    body = form(("model", "audio-model"), ("file", sound(30)))
    client = await jeton.raw()
    head = jeton.request(
        "/v1/audio/transcriptions", body, content_type="multipart/form-data; boundary=limit"
    ).removesuffix(body)
    client.send(head + body[: len(body) // 2])
    await jeton.until(lambda: jeton.in_flight == {"audio/1": 1})
    client.send(body[len(body) // 2 :])
    status, _, answer = await client.answer()
    assert status == 200, answer


async def test_a_form_of_unknown_length_is_taken_too(jeton: WholeApp) -> None:
    body = form(("model", "audio-model"), ("file", sound()))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    answer = await jeton.http.post(
        "/v1/audio/transcriptions", content=pieces(), headers={"content-type": "multipart/form-data; boundary=limit"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["text"]


async def test_a_form_without_a_model_or_an_end_is_refused(jeton: WholeApp) -> None:
    headers = {"content-type": "multipart/form-data; boundary=limit"}
    nameless = await jeton.http.post("/v1/audio/transcriptions", content=form(("file", sound())), headers=headers)
    cut = await jeton.http.post(
        "/v1/audio/transcriptions", content=form(("model", "audio-model"), ("file", sound()))[:-12], headers=headers
    )
    kindless = await jeton.http.post("/v1/audio/transcriptions", json={"model": "audio-model"})
    assert (nameless.status_code, nameless.json()["error"]["param"]) == (400, "model")
    assert cut.status_code == 400
    assert kindless.status_code == 400


async def test_tokenize_counts_and_costs_nothing_by_the_token(jeton: WholeApp) -> None:
    answer = (await jeton.http.post("/tokenize", json={"model": "small-model", "prompt": "Hello, world"})).json()
    (charge,) = await jeton.charges()
    assert answer["count"] == len(answer["tokens"]) > 0
    assert (charge["endpoint"], charge["status"]) == ("tokenize", "ok")
    assert (charge["prompt_tokens"], charge["completion_tokens"]) == (0, 0)
