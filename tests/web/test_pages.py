"""What a node shows at its HTTP port: health, status, keys, metrics, and its stream."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

from node.app import Node
from node.client import can_listen
from node.config import HttpSection
from node.web.listening import events
from tests.node.test_node import core_of
from tests.web.browse import configs, get, get_json, in_loop, running

TOKEN = "0123456789abcdef"

FAMILIES = [
    "up",
    "node_info",
    "ready",
    "role",
    "has_leader",
    "term",
    "voters",
    "commit_index",
    "applied_index",
    "durable_index",
    "last_index",
    "elections_total",
    "leader_changes_total",
    "peer_up",
    "peer_round_trip_seconds",
    "peer_send_buffer_bytes",
    "peer_refusals_total",
    "proposals_total",
    "proposals_in_flight",
    "proposals_failed_total",
    "batch_commands",
    "batch_bytes_total",
    "batch_seconds",
    "read_runs_total",
    "writes_refused",
    "keys",
    "leases",
    "granted_leases",
    "watches",
    "watches_behind",
    "tracking_clients",
    "tracked_keys",
    "history_keys",
    "history_bytes",
    "event_loop_lag_seconds",
    "fsync_seconds",
    "image_seconds",
    "written_bytes_total",
    "journal_bytes",
    "wal_bytes",
    "snapshot_bytes",
    "snapshot_index",
    "disk_free_bytes",
    "clients",
    "connections_total",
    "connections_rejected_total",
    "requests_total",
    "command_seconds",
    "log_events_total",
]


async def resp(node: Node, *commands: str) -> None:
    """Commands through the client port, answered, one after the other."""
    address = node._config.member.client
    reader, writer = await asyncio.open_connection(address.host, address.port)
    for command in commands:
        writer.write(command.encode() + b"\r\n")
        if (await reader.readline()).startswith(b"$"):
            await reader.readline()
    writer.close()


@in_loop
async def test_health_status_and_keys_of_a_node(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    at = config.member.http
    async with running([config]) as (node,):
        await resp(node, "set a 1", "set b 22 px 60000", "set other 3")
        assert (await get(at, "/healthz"))[0] == 200
        for path in ("/readyz", "/readyz?quorum"):
            assert (await get(at, path))[::2] == (200, b"ready\n")
        status = await get_json(at, "/status")
        assert status.items() >= node.status().items()
        assert (status["keys"], status["leases"], status["ready"]) == (3, 1, True)
        assert status["memory_bytes"] > 10_000_000
        assert [each["id"] for each in status["members"]] == ["n1"]
        keys = await get_json(at, "/keys?limit=2")
        assert keys["total"] == 3
        assert [(each["key"], each["bytes"]) for each in keys["keys"]] == [("a", 1), ("b", 2)]
        assert keys["keys"][0]["left_ms"] is None
        assert 0 < keys["keys"][1]["left_ms"] <= 60_000
        assert [each["key"] for each in (await get_json(at, "/keys?prefix=o"))["keys"]] == ["other"]
        assert (await get(at, "/keys?limit=x"))[0] == 400
        assert (await get(at, "/nothing"))[0] == 404
    assert can_listen(at)


@in_loop
async def test_a_node_that_takes_no_writes_is_not_ready_and_says_why(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    async with running([config]) as (node,):
        core_of(node).batches.refusal = "disk nearly full"
        assert (await get(config.member.http, "/readyz"))[::2] == (
            503,
            b"not ready: disk nearly full\n",
        )
        assert (await get(config.member.http, "/healthz"))[0] == 200
        core_of(node).batches.refusal = None
        core_of(node).raft.is_caught_up = lambda: False
        assert (await get(config.member.http, "/readyz"))[::2] == (
            503,
            b"not ready: not caught up with the leader\n",
        )


@in_loop
async def test_without_a_majority_a_node_is_healthy_and_not_ready(tmp_path: Path) -> None:
    made = configs(tmp_path, count=3)
    async with Node(made[0]):
        assert (await get(made[0].member.http, "/healthz"))[0] == 200
        assert (await get(made[0].member.http, "/readyz"))[::2] == (503, b"not ready: no leader\n")


@in_loop
async def test_with_a_token_readers_need_it_and_the_others_streams_too(tmp_path: Path) -> None:
    made = configs(tmp_path, count=2, token=TOKEN)
    at = made[0].member.http
    async with running(made):
        assert (await get(at, "/status"))[0] == 401
        assert (await get(at, "/metrics", authorization=f"Bearer {TOKEN}"))[0] == 200
        stream = events(at, "/events", TOKEN, 5.0)
        seen = set()
        async for message in stream:  # n1 shows n2 the token as well
            seen.add((message["kind"], message.get("node")))
            if {("history", "n1"), ("history", "n2"), ("sample", "n2")} <= seen:
                break
        assert ("view", None) in seen
        await stream.aclose()


@in_loop
async def test_the_stream_of_all_nodes_tells_of_one_that_dies_and_comes_back(
    tmp_path: Path,
) -> None:
    made = configs(tmp_path, count=3)
    async with running(made) as nodes:
        follower = next(each for each in nodes[1:] if each.status()["role"] != "leader")
        name = follower._config.node.id
        stream = events(made[0].member.http, "/events", "", 5.0)
        first = await anext(stream)
        assert (first["kind"], first["via"], first["lab"]) == ("view", "n1", False)
        assert [each["id"] for each in first["members"]] == ["n1", "n2", "n3"]
        terms = set()
        stopped = False
        async for message in stream:
            if message["kind"] == "sample" and message["node"] == name:
                assert message["role"] in ("follower", "candidate")
                terms.add(message["term"])
                if not stopped:
                    await follower.stop()
                    stopped = True
            if message["kind"] == "down":
                assert message["node"] == name
                break
        assert terms
        await follower.start()
        async for message in stream:
            if message["kind"] == "history" and message["node"] == name:
                assert any('"role"' in json.dumps(each) for each in message["samples"])
                break
        await stream.aclose()


@in_loop
async def test_a_leaders_samples_show_its_peers_and_its_speed(tmp_path: Path) -> None:
    made = configs(tmp_path, count=3)
    async with running(made) as nodes:
        leader = next(each for each in nodes if each.status()["role"] == "leader")
        await resp(leader, *(f"set k{number} v" for number in range(20)))
        stream = events(leader._config.member.http, "/stream", "", 5.0)
        history = await anext(stream)
        assert any(each["event"] == "role" for each in history["events"])
        samples = history["samples"]
        while not any(each["write_p99"] for each in samples):
            samples.append(await anext(stream))
        await stream.aclose()
        sample = next(each for each in samples if each["write_p99"])
        assert sample["ops"] > 0
        assert sample["write_p50"] <= sample["write_p99"]
        acked = {name: peer["acked"] for name, peer in sample["peers"].items()}
        assert len(acked) == 2
        assert all(peer["up"] for peer in sample["peers"].values())
        assert max(acked.values()) >= sample["commit"] > 0


@in_loop
async def test_every_metric_is_there_and_counts(tmp_path: Path) -> None:
    made = configs(tmp_path, count=2)
    async with running(made) as nodes:
        leader = next(each for each in nodes if each.status()["role"] == "leader")
        await resp(leader, "set a 1", "get a", "get a", "incr n", "ping")
        at = leader._config.member.http
        status, headers, body = await get(at, "/metrics")
        assert (status, headers["content-type"]) == (
            200,
            "text/plain; version=0.0.4; charset=utf-8",
        )
        text = body.decode()
    found = set(re.findall(r"^# TYPE trimaran_(\w+) ", text, re.MULTILINE))
    assert found >= set(FAMILIES)
    assert found - set(FAMILIES) == {"peer_lag_entries"}
    for line in (
        'trimaran_command_seconds_count{command="get"} 2',
        'trimaran_command_seconds_count{command="set"} 1',
        'trimaran_command_seconds_count{command="incr"} 1',
        'trimaran_command_seconds_count{command="ping"} 1',
        "trimaran_requests_total 5",
        "trimaran_proposals_total 2",
        "trimaran_batch_seconds_count 2",
        'trimaran_read_runs_total{level="linearizable"} 2',
        'trimaran_role{role="leader"} 1',
        "trimaran_elections_total 1",
        "trimaran_keys 2",
        "trimaran_history_keys 2",
    ):
        assert f"{line}\n" in text, line
    fsyncs = re.search(r'trimaran_fsync_seconds_count\{place="journal"\} (\d+)', text)
    assert fsyncs is not None
    assert int(fsyncs[1]) >= 2
    ticks = re.search(r"trimaran_event_loop_lag_seconds_count (\d+)", text)
    assert ticks is not None
    assert int(ticks[1]) > 10
    promtool = shutil.which("promtool")
    if promtool is not None:
        checked = await asyncio.create_subprocess_exec(
            promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT
        )
        said, _ = await checked.communicate(body)
        assert (checked.returncode, said) == (0, b"")


@in_loop
async def test_without_the_port_nothing_listens_there(tmp_path: Path) -> None:
    (config,) = configs(tmp_path)
    object.__setattr__(config, "http", HttpSection(enabled=False))
    async with running([config]):
        assert can_listen(config.member.http)
