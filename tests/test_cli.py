"""The command `crest`: what it reads, what it prints and what it exits with."""

from __future__ import annotations

import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from crest import Guard, __version__
from crest.cli import main

SAFE = "the cake"
UNSAFE = "the bomb"


class Result(NamedTuple):
    code: int | str | None
    out: str
    err: str


class Crest(Protocol):
    def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> Result: ...


@pytest.fixture
def crest(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Crest:
    """Run the command line in this process, with the tiny bundle as the embedded one."""
    monkeypatch.setattr("crest.bundle.EMBEDDED", tiny_bundle)

    def run(*arguments: str | Path, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Result(stop.value.code, printed.out, printed.err)

    return run


def process(*arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "crest", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
    )


def sources(result: Result) -> list[str]:
    return [json.loads(line)["source"] for line in result.out.splitlines()]


# --- what it says


def test_the_version_is_that_of_the_package(crest: Crest) -> None:
    assert crest("--version") == (0, f"crest {__version__}\n", "")


def test_the_version_loads_no_engine() -> None:
    finished = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "crest", "--version"], capture_output=True, text=True, check=True
    )
    loaded = {line.split("|")[-1].strip() for line in finished.stderr.splitlines()}
    assert "crest.cli" in loaded
    assert not loaded & {"numpy", "onnxruntime", "sentencepiece", "huggingface_hub", "rich"}


def test_without_a_command_the_help_is_printed(crest: Crest) -> None:
    result = crest("--help")
    assert result.code == 0
    assert "check" in result.out
    assert "models" in result.out


def test_the_table_has_a_row_per_text_in_order(crest: Crest) -> None:
    result = crest("check", SAFE, UNSAFE)
    assert result.out.splitlines() == [
        "verdict  score  language  categories  text",
        "safe     0.018  en        -           the cake",
        "FLAGGED  0.982  en        weapons     the bomb",
    ]
    assert (result.code, result.err) == (0, "")


def test_json_lines_are_the_verdicts_without_the_texts(crest: Crest, guard: Guard) -> None:
    result = crest("check", "--json", SAFE, UNSAFE)
    verdicts = guard.check([SAFE, UNSAFE])
    assert [json.loads(line) for line in result.out.splitlines()] == [
        {"source": f"argument {number}", **json.loads(json.dumps(verdict.to_dict()))}
        for number, verdict in enumerate(verdicts, start=1)
    ]
    assert SAFE not in result.out


def test_a_long_text_is_shown_by_its_beginning(crest: Crest) -> None:
    row = crest("check", "the cake " * 50).out.splitlines()[1]
    assert row.endswith("  " + "the cake " * 6 + "the c…")


def test_control_characters_of_a_text_never_reach_the_terminal(crest: Crest) -> None:
    out = crest("check", "Good \x1b[2J\x07 morning\r\nall", "a\u202eb", "lone \udc80").out
    assert "Good \ufffd[2J\ufffd morning all" in out
    assert "a\ufffdb" in out
    assert "lone \ufffd" in out


def test_joiners_that_spelling_needs_are_kept(crest: Crest) -> None:
    assert "می\u200cخواهم نان بپزم" in crest("check", "می\u200cخواهم نان بپزم").out


