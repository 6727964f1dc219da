import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from keras_secure.cli.output import check_output_folder, staged_folder
from keras_secure.errors import InputError


def test_new_and_empty_folders_are_fine_and_checking_leaves_no_trace(tmp_path):
    (tmp_path / "empty").mkdir()
    assert check_output_folder(tmp_path / "empty") == tmp_path.resolve() / "empty"
    assert check_output_folder(tmp_path / "a" / "b") == tmp_path.resolve() / "a" / "b"
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_refusals(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, words in (
        (tmp_path / "full", "is not empty"),
        (tmp_path / "full" / "file", "is a file"),
        (tmp_path / "full" / "file" / "below", "cannot be made"),
        (tmp_path / "loop", "cannot be made|is not empty"),
        ("/proc/keras_secure_report", "cannot be made"),
        (tmp_path / ("long" * 100), "cannot be made"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            check_output_folder(path)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_unwritable_parent(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        check_output_folder(tmp_path / "out")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("place", ["out", "a/b/out", "empty"])
def test_output_appears_whole_and_only_at_the_end(tmp_path, place):
    (tmp_path / "empty").mkdir()
    with staged_folder(tmp_path / place) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("done")
        assert not (tmp_path / place / "deep").exists()
    assert (tmp_path / place / "deep" / "file").read_text() == "done"
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_any_exception(tmp_path, problem):
    def work():
        with staged_folder(tmp_path / "a" / "out") as folder:
            (folder / "file").write_text("half")
            raise problem

    with pytest.raises(problem):
        work()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_filled_meanwhile_is_not_overwritten(tmp_path):
    def work():
        with staged_folder(tmp_path / "out") as folder:
            (folder / "file").write_text("new")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "file").write_text("theirs")

    with pytest.raises(InputError, match="was kept"):
        work()
    assert (tmp_path / "out" / "file").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_handlers_are_put_back_and_other_threads_may_stage(tmp_path):
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(name) for name in names]
    with staged_folder(tmp_path / "one"):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert [signal.getsignal(name) for name in names] == before

    def work():
        with staged_folder(tmp_path / "two") as folder:
            (folder / "file").write_text("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (tmp_path / "two" / "file").exists()


@pytest.mark.parametrize(
    ("name", "code"), [("SIGINT", -signal.SIGINT), ("SIGTERM", 128 + signal.SIGTERM)]
)
def test_an_ended_process_leaves_nothing(tmp_path, name, code):
    program = textwrap.dedent("""
        import sys, time
        from keras_secure.cli.output import staged_folder
        with staged_folder(sys.argv[1]) as folder:
            (folder / "file").write_text("half")
            print(folder, flush=True)
            time.sleep(60)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # A shell may have started the tests with SIGINT ignored, which children would inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        staged = Path(process.stdout.readline().strip())
        assert (staged / "file").exists()
        process.send_signal(getattr(signal, name))
        assert process.wait(timeout=300) in (code, 128 + getattr(signal, name))
    finally:
        process.kill()
        process.stdout.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_that_ends_takes_nothing_with_it(tmp_path):
    program = textwrap.dedent("""
        import os, sys
        from keras_secure.cli.output import staged_folder
        with staged_folder(sys.argv[1]) as folder:
            (folder / "file").write_text("done")
            child = os.fork()
            if child == 0:
                raise SystemExit(0)
            os.waitpid(child, 0)
            assert (folder / "file").exists()
    """)
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "out")], check=True, timeout=300)
    assert (tmp_path / "out" / "file").read_text() == "done"
