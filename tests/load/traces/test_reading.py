"""Traces come back as they were written, in whichever format, or not at all."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from load.traces import Arrival, read_trace

HEADER = "arrival_seconds,prompt_tokens,completion_tokens\n"


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_the_shipped_trace_is_what_its_readme_says() -> None:
    trace = read_trace()
    assert len(trace) == 3118
    assert trace.arrivals[0] == Arrival(0.198, 958, 89)
    assert 599 < trace.seconds < 600
    assert trace.block_tokens == 0
    prompts, completions = (sorted(arrival[column] for arrival in trace.arrivals) for column in (1, 2))
    assert (prompts[len(trace) // 2], prompts[len(trace) * 9 // 10]) == (1042, 2519)
    assert (completions[len(trace) // 2], completions[len(trace) * 9 // 10]) == (181, 429)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (HEADER, "no requests"),
        ("arrival_seconds,prompt_tokens\n0,1\n", "line 2: no column 'completion_tokens'"),
        (f"{HEADER}0,many,1\n", "line 2: invalid literal"),
        (f"{HEADER}2,1,1\n1,1,1\n", "not in the order"),
        (f"{HEADER}0,1\n", "line 2:"),
        (f"{HEADER}0,0,1\n", "no tokens"),
        ("when,what\n1,2\n", "of no format known here"),
        ("", "of no format known here"),
        ('{"timestamp": 1, "input_length": 5}\n', "line 1: no 'output_length'"),
        ('{"session_id": "a", "input_length": 5, "output_length": 1, "delay": 5}\n', "line 1: no 'a'"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n", "line 2:"),
        ('{"id": "x", "requests": [{"in": 5, "out": 1}]}', "no 'block_size'"),
    ],
)
@pytest.mark.parametrize("name", ["trace.csv.gz", "trace.csv"])
def test_a_file_that_is_no_trace_is_refused_by_name_and_line(tmp_path: Path, name: str, text: str, why: str) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as refusal:
        read_trace(path)
    assert why in str(refusal.value)


def test_sessions_think_times_and_shared_blocks_are_read(tmp_path: Path) -> None:
    text = (
        "request_id,arrival_s,prompt_tokens,output_tokens,session_id,turn,kind,model,think_s,hash_runs\n"
        "0,1.5,130,7,4,0,agent,m,0,1:3\n"
        "1,9,260,0,4,1,agent,m,2.5,1:2;7:3\n"
    )
    trace = read_trace(write(tmp_path / "agents.csv.gz", text))
    assert trace.block_tokens == 64
    assert trace.arrivals == [
        Arrival(1.5, 130, 7, session="4", kind="agent", think_seconds=0.0, blocks=(range(1, 4),)),
        Arrival(9.0, 260, 1, session="4", turn=1, kind="agent", think_seconds=2.5, blocks=(range(1, 3), range(7, 10))),
    ]
    assert list(trace.arrivals[1].block_ids()) == [1, 2, 7, 8, 9]


def test_mooncakes_lines_are_read_and_a_turn_without_a_time_follows_its_predecessor(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": list(range(14))},
        {"timestamp": 3000, "input_length": 7322, "output_length": 490, "hash_ids": [0, *range(14, 28)]},
        {"session_id": "s", "timestamp": 1000, "input_length": 10, "output_length": 1, "hash_ids": [99]},
        {"session_id": "s", "delay": 500, "input_length": 20, "output_length": 1, "hash_ids": [99]},
    ]
    trace = read_trace(write(tmp_path / "trace.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows)))
    assert trace.block_tokens == 512
    assert [arrival.seconds for arrival in trace.arrivals] == [0, 1, 1.5, 3]
    assert trace.arrivals[2] == Arrival(1.5, 20, 1, session="s", turn=1, think_seconds=0.5, blocks=(range(99, 100),))
    assert trace.arrivals[3].blocks == (range(1), range(14, 28))


def test_azures_rows_count_from_the_first_and_requests_without_tokens_are_left_out(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n"
        "2023-11-16 18:15:50.9951690,396,109\n"
        "2023-11-16 18:15:51.0,5,0\n"
    )
    first, second = read_trace(write(tmp_path / "azure.csv", text)).arrivals
    assert first == Arrival(0.0, 374, 44)
    assert second[1:3] == (396, 109)
    assert second.seconds == pytest.approx(4.314579, abs=1e-6)


def test_burstgpts_rows_are_read_with_their_sessions(tmp_path: Path) -> None:
    text = (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,1,2.0,ChatGPT,472,18,490,Conversation log\n"
        "45,1,1.0,ChatGPT,1087,230,1317,Conversation log\n"
        "118,,1.0,GPT-4,417,0,417,API log\n"
        "119,,1.0,GPT-4,417,276,693,API log\n"
    )
    assert read_trace(write(tmp_path / "burst.csv", text)).arrivals == [
        Arrival(0, 472, 18, session="1", kind="chat"),
        Arrival(40, 1087, 230, session="1", turn=1, kind="chat"),
        Arrival(114, 417, 276, kind="api"),
    ]


def test_a_directory_of_agent_sessions_keeps_their_blocks_apart_and_sub_agents_as_chains(tmp_path: Path) -> None:
    for name in ("a.json", "b.json.gz"):
        session = {
            "id": name,
            "block_size": 64,
            "requests": [
                {"t": 0.0, "type": "s", "in": 130, "out": 9, "hash_ids": [1, 2, 3]},
                {"t": 4.0, "type": "subagent", "requests": [{"t": 1.0, "in": 64, "out": 2, "hash_ids": [9]}]},
                {"t": 7.0, "type": "n", "in": 200, "out": 0, "hash_ids": [1, 2, 3, 4], "think_time": 1.5},
            ],
        }
        write(tmp_path / name, json.dumps(session))
    trace = read_trace(tmp_path)
    assert trace.block_tokens == 64
    assert [(arrival.session, arrival.turn, arrival.seconds) for arrival in trace.arrivals] == [
        ("a.json", 0, 0.0), ("b.json.gz", 0, 0.0), ("a.json/1", 0, 5.0), ("b.json.gz/1", 0, 5.0),
        ("a.json", 1, 7.0), ("b.json.gz", 1, 7.0),
    ]  # fmt: skip
    ids = {
        name: {id_ for one in trace.arrivals if one.session.startswith(name) for id_ in one.block_ids()}
        for name in "ab"
    }
    assert len(ids["a"]) == len(ids["b"]) == 5
    assert not ids["a"] & ids["b"]
    last = trace.arrivals[-1]
    assert (last.streams, last.think_seconds, last.completion_tokens, last.kind) == (False, 1.5, 1, "agent")
    assert trace.arrivals[2].kind == "agent-sub"