def test_a_terminal_gets_a_table_by_rich(crest: Crest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    out = crest("check", UNSAFE, "[bold]brackets are text[/]").out
    assert "\x1b[1;31mFLAGGED" in out
    assert "[bold]brackets are text[/]" in out


def test_a_terminal_without_the_script_gets_escapes(tiny_bundle: Path) -> None:
    child = process("check", "Как испечь хлеб?", "--model", str(tiny_bundle), PYTHONIOENCODING="ascii")
    out, err = child.communicate()
    assert (child.returncode, err) == (0, b"")
    assert rb"\u041a\u0430\u043a" in out


# --- what it reads


def test_a_file_is_one_text(crest: Crest, tmp_path: Path) -> None:
    path = tmp_path / "post.txt"
    path.write_bytes(f"\ufeff{SAFE}\n\n{SAFE}\n".encode())
    assert sources(crest("check", "--json", "--file", path)) == [str(path)]


def test_a_file_by_lines_is_a_text_per_line(crest: Crest, tmp_path: Path) -> None:
    path = tmp_path / "posts.txt"
    path.write_bytes("Good morning\r\n\nGood\u2028evening\x0call".encode())
    result = crest("check", "--json", "--lines", "--file", path)
    assert sources(result) == [f"{path}:1", f"{path}:2", f"{path}:3"]
    assert json.loads(result.out.splitlines()[1])["reason"] == "too_short"


def test_arguments_come_before_files_and_a_dash_reads_standard_input(crest: Crest, tmp_path: Path) -> None:
    path = tmp_path / "post.txt"
    path.write_text(SAFE)
    result = crest("check", "--json", "--file", path, SAFE, "-", stdin=b"Guten Morgen\nallerseits\n")
    assert sources(result) == ["argument 1", "standard input", str(path)]


def test_standard_input_by_lines(crest: Crest) -> None:
    result = crest("check", "--json", "--lines", "-", stdin=f"{SAFE}\n{UNSAFE}\n".encode())
    assert sources(result) == ["standard input:1", "standard input:2"]
    assert [json.loads(line)["flagged"] for line in result.out.splitlines()] == [False, True]


def test_a_text_may_begin_with_a_dash(crest: Crest) -> None:
    assert sources(crest("check", "--json", "--", "-5 degrees today")) == ["argument 1"]


def test_with_a_prompt_the_texts_are_replies(crest: Crest, guard: Guard) -> None:
    result = crest("check", "--json", SAFE, UNSAFE, "--prompt", "habari")
    assert [json.loads(line)["score"] for line in result.out.splitlines()] == [
        verdict.score for verdict in guard.check_pairs([("habari", SAFE), ("habari", UNSAFE)])
    ]


def test_the_threshold_decides(crest: Crest) -> None:
    assert json.loads(crest("check", "--json", SAFE, "--threshold", "0").out)["flagged"]
    assert not json.loads(crest("check", "--json", UNSAFE, "--threshold", "1").out)["flagged"]


def test_one_thread_is_enough(crest: Crest) -> None:
    assert crest("check", SAFE, "--threads", "1").code == 0


# --- what it exits with


def test_a_flagged_text_fails_only_when_asked(crest: Crest) -> None:
    assert crest("check", SAFE, UNSAFE).code == 0
    assert crest("check", SAFE, UNSAFE, "--fail-on-flagged").code == 3
    assert crest("check", SAFE, "--fail-on-flagged").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "nothing to check"),
        (["--file", "absent.txt"], 2, "cannot read absent.txt: No such file"),
        (["--file", "."], 2, "cannot read .: Is a directory"),
        (["--file", "latin1.txt"], 2, "latin1.txt is not UTF-8 (byte 3)"),
        ([SAFE, "--model", "./no-such-folder"], 4, "no-such-folder"),
        ([SAFE, "--model", "empty"], 5, "manifest.json"),
    ],
)
def test_an_error_is_one_line_on_standard_error(
    crest: Crest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin1.txt").write_bytes("Caf\u00e9".encode("latin-1"))
    Path("empty").mkdir()
    result = crest("check", *arguments)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("crest: error: ")
    assert result.err.count("\n") == 1
    assert message in result.err


@pytest.mark.parametrize("arguments", [["--threshold", "1.5"], ["--threads", "0"], ["--treshold", "0.5"]])
def test_a_wrong_option_is_a_usage_error(crest: Crest, arguments: list[str]) -> None:
    result = crest("check", SAFE, *arguments)
    assert (result.code, result.out) == (2, "")
    assert arguments[0] in result.err


def test_a_closed_pipe_ends_it_without_a_word(tiny_bundle: Path) -> None:
    child = process("check", "--json", "--lines", "-", "--model", str(tiny_bundle))
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, err = child.communicate(f"{SAFE}\n".encode() * 20)
    assert err == b""
    assert child.returncode == 1


def test_an_interrupt_ends_it_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        buffer: Interrupted

        def read(self) -> bytes:
            raise KeyboardInterrupt

    stdin = Interrupted()
    stdin.buffer = stdin
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(SystemExit) as stop:
        main(["check", "-"])
    assert stop.value.code == 130
    assert "Traceback" not in capsys.readouterr().err


def test_the_module_runs_as_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["crest", "--version"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("crest", run_name="__main__")
    assert capsys.readouterr().out == f"crest {__version__}\n"
