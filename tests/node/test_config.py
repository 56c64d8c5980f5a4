"""Configuration: what is read, what is refused, and that configs/node.toml tells the truth."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest

from node.config import SECTIONS, Address, Config, Member, NodeSection, RaftSection
from node.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
NODE_TOML = ROOT / "configs/node.toml"

MEMBERS = """
[[cluster.members]]
id = "n1"
peer = "127.0.0.1:8001"
client = "127.0.0.1:7001"
http = "127.0.0.1:9001"
"""
MINIMAL = '[node]\nid = "n1"\ndata_dir = "data/n1"\n' + MEMBERS


def load(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return Config.load(path, overrides)


def problems(tmp_path: Path, text: str, *overrides: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    return dict(caught.value.problems)


def documented() -> dict[str, dict[str, Any]]:
    document = tomllib.loads(NODE_TOML.read_text(encoding="utf-8"))
    document.pop("cluster")
    return document


# --- configs/ and the code ---------------------------------------------------------------


def test_every_key_of_the_code_stands_in_node_toml_at_its_default() -> None:
    document = documented()
    for name, section in SECTIONS.items():
        if section is not NodeSection:  # Its keys have no defaults.
            defaults = {key: getattr(section(), key) for key in section.__annotations__}
            assert defaults == document[name], name


def test_every_key_of_node_toml_is_one_of_the_code() -> None:
    for name, table in documented().items():
        assert set(table) == set(SECTIONS[name].__annotations__)


def test_node_toml_explains_every_section_or_key_before_it() -> None:
    explained = False
    for line in NODE_TOML.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            explained = False
        elif line.startswith("#"):
            explained = True
        elif "=" in line:
            assert explained, line


def test_every_key_has_a_line_in_the_code_that_says_what_it_costs() -> None:
    for section in ("config_sections", "config", "config_members"):
        lines = (ROOT / f"node/{section}.py").read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if line.startswith("    ") and "= setting(" in line:
                assert lines[number + 1].lstrip().startswith('"""'), line


# Experiments are no node's configuration; compose fills its own in (tests/packaging).
OTHERS = ("lab", "packaging")
NODE_FILES = [path for path in (ROOT / "configs").rglob("*.toml") if path.parent.name not in OTHERS]


@pytest.mark.parametrize("path", sorted(NODE_FILES), ids=lambda p: p.name)
def test_every_file_in_configs_can_be_run_with(path: Path) -> None:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    # A template for `trimaran cluster` leaves who and where to it.
    config = Config.from_document(tomllib.loads(MINIMAL) | document)
    assert config.members


def test_fast_toml_has_the_times_of_the_contract() -> None:
    raft = tomllib.loads((ROOT / "configs/fast.toml").read_text(encoding="utf-8"))["raft"]
    assert raft == {
        "election_timeout_min_ms": 150,
        "election_timeout_max_ms": 300,
        "heartbeat_ms": 30,
    }
    assert RaftSection().election_timeout_min_ms == 300
    assert RaftSection().election_timeout_max_ms == 600
    assert RaftSection().heartbeat_ms == 60


# --- what is read ------------------------------------------------------------------------


def test_equal_timeouts_are_for_experiments_only(tmp_path: Path) -> None:
    equal = "raft.election_timeout_max_ms=300"
    assert (
        "lab.equal_timeouts" in problems(tmp_path, MINIMAL, equal)["raft.election_timeout_max_ms"]
    )
    assert load(tmp_path, MINIMAL, equal, "lab.equal_timeouts=true").raft.heartbeat_ms == 60


def test_a_minimal_file_is_enough(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL)
    assert config.node == NodeSection(id="n1", data_dir=Path("data/n1"))
    assert config.member.client == Address("127.0.0.1", 7001)
    assert config.others == ()
    assert config.raft == RaftSection()


def test_own_member_and_the_others_are_told_apart() -> None:
    config = Config.load(ROOT / "configs/cluster/n2.toml")
    assert config.member.id == "n2"
    assert [member.id for member in config.others] == ["n1", "n3"]


