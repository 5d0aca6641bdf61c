import errno
import json
import logging
import os
import subprocess
import sys

import pytest

from inflate3d import __version__
from inflate3d.cli import COMMANDS, encoders, main


def stopped(*words) -> int:
    """The exit code, whether it is returned or raised as the option parser does."""
    try:
        return main(list(words))
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


def test_overview_names_every_command(capsys):
    assert main([]) == main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(command, capsys):
    assert stopped(command, "--help") == 0
    shown = capsys.readouterr().out
    assert f"usage: inflate3d {command}" in shown
    assert "--json" in shown


@pytest.mark.slow
def test_help_does_not_import_torch():
    code = (
        "import contextlib, io, sys\n"
        "from inflate3d.cli import COMMANDS, main\n"
        "for command in ('verify', 'prepare', 'train', 'evaluate', 'predict', 'compare', 'encoders'):\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "        main([command, '--help'])\n"
        "    heavy = {'torch', 'timm', 'monai', 'pytorch_lightning', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, (command, heavy)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["train", "--help"], ["encoders", "vit_*"], ["verify", "no folder"]])
def test_closed_stdout_gives_no_traceback(words):
    """What `inflate3d ... | head -0` does: nobody reads."""
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from inflate3d.cli import main; sys.exit(main())"
    where = subprocess.STDOUT if words[0] == "verify" else subprocess.PIPE  # as in `2>&1 |`
    done = subprocess.run([sys.executable, "-c", code, *words], stdout=write, stderr=where, check=False)
    os.close(write)
    assert done.returncode == 141
    assert not any(word in (done.stderr or b"") for word in (b"Traceback", b"BrokenPipe"))


def test_another_pipe_that_breaks_is_an_error(capsys, monkeypatch):
    """Such as that of a worker, or a server's."""

    def run(options, terminal):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(encoders, "run", run)
    assert main(["encoders"]) == 2
    assert "Broken pipe" in capsys.readouterr().err


def test_log_messages_go_to_stderr(capsys, monkeypatch):
    def run(options, terminal):
        logging.getLogger("inflate3d.models").warning("batch size reduced to %d", 4)
        logging.getLogger("inflate3d.training").info("epoch done")
        return {"here": 1}

    monkeypatch.setattr(encoders, "run", run)
    assert main(["encoders", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"here": 1}
    assert shown.err == "warning: batch size reduced to 4\nepoch done\n"
    assert not logging.getLogger("inflate3d").handlers


def test_unknown_command(capsys):
    assert main(["trian"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: unknown command\n")
    assert "did you mean train?" in printed


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["predict"], "required"),
        (["train", "data", "--nonsense"], "--nonsense"),
        (["train", "data", "--steps", "many"], "many"),
        (["train", "data", "--precision", "8"], "8"),
    ],
)
def test_wrong_options(words, part, capsys):
    assert stopped(*words) == 2
    printed = capsys.readouterr()
    assert part in printed.err
    assert printed.out == ""
    assert "Traceback" not in printed.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["train", "data", "--depth", "4"], "must be odd"),
        (["train", "data", "--steps", "0"], "greater than or equal to 1"),
        (["train", "data", "--steps", "9" * 23], "less than or equal to 1000000000"),
        (["train", "data", "--depth", "10001"], "less than 10000"),
        (["train", "data", "--decoder-channels", "1000000"], "less than or equal to 65536"),
        (["predict", "run", "scan.nii.gz", "out", "--batch-size", "0"], "greater than or equal to 1"),
        (["prepare", "data", "--planned-size", "0", "0"], "must be rows and columns"),
        (["prepare", "data", "--planned-size", "-32", "64"], "must be rows and columns"),
        (["prepare", "data", "--spacing", "nan", "1", "1"], "three lengths above 0"),
        (["prepare", "data", "--clip", "250", "-175"], "the lower one first"),
        (["compare", "data", "--arms", "legs"], "unknown set of arms"),
        (["encoders", "vitamin*zzz"], "no backbone matches this name"),
    ],
)
def test_values_that_can_not_be(words, part, capsys):
    assert stopped(*words) == 2
    assert part in capsys.readouterr().err


