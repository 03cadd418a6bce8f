"""Ranks that run a tool together: processes that mpirun launches, as on a cluster, or threads of one, on this machine's cores."""

import json
import os
import shutil
import signal
import subprocess
import time
import unittest

from hone_cli import run, tool
from model_files import ModelTest, QUICK, log_lines

SHAPE = QUICK[: QUICK.index("--batch")]
MPIRUN = shutil.which("mpirun")
# MPICH's starts as many as it is asked for, Open MPI's as many as there are cores.
OPEN_MPI = bool(MPIRUN) and "Open MPI" in subprocess.run([MPIRUN, "--version"], stdout=subprocess.PIPE, text=True).stdout
LAUNCH = ["mpirun", "--oversubscribe"] if OPEN_MPI else ["mpirun"]
RANK = b"OMPI_COMM_WORLD_RANK" if OPEN_MPI else b"PMI_RANK"
# Tests run as root in containers, where Open MPI would not start.
ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "HONE_THREADS": "1"}


def command(ranks, *arguments, name="train"):
    return [*LAUNCH, "-n", str(ranks), tool(name), *map(str, arguments)]


def launch(ranks, *arguments, check=False, stdin=None, name="train"):
    """A tool on so many ranks, to its end."""
    source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    done = subprocess.run(command(ranks, *arguments, name=name), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
                          env=dict(os.environ, **ROOT), **source)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(done.args)}: status {done.returncode}\n{done.stderr}")
    return done


def launch_in(folders, *arguments):
    """train, on a rank in each folder, to its end."""
    ranks = []
    for folder in folders:
        ranks += [":"] * bool(ranks) + ["-n", "1", "-wdir", folder, tool("train"), *map(str, arguments)]
    return subprocess.run([*LAUNCH, *ranks], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=120, env=dict(os.environ, **ROOT))


def start(ranks, *arguments):
    return subprocess.Popen(command(ranks, *arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=dict(os.environ, **ROOT))


def ranks_of(launcher):
    """The processes of a launch, by rank."""
    parents, ranks = {}, {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = dict(part.split(b"=", 1) for part in file.read().split(b"\0") if b"=" in part)
            with open(f"/proc/{name}/status") as file:
                parents[int(name)] = int(next(line for line in file if line.startswith("PPid:")).split()[1])
        except (OSError, StopIteration):
            continue
        if RANK in environment:
            ranks[int(name)] = int(environment[RANK])

    def launched(process):  # MPICH's launcher has a process between
        while process in parents and process != launcher.pid:
            process = parents[process]
        return process == launcher.pid

    return {rank: process for process, rank in ranks.items() if launched(process)}


def without_mpi():
    """Whether the tools were built with -DHONE_MPI=OFF: what they say of a launch."""
    said = run("train", "--steps", 0, "--output", "never.h5", env={"SLURM_STEP_NUM_TASKS": 2, "SLURM_PROCID": 0, **ROOT}).stderr
    return "no MPI" in said


class Ranks(ModelTest):
    """What runs of any layout are compared by."""

    @classmethod
    def options(cls, steps, *more, batch=4, accumulate=1):
        return ["--data", cls.corpus, *SHAPE, "--batch", batch, "--accumulate", accumulate, "--steps", steps, *more]

    def begun(self, *arguments):
        """A run that goes on beside this process."""
        return subprocess.Popen([tool("train"), *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def assert_close(self, a, b, tolerance=1e-5):
        self.assertLessEqual(abs(a - b), tolerance * abs(b), (a, b))

    def assert_close_logs(self, a, b, tolerance=1e-5):
        for x, y in zip(log_lines(a), log_lines(b), strict=True):
            self.assertEqual((x["step"], x["tokens"]), (y["step"], y["tokens"]))
            for key in ("loss", "gradient_norm"):
                self.assert_close(x[key], y[key], tolerance)

    def assert_same_run(self, one, two, logs):
        """Of the results, and the logs, of one process and of ranks that share its batches."""
        for key in ("steps", "tokens", "loss", "valid_loss", "parameters"):
            self.assertEqual(one[key], two[key], key)
        for a, b in zip(*map(log_lines, logs), strict=True):
            for key in ("step", "tokens", "loss", "gradient_norm", "terms"):
                self.assertEqual(a.get(key), b.get(key), key)
            # Each rank keeps about half of what the optimizer does.
            self.assertLess(b["optimizer_bytes"], 0.6 * a["optimizer_bytes"])
            self.assertGreater(b["optimizer_bytes"], 0.4 * a["optimizer_bytes"])

    def loss_of(self, model):
        return self.row(run("eval", model, "--data", self.corpus, "--format", "json", "--no-speed", check=True))["loss"]

    @staticmethod
    def row(done):
        """Of the only model that was scored or measured, or the one behind a baseline."""
        return json.loads(done.stdout)["rows"][-1]

    def until(self, process, holds):
        while not holds():
            self.assertIsNone(process.poll(), process.poll() is not None and process.communicate())
            time.sleep(0.01)


@unittest.skipUnless(MPIRUN, "no mpirun here")
class Parallel(Ranks):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if without_mpi():
            raise unittest.SkipTest("these tools were built without MPI")

    def assert_a_signal_stops_all(self, *options):
        """SIGTERM to the second of two ranks, once there is a checkpoint."""
        checkpoint = self.path("c.h5")
        process = start(2, *options, "--checkpoint", checkpoint, "--save-every", 3, "--output", self.path("out.h5"))
        while not os.path.exists(checkpoint) and process.poll() is None:
            time.sleep(0.01)
        os.kill(ranks_of(process)[1], signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        self.assertIn(f"--resume {checkpoint}", err)
        self.assertEqual((process.returncode, out), (128 + signal.SIGTERM, ""), err)
        self.assert_no_leftovers()

    def stopped(self, begun, layout, *options):
        """The checkpoint of a run on these ranks that a signal stopped."""
        checkpoint = self.path(f"{begun}.h5")
        ranks, *parallel = layout
        process = start(ranks, *options, *parallel, "--checkpoint", checkpoint, "--save-every", 2, "--output", self.path("never.h5"))
        while not os.path.exists(checkpoint) and process.poll() is None:
            time.sleep(0.005)
        first = ranks_of(process).get(0)
        if first:
            os.kill(first, signal.SIGTERM)
        process.communicate(timeout=60)
        return checkpoint

    def goes_on(self, checkpoint, name, layout, *options):
        """The result of a run that begins with a copy of the checkpoint."""
        ranks, *parallel = layout
        state = self.path(f"{name}.h5")
        shutil.copy(checkpoint, state)
        done = launch(ranks, *options, "--format", "json", *parallel, "--resume", state, "--checkpoint", state, "--output",
                      self.path(f"{name}-out.h5"), check=True)
        return json.loads(done.stdout)