def test_a_set_word_wins_over_the_file_and_is_read_as_the_type_of_its_key(tmp_path: Path) -> None:
    text = MINIMAL + "[raft]\nheartbeat_ms = 50\n"
    config = load(
        tmp_path,
        text,
        "raft.heartbeat_ms=40",
        "limits.key_bytes_max=1_024",
        "peer.secret=1234",
        "client.requirepass=a=b c",
        "node.data_dir=/somewhere/else",
    )
    assert config.raft.heartbeat_ms == 40
    assert config.limits.key_bytes_max == 1024
    assert config.peer.secret == "1234"
    assert config.client.requirepass == "a=b c"
    assert config.node.data_dir == Path("/somewhere/else")


@pytest.mark.parametrize(
    "odd", ["plain", 'quo"te', "back\\slash", "tab\tline\n", "käse ☕ 🚣", "\x7f\x01", "a # b"]
)
def test_what_is_rendered_loads_to_an_equal_config(tmp_path: Path, odd: str) -> None:
    config = load(tmp_path, MINIMAL)
    config = dataclasses.replace(
        config,
        node=NodeSection(id="n1", data_dir=Path("data") / odd),
        client=dataclasses.replace(config.client, requirepass=odd, max_clients=7),
    )
    assert load(tmp_path, config.render()) == config


def test_secrets_are_not_in_the_repr(tmp_path: Path) -> None:
    config = load(tmp_path, MINIMAL, "peer.secret=xyzzy", "client.requirepass=plugh")
    assert "xyzzy" not in repr(config)
    assert "plugh" not in repr(config)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7001", "127.0.0.1", 7001),
        ("[::1]:7001", "::1", 7001),
        ("a.example:1", "a.example", 1),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "7001", ":7001", "h:", "h:0", "h:65536", "h:x", "h:-1", "::1:7001", "h:7 ", 7001]
)
def test_what_is_no_address_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is "):
        Address.parse(text)


# --- what is refused ---------------------------------------------------------------------


def test_all_problems_are_reported_at_once_by_key(tmp_path: Path) -> None:
    text = """
        [raft]
        heartbeat = 3
        park_ms = true
        entries_in_flight_max = 0
        [wla]
        [log]
        level = "loud"
        [[cluster.members]]
        id = "n1"
        peer = "127.0.0.1:99999"
        client = "127.0.0.1:7001"
    """
    found = problems(tmp_path, text, "disk.reserve_bytes=much", "nonsense")
    assert found == {
        "nonsense": "must look like section.key=value",
        "wla": "unknown key; did you mean wal?",
        "cluster.members.n1.peer": "is '127.0.0.1:99999'; a port is a number from 1 to 65535",
        "cluster.members.n1.http": "is missing",
        "node.id": "is missing",
        "node.data_dir": "is missing",
        "raft.heartbeat": "unknown key; did you mean raft.heartbeat_ms?",
        "raft.park_ms": "is True, must be a whole number",
        "raft.entries_in_flight_max": "is 0, must be at least 1",
        "disk.reserve_bytes": "is 'much', must be a whole number",
        "log.level": "is 'loud', must be one of debug, info, warning, error",
    }


@pytest.mark.parametrize(
    ("overrides", "key", "part"),
    [
        pytest.param(["raft.heartbeat_ms=200"], "raft.heartbeat_ms", "half of", id="heartbeat"),
        pytest.param(
            ["raft.election_timeout_max_ms=300"],
            "raft.election_timeout_max_ms",
            "must be more than",
            id="no span",
        ),
        pytest.param(
            ["raft.election_timeout_max_ms=200", "lab.equal_timeouts=true"],
            "raft.election_timeout_max_ms",
            "must be more than",
            id="span",
        ),
        pytest.param(
            ["limits.value_bytes_max=8_388_608"], "limits.entry_bytes_max", "at least", id="value"
        ),
        pytest.param(
            ["limits.entry_bytes_max=16_777_216"], "peer.frame_bytes_max", "at least", id="frame"
        ),
        pytest.param(
            ["raft.batch_bytes_max=5_000_000"], "raft.batch_bytes_max", "at most", id="batch"
        ),
        pytest.param(["lab.peer_listen=0.0.0.0:1"], "lab.peer_listen", "loopback", id="listen"),
        pytest.param(["lab.peer_listen=here"], "lab.peer_listen", "look like", id="listen where"),
        pytest.param(["node.id=n7"], "node.id", "no member: n1", id="foreign id"),
        pytest.param(["raft.heartbeat=1"], "raft.heartbeat", "did you mean", id="unknown key"),
        pytest.param(["craft.heartbeat=1"], "craft.heartbeat", "did you mean raft", id="section"),
        pytest.param(["raft.park_ms=1.5"], "raft.park_ms", "whole number", id="a float"),
        pytest.param(["wal.sync=never"], "wal.sync", "one of always", id="choice"),
    ],
)
def test_what_cannot_be_run_with_is_refused_with_its_key(
    tmp_path: Path, overrides: list[str], key: str, part: str
) -> None:
    assert part in problems(tmp_path, MINIMAL, *overrides)[key]


