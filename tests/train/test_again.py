import os

from megavit.train.run_dir import is_restart, write_restart_marker


def test_only_the_job_that_began_a_run_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "ours")
    assert not is_restart(tmp_path)
    write_restart_marker(tmp_path)
    assert is_restart(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another")
    assert not is_restart(tmp_path)


def test_a_job_without_a_name_is_known_by_its_agent(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    write_restart_marker(tmp_path)
    assert is_restart(tmp_path)
    monkeypatch.setattr("os.getppid", os.getpid)
    assert not is_restart(tmp_path)


def test_what_no_agent_began_is_not_gone_on_with_unasked(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    write_restart_marker(tmp_path)
    assert not list(tmp_path.iterdir()) and not is_restart(tmp_path)
