"""Shell completion: scripts for bash, zsh and fish, made from the parser itself.

    eval "$(trimaran completion bash)"            in ~/.bashrc
    eval "$(trimaran completion zsh)"             in ~/.zshrc, after compinit
    trimaran completion fish | source             in ~/.config/fish/config.fish

A *node* of the tree is a command line so far ("", "cluster", "lab run"): its commands, its options
(which take a value or not), the words that may stand as a value or argument, and whether paths may.
What the parser knows is in the scripts; so a new option is completed without a line here.

Invariants: nothing is asked of a running cluster; the scripts run nothing but the shell's own.

Proved by: tests/node/test_completion.py
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["SHELLS", "script"]

SHELLS: Final = ("bash", "zsh", "fish")


@dataclass(slots=True)
class _Place:
    """What may follow these words."""

    path: tuple[str, ...]
    commands: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Option -> words that may be its value; of those that take one."""
    words: tuple[str, ...] = ()
    """That may stand as an argument."""
    has_paths: bool = False


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """What the shell is to source."""
    places = _places(parser, ())
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](places)


def _places(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> list[_Place]:
    place = _Place(path)
    found = [place]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            for name, below in action.choices.items():
                place.commands[name] = helps.get(name, "")
                found += _places(below, (*path, name))
        elif action.option_strings:
            name = max(action.option_strings, key=len)
            place.options[name] = action.help or ""
            if action.nargs != 0:
                place.values[name] = tuple(map(str, action.choices or ()))
                place.has_paths = place.has_paths or action.type is Path
        else:
            place.words += tuple(map(str, action.choices or ()))
            place.has_paths = place.has_paths or action.type is Path
    return found


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _bash(places: list[_Place]) -> str:
    cases = []
    for place in places:
        key = " ".join(place.path)
        words = " ".join([*place.commands, *place.options, *place.words])
        taking = "|".join(place.values)
        cases.append(f"    {_quoted(key)}) words={_quoted(words)}; taking={_quoted(taking)};")
        cases.append(f"      commands={_quoted(' '.join(place.commands))};")
        for option, values in place.values.items():
            if values:
                cases.append(
                    f'      [ "$last" = {option} ] && offered={_quoted(" ".join(values))};'
                )
        cases.append("      ;;")
    return _BASH.replace("@CASES@", "\n".join(cases))


_BASH: Final = """\
# bash completion for trimaran. Made by `trimaran completion bash`.
_trimaran_place() {
  words="" taking="" commands="" offered=""
  case "$1" in
@CASES@
  esac
}
_trimaran() {
  local at path="" last="" words taking commands offered word now="${COMP_WORDS[COMP_CWORD]}"
  for ((at = 1; at < COMP_CWORD; at++)); do
    word="${COMP_WORDS[at]}"
    _trimaran_place "$path"
    if [[ " $commands " == *" $word "* ]]; then path="${path:+$path }$word"; fi
  done
  last="${COMP_WORDS[COMP_CWORD-1]}"
  _trimaran_place "$path"
  if [[ -n "$last" && "|$taking|" == *"|$last|"* ]]; then
    if [ -n "$offered" ]; then COMPREPLY=($(compgen -W "$offered" -- "$now"))
    else COMPREPLY=($(compgen -f -- "$now")); fi
    return
  fi
  COMPREPLY=($(compgen -W "$words" -- "$now"))
  if [ ${#COMPREPLY[@]} -eq 0 ] && [[ "$now" != -* ]]; then COMPREPLY=($(compgen -f -- "$now")); fi
}
complete -o filenames -o bashdefault -F _trimaran trimaran
"""


def _zsh(places: list[_Place]) -> str:
    """zsh runs bash's completions; that way there is one set of rules."""
    head = "# zsh completion for trimaran. Made by `trimaran completion zsh`.\n"
    body = _bash(places).partition("\n")[2]
    return f"{head}autoload -U +X bashcompinit && bashcompinit\n{body}"


def _fish(places: list[_Place]) -> str:
    lines = [
        "# fish completion for trimaran. Made by `trimaran completion fish`.",
        "complete -c trimaran -f",
    ]
    for place in places:
        if place.path:
            seen = " ".join(place.path)
            condition = " and ".join(f"__fish_seen_subcommand_from {name}" for name in place.path)
            condition = condition.replace(" and ", "; and ")
        else:
            seen, condition = "", "__fish_use_subcommand"
        below = " ".join(place.commands)
        if place.path and below:
            inner = f"{condition}; and not __fish_seen_subcommand_from {below}"
        else:
            inner = condition
        where = f"complete -c trimaran -n {_quoted(inner)}"
        lines.append(f"# trimaran {seen}".rstrip())
        lines += [f"{where} -a {name} -d {_quoted(text)}" for name, text in place.commands.items()]
        lines += [f"{where} -a {word}" for word in place.words]
        if place.has_paths:
            lines.append(f"{where} -F")
        for option, text in place.options.items():
            takes = " -r" if option in place.values else ""
            values = place.values.get(option, ())
            offered = f" -a {_quoted(' '.join(values))}" if values else ""
            lines.append(f"{where} -l {option.lstrip('-')}{takes}{offered} -d {_quoted(text)}")
    return "\n".join(lines) + "\n"
