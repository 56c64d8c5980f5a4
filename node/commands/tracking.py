"""CLIENT TRACKING, CACHING, TRACKINGINFO, GETREDIR: node.tracking does the work.

    CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX p [PREFIX p ...]] [BCAST] [OPTIN] [OPTOUT]
    CLIENT CACHING YES|NO

Texts are Redis's. NOLOOP is refused: a change comes from the log, which does not know the client.

Proved by: tests/node/test_tracking.py
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from node.commands.spec import NOT_AN_INTEGER, SYNTAX_ERROR, parse_integer
from node.connection import Connection
from node.replies import OK, Names, encode, error_line, integer
from node.resp import Request
from node.tracking import Tracking

__all__ = ["caching", "getredir", "tracking", "trackinginfo"]

PREFIXES_MAX: Final = 1_000

_NO_LOOP: Final = error_line("ERR NOLOOP is not supported: the log does not know who wrote")
_BOTH: Final = error_line("ERR You can't specify both OPTIN mode and OPTOUT mode")
_NOT_BROADCAST: Final = error_line("ERR OPTIN and OPTOUT are not compatible with BCAST")
_NEEDS_BROADCAST: Final = error_line("ERR PREFIX option requires BCAST mode to be enabled")
_NO_TARGET: Final = error_line("ERR The client ID you want redirect to does not exist")
_SWITCH: Final = error_line(
    "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then "
    "re-enabling it with a different mode."
)
_SWITCH_OPT: Final = error_line(
    "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then "
    "re-enabling it with a different mode."
)
_NO_MODE: Final = error_line(
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or "
    "OPTOUT mode enabled"
)
_YES_ONLY: Final = error_line(
    "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."
)
_NO_ONLY: Final = error_line(
    "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."
)


def tracking(connection: Connection, request: Request) -> bytes:
    wanted = _read_options(connection, request)
    if isinstance(wanted, bytes):
        return wanted
    switch = request[2].lower()
    tracker = connection.frontend.tracker
    if switch == b"off":
        tracker.stop(connection)
        return OK
    if switch != b"on":
        return SYNTAX_ERROR
    now = connection.tracking
    if now is not None:
        if now.broadcast != wanted.broadcast:
            return _SWITCH
        if (now.opt_in and wanted.opt_out) or (now.opt_out and wanted.opt_in):
            return _SWITCH_OPT
        wanted.prefixes = tuple(dict.fromkeys((*now.prefixes, *wanted.prefixes)))
    if wanted.prefixes and not wanted.broadcast:
        return _NEEDS_BROADCAST
    if wanted.opt_in and wanted.opt_out:
        return _BOTH
    if wanted.broadcast and (wanted.opt_in or wanted.opt_out):
        return _NOT_BROADCAST
    if wanted.broadcast:
        wanted.prefixes = wanted.prefixes or (b"",)
        overlap = _overlap(wanted.prefixes)
        if overlap is not None:
            return overlap
    tracker.start(connection, wanted)
    return OK


def _read_options(connection: Connection, request: Request) -> Tracking | bytes:
    """What is asked for, or the error reply."""
    wanted = Tracking()
    prefixes: list[bytes] = []
    options = iter(request[3:])
    for word in options:
        option = word.lower()
        if option == b"redirect":
            number = parse_integer(next(options, b""))
            if number is None:
                return NOT_AN_INTEGER
            if number not in connection.frontend.connections:
                return _NO_TARGET
            wanted.redirect = number
        elif option == b"prefix":
            prefix = next(options, None)
            if prefix is None:
                return SYNTAX_ERROR
            prefixes.append(prefix)
        elif option == b"bcast":
            wanted.broadcast = True
        elif option == b"optin":
            wanted.opt_in = True
        elif option == b"optout":
            wanted.opt_out = True
        elif option == b"noloop":
            return _NO_LOOP
        else:
            return SYNTAX_ERROR
    if len(prefixes) > PREFIXES_MAX:
        return error_line(f"ERR more than {PREFIXES_MAX} prefixes")
    wanted.prefixes = tuple(prefixes)
    return wanted


def _overlap(prefixes: tuple[bytes, ...]) -> bytes | None:
    """The refusal of prefixes of which one begins with another: both would be told."""
    ordered = sorted(prefixes)
    for shorter, longer in pairwise(ordered):
        if longer.startswith(shorter):
            return error_line(
                b"ERR Prefix '%b' overlaps with an existing prefix '%b'. Prefixes for a single "
                b"client must not overlap." % (longer, shorter)
            )
    return None


def caching(connection: Connection, request: Request) -> bytes:
    now = connection.tracking
    if now is None or not (now.opt_in or now.opt_out):
        return _NO_MODE
    word = request[2].lower()
    if word == b"yes":
        if not now.opt_in:
            return _YES_ONLY
        now.caching = True
    elif word == b"no":
        if not now.opt_out:
            return _NO_ONLY
        now.caching = False
    else:
        return SYNTAX_ERROR
    return OK


def getredir(connection: Connection, _request: Request) -> bytes:
    now = connection.tracking
    return integer(-1 if now is None else now.redirect)


def trackinginfo(connection: Connection, _request: Request) -> bytes:
    now = connection.tracking
    if now is None:
        shown: dict[str, object] = {"flags": Names(("off",)), "redirect": -1, "prefixes": []}
        return encode(shown, connection.protocol)
    flags = ["on"]
    flags += ["bcast"] * now.broadcast
    flags += ["optin"] * now.opt_in + ["caching-yes"] * (now.caching is True)
    flags += ["optout"] * now.opt_out + ["caching-no"] * (now.caching is False)
    if now.redirect and now.redirect not in connection.frontend.connections:
        flags.append("broken_redirect")
    prefixes = [prefix for prefix in now.prefixes if prefix or now.broadcast]
    shown = {"flags": Names(flags), "redirect": now.redirect, "prefixes": prefixes}
    return encode(shown, connection.protocol)
