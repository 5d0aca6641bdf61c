"""The command line: one small file for each command, each a thin call into the library."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Sequence

from inflate3d.errors import ConfigError, Inflate3dError, OutputError
from inflate3d.stopping import STOPPED, Interrupted, exit_code, interruptible
from inflate3d.version import __version__

COMMANDS = {
    "demo": "the whole workflow on generated scans, in minutes on a CPU",
    "init": "propose a description of a folder of scans and label maps",
    "verify": "check every case of a dataset and list all problems",
    "prepare": "check a dataset, plan its training, and write its preprocessed cases",
    "train": "train a segmentation model",
    "evaluate": "score a run on its held-out cases",
    "predict": "segment scans with a trained model",
    "next": "say which scan to label next",
    "suspects": "rank label maps by how implausible they are to networks that did not learn from them",
    "report": "write a run's page: scores, curves, pictures of held-out cases",
    "reproduce": "train a run again from its record and compare the models",
    "view": "view a scan with label maps, as a picture or in the browser",
    "serve": "serve cases to annotators, in the browser or in 3D Slicer",
    "compare": "train and score several methods under one protocol",
    "push": "upload a trained model to the Hugging Face hub",
    "export": "export a trained model for other programs",
    "convert": "write a dataset in another layout or format, such as nnU-Net's",
    "flops": "count what a network costs",
    "encoders": "list the 2D backbones that can be inflated",
    "weights": "list published weight files, or download one",
}

FAILED = 2
READER_GONE = 128 + 13
"""What a shell reports of a Unix tool that SIGPIPE ended, as all tools before `head -1` are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What follows ``inflate3d``; by default the process's arguments.

    Returns:
        The exit code: 0 on success, 1 if `reproduce` finds another model, 2 for errors that the user can fix, 130 after
        Ctrl-C, 75 after a scheduler's SIGTERM (the same command resumes), 141 if nobody reads the output any more.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError as error:
        closed = _closed_streams()
        if not closed:  # another pipe broke: to a worker, or a server
            return _report(_system_error(error), as_json="--json" in words)
        _discard(closed)
        return READER_GONE
    except KeyboardInterrupt:  # another Ctrl-C while the first one's message is printed
        return STOPPED
    return code


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    if words[0] not in COMMANDS:
        return _report(_unknown_command(words[0]), as_json="--json" in words)
    return _run_command(words[0], words[1:])


def _run_command(command: str, words: list[str]) -> int:
    from pydantic import ValidationError

    from inflate3d.cli.parsing import parse_options
    from inflate3d.cli.terminal import Terminal
    from inflate3d.settings import settings_error

    module = importlib.import_module(f"inflate3d.cli.{command.replace('-', '_')}")
    as_json = "--json" in words
    terminal = Terminal(as_json=as_json)
    try:
        options = parse_options(module, command, words)
        with interruptible(signal.SIGTERM), terminal.logging():
            document = module.run(options, terminal)
    except ValidationError as error:
        return _report(settings_error(error), as_json=as_json)
    except Inflate3dError as error:
        return _report(error, as_json=as_json)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _report(_system_error(error), as_json=as_json)
    except MemoryError as error:
        return _report(Inflate3dError("not enough memory", got=error, hint="close other programs"), as_json=as_json)
    except (Interrupted, KeyboardInterrupt) as stop:
        print(f"\n{str(stop) or 'stopped'}", file=sys.stderr)
        return exit_code(stop)
    if as_json and document is not None:  # of several processes only the first prints
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
            "`inflate3d COMMAND --help` lists a command's options; every command has --json.",
        ]
    )


def _unknown_command(word: str) -> ConfigError:
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS)
    return ConfigError(
        "unknown command",
        expected=", ".join(COMMANDS),
        got=word,
        hint=f"did you mean {near[0]}?" if near else None,
    )


def _system_error(error: OSError) -> Inflate3dError:
    return OutputError(
        "the system refused to read or write",
        got=error.strerror or error,
        hint="check free space and permissions",
        file=error.filename,
    )


def _report(error: Inflate3dError, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": error.to_dict()}, indent=2, ensure_ascii=False))
    else:
        print(f"error: {error}", file=sys.stderr)
    return FAILED


def _closed_streams() -> list[int]:
    """Which of stdout and stderr nobody reads any more, as before `head -1`."""
    streams = []
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            streams.append(stream.fileno())
    if not hasattr(select, "poll"):  # Windows
        return streams
    poll = select.poll()
    for number in streams:
        poll.register(number, 0)
    return [number for number, event in poll.poll(0) if event & (select.POLLERR | select.POLLHUP)]


def _discard(streams: Sequence[int]) -> None:
    """Keeps Python from complaining about closed pipes when it flushes its output at exit."""
    for number in streams:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
