"""The command line: one small file for each command, each a thin call into the library."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence

from inflate3d import __version__
from inflate3d.errors import ConfigError, Inflate3dError, OutputError
from inflate3d.stopping import ended_by_sigterm, exit_code

COMMANDS = {
    "demo": "the whole job on generated scans, minutes on a CPU",
    "init": "propose a description of a folder of scans and label maps",
    "verify": "check every case of a dataset, and tell all problems at once",
    "prepare": "check, measure and plan a dataset, and write its store",
    "train": "train a segmentation model",
    "evaluate": "score a run on the cases that it held out",
    "predict": "segment scans with a trained model",
    "report": "write the page of a run: scores, curves, pictures of held-out cases",
    "reproduce": "train a run again from its record, and compare",
    "view": "look at a scan and label maps: a picture sheet, or a page in the browser",
    "compare": "train and score several methods under one protocol",
    "convert": "write a dataset in another layout or format, such as for nnU-Net",
    "import-checkpoint": "turn a checkpoint of the paper's code into a model folder",
    "flops": "count what a network costs",
    "encoders": "list the 2D backbones that can be inflated",
    "weights": "list weight files that authors publish, or fetch one",
}

FAILED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What stands behind ``inflate3d``; the process's own if not given.

    Returns:
        The exit code: 0 on success, 1 where `reproduce` finds another model, 2 on a mistake that the user can mend,
        130 when stopped by Ctrl-C, 75 when stopped by a scheduler's SIGTERM: the same command goes on.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    if words[0] not in COMMANDS:
        return _told(_unknown_command(words[0]), as_json="--json" in words)
    return _run(words[0], words[1:])


def _run(command: str, words: list[str]) -> int:
    from pydantic import ValidationError

    from inflate3d.cli.parsing import UsageError, parse_options, show_usage
    from inflate3d.cli.terminal import Interruption, Terminal
    from inflate3d.settings import settings_error

    module = importlib.import_module(f"inflate3d.cli.{command.replace('-', '_')}")
    as_json = "--json" in words
    terminal = Terminal(as_json=as_json)
    try:
        options = parse_options(module, command, words)
        with ended_by_sigterm():
            document = module.run(options, terminal)
    except UsageError as error:
        if as_json:
            return _told(error, as_json=True)
        show_usage(error)
        return FAILED
    except ValidationError as error:
        return _told(settings_error(error), as_json=as_json)
    except Inflate3dError as error:
        return _told(error, as_json=as_json)
    except OSError as error:
        return _told(_system_error(error), as_json=as_json)
    except (Interruption, KeyboardInterrupt) as stop:
        print(f"\n{str(stop) or 'stopped'}", file=sys.stderr)
        return exit_code(stop)
    if as_json and document is not None:  # one of several processes may have nothing to say
        print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
    return terminal.exit_code


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: inflate3d COMMAND ...",
            "",
            "Gives 2D pre-trained vision backbones a third dimension, for 3D medical image segmentation.",
            "",
            "commands:",
            *lines,
            "",
            "`inflate3d COMMAND --help` tells a command's options; every command has --json.",
        ]
    )


def _unknown_command(word: str) -> ConfigError:
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS)
    return ConfigError(
        "no such command",
        expected=", ".join(COMMANDS),
        got=word,
        hint=f"did you mean {near[0]}?" if near else None,
    )


def _system_error(error: OSError) -> Inflate3dError:
    if isinstance(error, BrokenPipeError):
        os._exit(1)  # whoever read our output is gone, and no more of it can be written
    return OutputError(
        "the system refused to read or write",
        got=error.strerror or error,
        hint="check the place for space and permissions",
        file=error.filename,
    )


def _told(error: Inflate3dError, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": error.to_dict()}, indent=2, ensure_ascii=False))
    else:
        print(f"error: {error}", file=sys.stderr)
    return FAILED
