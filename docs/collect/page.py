"""The page docs/configuration.md: a section for each command and group, a table for each choice that defines keys."""

from __future__ import annotations

from docs.collect import accepted
from docs.collect.keys import PRESETS, Conf, File, Key
from mixgan_cli.cli import COMMANDS

HEAD = """# Configuration

`make configuration` collects this page from `conf/`: the default of each key, the values it accepts, and its comment.
On the command line, `KEY=VALUE` sets a key and `GROUP=CHOICE` selects a choice of a group. `mixgan train --cfg job`
prints the configuration of a run. A choice that is *the same as* another one has all its keys, and the page lists only
the differences.
"""


def page(conf: Conf) -> str:
    """Return the page in Markdown."""
    lines = [HEAD]
    for primary in dict.fromkeys(command.config for command in COMMANDS.values()):
        names = [f"`mixgan {name}`" for name, command in COMMANDS.items() if command.config == primary]
        file = conf.files["", primary]
        choices = [f"| `{group}=` | `{choice}` | {_cell(comment)} |" for group, choice, comment in file.chosen]
        lines += [
            f"## {', '.join(names)}",
            "",
            _about(file),
            "",
            "| group | default | |",
            "|---|---|---|",
            *choices,
            "",
        ]
        lines += _table(conf, file)
    for group, choices in conf.groups.items():
        lines += [f"## `{group}=`", ""]
        if group == PRESETS:
            presets = [f"| `{choice}` | {_cell(conf.files[group, choice].about[0])} |" for choice in choices]
            lines += ["| | |", "|---|---|", *presets, ""]
            continue
        for file in (file for file in conf.files.values() if file.group == group):
            said = _said(conf, file)
            title = f"conf/{group}/{file.name}.yaml" if file.name[0] == "_" else f"{group}={file.name}"
            lines += [f"### `{title}`", "", _about(file), "", *([said, ""] if said else [])]
            lines += _table(conf, file)
    return "\n".join(lines)


def _said(conf: Conf, file: File) -> str:
    """The bases of a choice, the keys that it sets for others, its choices of other groups, and its class."""
    prefix = f"{file.package}." if file.package else ""
    elsewhere = [key for key in file.keys if not conf.defines(file, key) and key.value]
    sets = ", ".join(f"`{key.path.removeprefix(prefix)}: {key.value}`{_in_brackets(key.comment)}" for key in elsewhere)
    bases = ", ".join(f"`{base}`" for base in file.bases)
    takes = ", ".join(f"`{group}={choice}`{_in_brackets(comment)}" for group, choice, comment in file.chosen)
    said = [
        f"Same as {bases}, except {sets}."
        if bases and sets
        else f"Same as {bases}."
        if bases
        else f"Sets {sets}."
        if sets
        else ""
    ]
    said += [f"Selects {takes}."] if takes else []
    said += [f"Class: `{file.target}`."] if file.target else []
    return " ".join(said).strip()


def _table(conf: Conf, file: File) -> list[str]:
    rows = [_row(conf, file, key) for key in file.keys if conf.defines(file, key) and not key.is_hydras]
    return ["| key | default | accepts | |", "|---|---|---|---|", *rows, ""] if rows else []


def _row(conf: Conf, file: File, key: Key) -> str:
    if key.is_section:
        accepts = ""
    elif part := conf.part_of(file, key):
        accepts = accepted.by_part(part, key.path.rpartition(".")[2])
    else:
        accepts = accepted.by_command("config" if file.group else file.name, key.path)
    default = f"`{key.value}`" if key.value else ""
    return f"| `{key.path}` | {default} | {_cell(accepts)} | {_cell(key.comment)} |"


def _about(file: File) -> str:
    return _cell(" ".join(line if line[-1] in ".?!" else f"{line}." for line in file.about))


def _in_brackets(comment: str) -> str:
    return f" ({_cell(comment)})" if comment else ""


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")