def test_error_as_json(capsys):
    assert main(["verify", "nowhere", "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"]["what"] == "dataset folder not found"


def test_all_problems_as_json(tmp_path, write_toys, capsys):
    toys = write_toys(tmp_path / "data", cases=2)
    for case in toys.cases:
        case.scan.write_bytes(b"damaged")
    assert main(["verify", str(toys.root), "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert [(problem["case"], problem["what"]) for problem in problems] == [
        ("toy0", "the file can't be read"),
        ("toy1", "the file can't be read"),
    ]


@pytest.mark.slow
def test_main_job(tmp_path, write_toys, capsys):
    """Verify, prepare, train, resume, evaluate, predict: one JSON document each, and what they leave."""
    data, store, run = write_toys(tmp_path / "data").root, tmp_path / "store", tmp_path / "run"

    def document(*words):
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert document("verify", data, "--jobs", 1)["cases"] == 5
    assert document("prepare", data, "--store", store, "--jobs", 1)["plan"]["classes"] == {
        "0": "background",
        "2": "liver",
        "5": "tumor",
    }
    train = ["train", data, "--store", store, "--run", run, "--encoder", "resnet10t", "--weights", "none"]
    train += ["--depth", 3, "--image-size", 32, 32, "--decoder-channels", 8, "--steps", 1, "--batch-size", 2]
    train += ["--accelerator", "cpu"]
    assert document(*train)["model"] == str(run / "model")
    assert document(*train, "--resume")["model"] == str(run / "model")
    assert main([*map(str, train)]) == 2
    assert "already exists" in capsys.readouterr().err
    scores = document("evaluate", run)
    assert scores["classes"] == ["liver", "tumor"]
    written = document("predict", run, data / "imagesTr", tmp_path / "out", "--device", "cpu")["written"]
    assert written == [str(tmp_path / "out" / f"toy{index}.nii.gz") for index in range(5)]
    listed = document("encoders", "resnet10t")["encoders"]
    assert listed[0]["strides"] == [4, 8, 16, 32]


def test_more_scans_than_one_are_named_by_their_folder(capsys):
    words = ["predict", "run", "a.nii", "b.nii", "out"]
    assert main([*words, "--json"]) == 2
    assert "name the folder" in json.loads(capsys.readouterr().out)["error"]["hint"]
    assert main(words) == 2
    assert "name the folder" in capsys.readouterr().err
    assert main(["predict", "run", "a.nii", "out", "--ttta"]) == 2
    assert "name the folder" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "what", "part"),
    [
        (["predict", "run"], "invalid command line: required options", "folder of scans"),
        (["verify", "x", "--jobs", "abc"], "invalid command line: value error", "--jobs"),
        (["verify", "x", "--jbos", "1"], "invalid command line: unrecognized options", "--jbos"),
        (["convert", "a", "b", "--to", "x"], "invalid command line: invalid choice", "'nnunet'"),
        (["predict", "a", "b", "c", "--batch-size", "0"], "invalid batch_size", "0"),
        (["compare", "a", "--seeds", "-1"], "invalid seeds.0", "-1"),
        (["train", "a", "--seed", "4294967296"], "invalid seed", "4294967296"),
    ],
)
def test_mistaken_options_are_told_as_all_mistakes_are(capsys, words, what, part):
    assert main([*words, "--json"]) == 2
    shown = capsys.readouterr()
    error = json.loads(shown.out)["error"]
    assert (error["what"], part in error["got"], shown.err) == (what, True, "")
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    for text in (error["got"], error.get("expected", ""), shown.err):
        assert "pydantic" not in text  # nor its page of the error
        assert "[bold]" not in text
