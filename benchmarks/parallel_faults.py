"""Plays what can go wrong where several processes train, and writes down what came of it.

    python benchmarks/parallel_faults.py --out benchmarks/results/parallel

Each fault happens to a real run of `megavit train --nproc 2`, or of torchrun where machines come and go, in the midst
of its training; then the run goes on as a user would go on. What is left is compared with a run that nobody disturbed.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

EPOCHS, BATCH, TIMEOUT, AT, NAN_AT, PATIENCE = 8, 64, 15, 60, 30, 240
NOTES, SLOW, NAN = "FAULTS_NOTES", "FAULTS_SLOW", "FAULTS_NAN"
RECIPE = """base = "demo"
[run]
batch_size = {batch}
precision = "float32"
device = "cpu"
checkpoint_seconds = 0.5
{length}
[parallel]
timeout_seconds = {timeout}
"""
# Random numbers, and Muon's bfloat16, come out otherwise in another number of processes.
PLAIN = """[augment]
shift = 0.0
mixup = 0.0
[schedule]
patch_drop = 0.0
[optimizer]
kind = "adamw"
"""


@dataclass
class Outcome:
    """What came of a fault.

    Attributes:
        happened: in a few words.
        code: exit codes of the commands, in turn.
        noticed: seconds until the run stood still or had ended; None: it never did.
        again: seconds until the next new step was done.
        lost: steps done twice.
        result: how it compares with the run that nobody disturbed.
        orphans: processes left over.
    """

    fault: str
    happened: str
    code: list[int]
    noticed: float | None = None
    again: float | None = None
    lost: int | None = None
    result: str = ""
    orphans: int = 0


def work(arguments: list[str]) -> None:
    """Be `megavit` in one process that notes its steps, and is slow or wrong where it is told to."""
    import runpy

    from megavit.train.loop import loop

    rank, real = os.environ.get("RANK", "0"), loop.train_step
    slow, wrong = os.environ.get(SLOW), os.environ.get(NAN)

    def noted(state, task, images, labels, *rest, **more):
        if slow == rank:
            time.sleep(0.05)
        if wrong == rank and state.step == NAN_AT:
            from dataclasses import replace

            finite = task.loss
            task = replace(task, loss=lambda logits, targets: finite(logits, targets) * float("nan"))
        loss = real(state, task, images, labels, *rest, **more)
        line = [time.monotonic(), os.getpid(), int(rank), state.step, loss, state.skipped]
        with Path(os.environ[NOTES]).open("a") as file:
            file.write(json.dumps(line) + "\n")
        return loss

    loop.train_step = noted
    sys.argv = ["megavit", *arguments]
    runpy.run_module("megavit", run_name="__main__", alter_sys=True)


def agent(arguments: list[str]) -> None:
    """Be `megavit train --nproc 2`, whose processes note their steps."""
    import runpy

    from torch.distributed.launcher import api

    real = api.launch_agent
    own = [__file__, "--work"]

    def noted(config, entrypoint, args, *rest):
        return real(config, entrypoint, [*own, *args[2:]], *rest)

    setattr(api, "launch_agent", noted)  # noqa: B010 - of another signature's names
    sys.argv = ["megavit", *arguments]
    runpy.run_module("megavit", run_name="__main__", alter_sys=True)


@dataclass
class Note:
    at: float
    pid: int
    rank: int
    step: int
    loss: float
    skipped: int


@dataclass
class Run:
    """A run in a folder of its own."""

    out: Path
    length: str = f"epochs = {EPOCHS}"
    more: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.notes_file = self.out.with_suffix(".notes")
        self.recipe = self.out.with_suffix(".toml")
        self.recipe.parent.mkdir(parents=True, exist_ok=True)
        self.recipe.write_text(RECIPE.format(batch=BATCH, length=self.length, timeout=TIMEOUT) + self.more)

    def begin(self, *command: str) -> subprocess.Popen[bytes]:
        own = {NOTES: str(self.notes_file), "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        told = self.out.with_suffix(".told").open("ab")
        environment = os.environ | own | self.environment
        return subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=told, stderr=told, start_new_session=True
        )

    @property
    def new(self) -> list[str]:
        return ["train", "demo:digits", "--recipe", str(self.recipe), "--out", str(self.out)]

    def start(self) -> subprocess.Popen[bytes]:
        return self.begin(__file__, "--agent", *self.new, "--nproc", "2")

    def resume(self) -> int:
        return ended(self.begin(__file__, "--agent", "train", "--resume", str(self.out), "--nproc", "2"))

    def node(self, nodes: str, port: int) -> subprocess.Popen[bytes]:
        """One machine of several."""
        conf = "last_call_timeout=3,join_timeout=120"
        torchrun = ["-m", "torch.distributed.run", "--nnodes", nodes, "--nproc-per-node", "1", "--max-restarts", "5"]
        torchrun += ["--rdzv-id", self.out.name, "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}"]
        return self.begin(*torchrun, "--local-addr", "localhost", "--rdzv-conf", conf, __file__, "--work", *self.new)

    def notes(self) -> list[Note]:
        with suppress(FileNotFoundError):
            return [Note(*json.loads(line)) for line in self.notes_file.read_text().splitlines()]
        return []

    def told(self) -> str:
        return self.out.with_suffix(".told").read_text(errors="replace")

    def until(self, reached: Callable[[list[Note]], bool]) -> list[Note]:
        deadline = time.monotonic() + PATIENCE
        while not reached(notes := self.notes()):
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.out.name} does not go on:\n{self.told()[-3000:]}")
            time.sleep(0.01)
        return notes

    def at_step(self, step: int = AT) -> list[Note]:
        return self.until(lambda notes: any(note.step >= step for note in notes))

    def workers(self) -> dict[int, int]:
        """The processes that train, by their ranks as last noted."""
        return {note.rank: note.pid for note in self.notes() if Path(f"/proc/{note.pid}").exists()}

    def gone(self, pids: set[int], since: float) -> float:
        """Seconds until none of these is there any more."""
        deadline = time.monotonic() + PATIENCE
        while any(alive(pid) for pid in pids):
            if time.monotonic() > deadline:
                raise SystemExit(f"processes of {self.out.name} do not end")
            time.sleep(0.01)
        return time.monotonic() - since

    def losses(self) -> dict[int, float]:
        """Of each step, as it was done last."""
        return {note.step: note.loss for note in self.notes()}

    def weights(self) -> str:
        from megavit.runtime.storage import sha256

        return sha256(self.out / "bundle" / "model.safetensors")

    def orphans(self) -> int:
        time.sleep(1)
        return sum(alive(note.pid) for note in {note.pid: note for note in self.notes()}.values())


def alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ended(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return -1


def compare(run: Run, whole: Run) -> str:
    """The result beside that of the run that nobody disturbed."""
    if not (run.out / "bundle").exists():
        return "no bundle"
    found, wanted = run.losses(), whole.losses()
    if run.weights() == whole.weights() and found == wanted:
        return "equal to the bit"
    if found.keys() != wanted.keys():
        return f"other steps: {len(found)} instead of {len(wanted)}"
    return f"losses within {max(abs(found[step] - wanted[step]) for step in wanted):.0e}"


def timed(run: Run, before: list[Note], since: float) -> dict[str, Any]:
    """How long until a step was done that is no repetition of one before, and how many were."""
    old = {note.pid for note in before}
    last = max(note.step for note in before)
    fresh = [note for note in run.notes() if note.pid not in old]
    again = min((note.at for note in fresh if note.step > last), default=None)
    first = min((note.step for note in fresh), default=last + 1)
    return {"again": again and again - since, "lost": last + 1 - first}


def worker_killed(run: Run) -> Outcome:
    process = run.start()
    run.at_step()
    workers, since = run.workers(), time.monotonic()
    os.kill(workers[1], signal.SIGKILL)
    noticed, before = run.gone(set(workers.values()), since), run.notes()
    code = ended(process)
    return Outcome("a process is killed", "all are started again", [code], noticed, **timed(run, before, since))


def agent_killed(run: Run) -> Outcome:
    process = run.start()
    run.at_step()
    workers, since = run.workers(), time.monotonic()
    process.kill()
    noticed, before, code = run.gone(set(workers.values()), since), run.notes(), process.wait()
    since = time.monotonic()
    codes = [code, run.resume()]
    return Outcome(
        "the command is killed", "its processes end with it; --resume", codes, noticed, **timed(run, before, since)
    )


def stopped(run: Run) -> Outcome:
    process = run.start()
    run.at_step()
    since = time.monotonic()
    process.terminate()
    code = ended(process)
    noticed, before, since = time.monotonic() - since, run.notes(), time.monotonic()
    codes = [code, run.resume()]
    return Outcome("SIGTERM", "a checkpoint, then the end; --resume", codes, noticed, **timed(run, before, since))


def torn(run: Run) -> Outcome:
    process = run.start()
    run.until(lambda _: len(list((run.out / "checkpoints").glob("step-*"))) == 2)
    run.at_step()
    workers, since = run.workers(), time.monotonic()
    process.kill()
    run.gone(set(workers.values()), since)
    before, code = run.notes(), process.wait()
    newest = max((run.out / "checkpoints").glob("step-*"))
    part = newest / "__1_0.distcp"
    os.truncate(part, part.stat().st_size // 2)
    since = time.monotonic()
    codes = [code, run.resume()]
    happened = "it is left out, and the one before is taken; --resume"
    if "left out a damaged checkpoint" not in run.told():
        happened = "NOT TOLD"
    return Outcome("the newest checkpoint is torn", happened, codes, None, **timed(run, before, since))


def disk_full(run: Run) -> Outcome:
    process = run.start()
    run.at_step()
    filler, since = run.out.parent / "filler", time.monotonic()
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**16))
    code = ended(process)
    noticed, before = time.monotonic() - since, run.notes()
    filler.unlink()
    since = time.monotonic()
    codes = [code, run.resume()]
    happened = "it ends and says so; space made, --resume" if "the disk is full" in run.told() else "NOT TOLD"
    return Outcome("the disk is full", happened, codes, noticed, **timed(run, before, since))


def hung(run: Run) -> Outcome:
    process = run.start()
    run.at_step()
    workers, since = run.workers(), time.monotonic()
    os.kill(workers[1], signal.SIGSTOP)
    other = run.gone({workers[0]}, since)
    noticed, before = run.gone(set(workers.values()), since), run.notes()
    code = ended(process)
    happened = (
        f"after timeout_seconds ({TIMEOUT} here) the others end ({other:.0f} s), the agent kills it 30 s later, and "
        "all are started again"
    )
    return Outcome("a process hangs (SIGSTOP)", happened, [code], noticed, **timed(run, before, since))


def slow(run: Run) -> Outcome:
    run.environment = {SLOW: "1"}
    code = ended(run.start())
    return Outcome("a process is slow, 50 ms a step", "all wait for it in every step", [code])


def not_a_number(run: Run) -> Outcome:
    run.environment = {NAN: "1"}
    code = ended(run.start())
    notes = run.notes()
    ranks = {note.rank: note.skipped for note in notes}
    return Outcome("a loss is NaN in one process", f"all skip that step: {ranks[0]} and {ranks[1]} skipped", [code])


def two_runs(run: Run) -> Outcome:
    process = run.start()
    run.at_step()
    codes = [run.resume(), ended(process)]
    happened = "the second is refused" if "another process is training" in run.told() else "NOT TOLD"
    return Outcome("two commands in one folder", happened + "; the first goes on", codes)


def node_lost(run: Run) -> Outcome:
    port = free_port()
    first = run.node("2", port)
    time.sleep(1)
    second = run.node("2", port)
    run.at_step()
    workers, since = run.workers(), time.monotonic()
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    noticed, before = run.gone(set(workers.values()), since), run.notes()
    second = run.node("2", port)
    codes = [ended(first), ended(second)]
    happened = "torchrun of the other waits; started again, both go on"
    return Outcome("one of two machines is killed", happened, codes, noticed, **timed(run, before, since))


def two_one_two(run: Run) -> Outcome:
    port = free_port()
    first = run.node("1:2", port)
    time.sleep(1)
    second = run.node("1:2", port)
    run.at_step()
    workers, since = run.workers(), time.monotonic()
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    noticed, before = run.gone(set(workers.values()), since), run.notes()
    last, old = max(note.step for note in before), set(workers.values())
    run.until(lambda notes: any(note.pid not in old and note.step > last + 10 for note in notes))
    result = timed(run, before, since)
    second = run.node("1:2", port)
    codes = [ended(first), ended(second)]
    joined = {note.rank for note in run.notes()[-10:]}
    happened = f"the other goes on alone; started again, it joins (in the end {len(joined)} processes)"
    return Outcome("two machines become one, then two", happened, codes, noticed, **result)


def by_clock(run: Run) -> Outcome:
    process = run.start()
    run.at_step(20)
    workers, since = run.workers(), time.monotonic()
    os.kill(workers[0], signal.SIGKILL)
    noticed, before = run.gone(set(workers.values()), since), run.notes()
    code = ended(process)
    pairs: dict[int, set[int]] = {rank: {n.step for n in run.notes() if n.rank == rank} for rank in (0, 1)}
    same = "the same steps in both" if pairs[0] == pairs[1] else "OTHER STEPS"
    newest = max((run.out / "checkpoints").glob("step-*"))
    seconds = json.loads((newest / "manifest.json").read_text())["seconds"]
    happened = f"all are started again; trained until {seconds:.0f} s of 48 s, what was lost not given back; {same}"
    return Outcome("a process is killed (--minutes 0.8)", happened, [code], noticed, **timed(run, before, since))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


FAULTS = {
    "worker": worker_killed,
    "agent": agent_killed,
    "node": node_lost,
    "nodes": two_one_two,
    "sigterm": stopped,
    "torn": torn,
    "full": disk_full,
    "hung": hung,
    "slow": slow,
    "nan": not_a_number,
    "two": two_runs,
    "clock": by_clock,
}


def run_of(name: str, place: Path) -> Run:
    """The run that a fault is played in."""
    match name:
        case "clock":
            return Run(place / "run", length="minutes = 0.8")
        case "nodes":
            return Run(place / "run", more=PLAIN)
    return Run(place / "run")


def play(name: str, folder: Path, whole: Run) -> Outcome:
    """Play a fault in a new run."""
    place = folder / name
    place.mkdir()
    if name == "full":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], check=True)
    try:
        run = run_of(name, place)
        outcome = FAULTS[name](run)
        outcome.orphans = run.orphans()
        outcome.result = "by the clock: not compared" if name == "clock" else compare(run, whole)
        if name == "nan":
            outcome.result = "that step left out"
        return outcome
    finally:
        if name == "full":
            subprocess.run(["umount", "-l", str(place)], check=True)


def table(outcomes: list[Outcome]) -> str:
    """The outcomes for the documentation."""

    def seconds(value: float | None) -> str:
        return "" if value is None else f"{value:.1f} s"

    lines = [
        "| fault | what happens | exit codes | stands still after | next new step after | steps done twice | result |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        codes = ", then ".join(map(str, one.code))
        lost = "" if one.lost is None else str(one.lost)
        cells = [one.fault, one.happened, codes, seconds(one.noticed), seconds(one.again), lost, one.result]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in ("--work", "--agent"):
        {"--work": work, "--agent": agent}[sys.argv[1]](sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=FAULTS)
    parser.add_argument("--out", type=Path, help="folder for faults.json and faults.md")
    arguments = parser.parse_args()
    outcomes: list[Outcome] = []
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        undisturbed: dict[str, Run] = {}
        for name in arguments.faults:
            more = PLAIN if name == "nodes" else ""
            if more not in undisturbed:
                undisturbed[more] = Run(folder / f"whole-{len(undisturbed)}" / "run", more=more)
                if ended(undisturbed[more].start()):
                    raise SystemExit(undisturbed[more].told())
            outcomes.append(play(name, folder, undisturbed[more]))
            sys.stdout.write(json.dumps(asdict(outcomes[-1])) + "\n")
            sys.stdout.flush()
            if arguments.out is not None:
                arguments.out.mkdir(parents=True, exist_ok=True)
                text = json.dumps([asdict(one) for one in outcomes], indent=1)
                (arguments.out / "faults.json").write_text(text + "\n")
                (arguments.out / "faults.md").write_text(table(outcomes))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