def test_a_key_is_not_measured_by_one_that_is_wrong_itself(tmp_path: Path) -> None:
    text = MINIMAL + '[raft]\nelection_timeout_min_ms = "1000"\nheartbeat_ms = 400\n'
    assert list(problems(tmp_path, text)) == ["raft.election_timeout_min_ms"]


def test_a_config_made_in_process_is_checked_as_well() -> None:
    member = Member(
        id="n1",
        peer=Address("127.0.0.1", 1),
        client=Address("127.0.0.1", 1),
        http=Address("127.0.0.1", 3),
    )
    with pytest.raises(ConfigError, match=r"which is cluster\.members\.n1\.peer already"):
        Config(node=NodeSection(id="n1", data_dir=Path("d")), members=(member,))
    with pytest.raises(ConfigError, match="must be 1 to 9"):
        Config(node=NodeSection(id="n1", data_dir=Path("d")), members=())


@pytest.mark.parametrize("bad", ["", "a/b", "..", ".hidden", "x" * 64, "a b", "ä"])
def test_an_id_that_is_no_file_name_is_refused(tmp_path: Path, bad: str) -> None:
    text = MINIMAL.replace('id = "n1"', f'id = "{bad}"')
    assert f"cluster.members.{bad}.id" in problems(tmp_path, text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("n1.localhost.example", False),
    ],
)
def test_only_literal_loopback_counts_as_loopback(host: str, loopback: bool) -> None:
    assert Address(host, 1).is_loopback is loopback


TOKEN = "http.token=0123456789abcdef"


def test_ports_without_a_secret_are_bound_to_loopback_only(tmp_path: Path) -> None:
    text = MINIMAL.replace("127.0.0.1", "10.0.0.1")
    assert list(problems(tmp_path, text)) == [
        "cluster.members.n1.peer",
        "cluster.members.n1.client",
        "cluster.members.n1.http",
    ]
    assert list(problems(tmp_path, text, "peer.secret=s")) == [
        "cluster.members.n1.client",
        "cluster.members.n1.http",
    ]
    config = load(tmp_path, text, "peer.secret=s", "client.requirepass=p", TOKEN)
    assert config.member.peer.host == "10.0.0.1"
    files = [f"peer.{name}={name}" for name in ("tls_cert", "tls_key", "tls_ca")]
    assert load(tmp_path, text, *files, "client.requirepass=p", TOKEN).peer.tls_ca == "tls_ca"
    assert "`trimaran certs` makes them" in problems(tmp_path, text)["cluster.members.n1.peer"]


@pytest.mark.parametrize("given", ["tls_cert", "tls_key", "tls_ca"])
def test_of_the_files_of_tls_all_are_given_or_none(tmp_path: Path, given: str) -> None:
    found = problems(tmp_path, MINIMAL, f"peer.{given}=x")
    assert len(found) == 2
    assert all("is missing" in text and f"peer.{given} needs it" in text for text in found.values())


@pytest.mark.parametrize(
    ("content", "part"),
    [
        pytest.param(b"[raft", "is not TOML", id="broken"),
        pytest.param(b"\xff\xfe", "is not TOML", id="not UTF-8"),
        pytest.param(b"raft = 3", "must be a table", id="no table"),
        pytest.param(b"cluster = 3", "must be a table", id="no cluster table"),
        pytest.param(b"", "is missing", id="empty"),
    ],
)
def test_a_file_that_is_no_configuration_says_why(
    tmp_path: Path, content: bytes, part: str
) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=part):
        Config.load(path)


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: no such file"):
        Config.load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="directory"):
        Config.load(tmp_path)
