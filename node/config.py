"""The configuration of one node: read once, checked whole, frozen.

    [node]                  who am I, where is my data
    [[cluster.members]]     everybody, me included: id and three addresses
    [raft] [journal] ...    node.config_sections, config_limits, config_lab

    Config.load(path, ["raft.heartbeat_ms=30"]) -> Config     or ConfigError
    Config(node=..., members=..., raft=...)     -> Config     or ConfigError
    config.render() -> TOML text that loads to an equal Config

Invariants:
  A Config that exists can be run with: every way of making one runs `problems`.
  ConfigError holds ALL problems, each with the key it is about; nothing starts before.
  Without TLS or a shared secret every peer address is loopback; without a password the own client
  address is, without a token the own HTTP address. A name other than `localhost` never counts as
  loopback: what it resolves to can change after it was checked.
  Secrets are not in repr().

A crash leaves nothing behind: nothing is written here.

Does not do: watch the file (a change needs a restart), look names up, bind ports.

Proved by: tests/node/test_config.py
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from node.config_http import HttpSection
from node.config_lab import LabSection
from node.config_limits import HistorySection, LimitsSection
from node.config_members import (
    MEMBERS_MAX,
    Address,
    Member,
    member_problems,
    read_members,
)
from node.config_read import (
    Problems,
    apply_overrides,
    read_section,
    setting,
    unknown_key,
)
from node.config_sections import (
    CheckpointSection,
    ClientSection,
    DiskSection,
    JournalSection,
    LogSection,
    PeerSection,
    RaftSection,
    Section,
    WalSection,
)
from node.errors import ConfigError
from statemachine.errors import DiskFailed
from statemachine.fs import Disk

__all__ = [
    "MEMBERS_MAX",
    "SECTIONS",
    "Address",
    "CheckpointSection",
    "ClientSection",
    "Config",
    "DiskSection",
    "HistorySection",
    "HttpSection",
    "JournalSection",
    "LabSection",
    "LimitsSection",
    "LogSection",
    "Member",
    "NodeSection",
    "PeerSection",
    "RaftSection",
    "WalSection",
    "read_document",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSection(Section):
    """[node]: which member this process is."""

    id: str = setting()
    """The id of one of [[cluster.members]]."""

    data_dir: Path = setting()
    """Its data directory, made when missing. Relative to the directory it is started in."""

    join: bool = setting(default=False)
    """Whether a new data directory waits until `trimaran member add` seats this node."""


SECTIONS: Final[dict[str, type[Section]]] = {
    "node": NodeSection,
    "raft": RaftSection,
    "journal": JournalSection,
    "wal": WalSection,
    "checkpoint": CheckpointSection,
    "client": ClientSection,
    "limits": LimitsSection,
    "history": HistorySection,
    "disk": DiskSection,
    "peer": PeerSection,
    "http": HttpSection,
    "log": LogSection,
    "lab": LabSection,
}
"""Every table of the file but [[cluster.members]], in the order in which they are written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that one node is told. Making one checks it (ConfigError lists every problem)."""

    node: NodeSection
    members: tuple[Member, ...]
    raft: RaftSection = field(default_factory=RaftSection)
    journal: JournalSection = field(default_factory=JournalSection)
    wal: WalSection = field(default_factory=WalSection)
    checkpoint: CheckpointSection = field(default_factory=CheckpointSection)
    client: ClientSection = field(default_factory=ClientSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    history: HistorySection = field(default_factory=HistorySection)
    disk: DiskSection = field(default_factory=DiskSection)
    peer: PeerSection = field(default_factory=PeerSection)
    http: HttpSection = field(default_factory=HttpSection)
    log: LogSection = field(default_factory=LogSection)
    lab: LabSection = field(default_factory=LabSection)

    def __post_init__(self) -> None:
        found = self.problems()
        if found:
            raise ConfigError(tuple(found))

    @classmethod
    def load(cls, path: Path | str, overrides: Sequence[str] = ()) -> Config:
        """Read a TOML file; `overrides` are "section.key=value" words that win over it.

        Raises:
            ConfigError: everything that is wrong, in the file and in the words, at once.
        """
        return cls.from_document(read_document(Path(path)), overrides)

    @classmethod
    def from_document(cls, document: dict[str, Any], overrides: Sequence[str] = ()) -> Config:
        """The same of a parsed TOML document, which is not kept."""
        problems: Problems = []
        document = {
            name: dict(table) if isinstance(table, dict) else table
            for name, table in document.items()
        }
        apply_overrides(document, overrides, SECTIONS, problems)
        known = [*SECTIONS, "cluster"]
        problems += [(name, unknown_key(name, known)) for name in document if name not in known]
        members = read_members(document.get("cluster", {}), problems)
        sections: dict[str, Any] = {
            name: read_section(section, document.get(name, {}), name, problems)
            for name, section in SECTIONS.items()
        }
        if members is None or sections["node"] is None:
            # Without these no Config can be made; what the rest says is still worth knowing.
            problems += [] if members is None else member_problems(members)
            for name, section in sections.items():
                problems += [] if section is None else section.problems(name)
            raise ConfigError(_tidy(problems))
        try:
            config = cls(members=members, **sections)
        except ConfigError as error:
            raise ConfigError(_tidy([*problems, *error.problems])) from error
        if problems:
            raise ConfigError(_tidy(problems))
        return config

    def problems(self) -> Problems:
        """Everything that cannot be run with: of each key alone, and of keys together."""
        found: Problems = []
        for name in SECTIONS:
            found += getattr(self, name).problems(name)
        found += self.lab.timeout_problems(self.raft)
        found += member_problems(self.members)
        own = next((member for member in self.members if member.id == self.node.id), None)
        if own is None:
            ids = ", ".join(member.id for member in self.members) or "none"
            found.append(("node.id", f"is {self.node.id!r}, which is no member: {ids}"))
        else:
            found += self._loopback_problems(own)
        if own is not None and self.node.join and len(self.members) < 2:
            found.append(("node.join", "needs a member to join through: list one beside it"))
        if self.limits.entry_bytes_max < self.raft.batch_bytes_max:
            found.append(
                (
                    "raft.batch_bytes_max",
                    f"is {self.raft.batch_bytes_max}, must be at most "
                    f"limits.entry_bytes_max ({self.limits.entry_bytes_max})",
                )
            )
        entry, batch = self.limits.entry_bytes_max, self.raft.batch_bytes_max
        needed = self.proposal_bytes_max
        if self.peer.frame_bytes_max < needed:
            found.append(
                (
                    "peer.frame_bytes_max",
                    f"is {self.peer.frame_bytes_max}, must be at least {needed}: "
                    f"limits.entry_bytes_max ({entry}), raft.batch_bytes_max ({batch}), "
                    f"and 64 KiB around them",
                )
            )
        return found

    @property
    def proposal_bytes_max(self) -> int:
        """The longest Raft entry there can be, with what is around it.

        A batch is closed at batch_bytes_max and may then hold one more command.
        """
        return self.limits.entry_bytes_max + self.raft.batch_bytes_max + 64 * 1024

    def _loopback_problems(self, own: Member) -> Problems:
        """A port that asks for no secret is not offered to the network."""
        found: Problems = []
        if not self.peer.secret and not self.peer.tls_cert:
            found += [
                (
                    f"cluster.members.{member.id}.peer",
                    f"is {member.peer}: an address other than loopback needs peer.tls_cert, "
                    f"peer.tls_key and peer.tls_ca (`trimaran certs` makes them), or peer.secret",
                )
                for member in self.members
                if not member.peer.is_loopback
            ]
        guarded = [("client", own.client, self.client.requirepass, "client.requirepass")]
        if self.http.enabled:
            guarded.append(("http", own.http, self.http.token, "http.token"))
        found += [
            (
                f"cluster.members.{own.id}.{name}",
                f"is {address}: an address other than loopback needs {needed}",
            )
            for name, address, secret, needed in guarded
            if not secret and not address.is_loopback
        ]
        return found

    def member_refusal(self, member: Member) -> str | None:
        """Why this node cannot have that member beside it, or None."""
        is_safe = self.peer.secret or self.peer.tls_cert or member.peer.is_loopback
        return None if is_safe else f"{member.peer}: other than loopback needs peer.secret or TLS"

    @property
    def member(self) -> Member:
        """This node's own entry of the members."""
        return next(member for member in self.members if member.id == self.node.id)

    @property
    def others(self) -> tuple[Member, ...]:
        """All members but this one, in the order of the file."""
        return tuple(member for member in self.members if member.id != self.node.id)

    def render(self) -> str:
        """TOML that loads to an equal Config. Holds the secrets: keep the file private."""
        tables = [(f"[{name}]", getattr(self, name)) for name in SECTIONS]
        tables += [("[[cluster.members]]", member) for member in self.members]
        return "\n".join(f"{head}\n{_toml_table(table)}" for head, table in tables)


