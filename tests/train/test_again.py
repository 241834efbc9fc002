from megavit.runtime.ranks import Ranks
from megavit.train.again import is_restart, mark_begun

RESTARTED = Ranks(world=2, restarts=1)


def test_only_the_job_that_began_a_run_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "ours")
    assert not is_restart(tmp_path, RESTARTED)
    mark_begun(tmp_path)
    assert is_restart(tmp_path, RESTARTED)
    assert not is_restart(tmp_path, Ranks(world=2))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another")
    assert not is_restart(tmp_path, RESTARTED)


def test_a_job_without_a_name_is_known_by_its_agent(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    mark_begun(tmp_path)
    assert is_restart(tmp_path, RESTARTED)
    monkeypatch.setattr("os.getppid", lambda: 1)
    assert not is_restart(tmp_path, RESTARTED)