def read_document(path: Path) -> dict[str, Any]:
    """The TOML document of a file, not yet looked at. ConfigError when there is none."""
    try:
        return tomllib.loads(Disk().read_bytes(path).decode("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(((str(path), "no such file"),)) from error
    except DiskFailed as error:  # Not readable, or a directory: nothing of ours is damaged.
        raise ConfigError(((str(path), error.reason),)) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(((str(path), f"is not TOML: {error}"),)) from error


def _toml_table(table: Any) -> str:
    """The `key = value` lines of a section or a member."""
    names = [field.name for field in dataclasses.fields(table)]
    return "".join(f"{name} = {_toml(getattr(table, name))}\n" for name in names)


def _toml(value: object) -> str:
    """A TOML value. JSON's words for text, numbers and booleans are TOML's too, but for two:

    TOML knows no surrogate pairs (so text is left as it is) and wants DEL escaped.
    """
    value = str(value) if isinstance(value, Path | Address) else value
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _tidy(problems: Problems) -> tuple[tuple[str, str], ...]:
    """Without the complaints that follow from others, and are about a default that stood in:

    the second one of the same key, and one that measures a key by a key that is wrong itself.
    """
    first: dict[str, str] = {}
    for key, problem in problems:
        if not any(f"{wrong} (" in problem for wrong in first):
            first.setdefault(key, problem)
    return tuple(first.items())
