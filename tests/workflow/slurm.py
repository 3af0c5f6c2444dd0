"""A Slurm of one pretend node on this machine, in a folder of its own: munged, slurmctld and slurmd, no systemd."""

import contextlib
import getpass
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
CONF = """\
ClusterName=pretend
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=600
KillWait=5
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
GRES = "NodeName={host} Name=gpu File=/dev/null\nNodeName={host} Name=gpu File=/dev/zero\n"  # a card needs some device


class CannotStart(Exception):
    """Slurm does not run here; the text says why."""


def lacking():
    """The programs that are not there."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [name for name in PROGRAMS if not shutil.which(name, path=path)]


def free_ports(n):
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


@contextlib.contextmanager
def started(folder):
    """Give the environment in which `sbatch` and its kin speak to a Slurm that runs until the block ends."""
    folder.mkdir(mode=0o755, parents=True)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = platform.node().partition(".")[0]
    words = {"host": host, "user": getpass.getuser(), "folder": folder, "ports": free_ports(2)}
    (folder / "slurm.conf").write_text(CONF.format(**words))
    (folder / "gres.conf").write_text(GRES.format(**words))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    # The plugin takes SLURM_CONF from a job's steps: elsewhere the file lies in /etc/slurm.
    (folder / "bin").mkdir()
    step = folder / "bin/srun"
    step.write_text(f'#!/bin/sh\nSLURM_CONF="{folder}/slurm.conf" exec "{shutil.which("srun", path=path)}" "$@"\n')
    step.chmod(0o755)
    environment = {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": f"{folder}/bin:{path}"}
    own = {name: f"{folder}/munge.{name}" for name in ("socket", "pid", "log", "seed")}
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={own['socket']}"]
    munged += [f"--pid-file={own['pid']}", f"--log-file={own['log']}", f"--seed-file={own['seed']}"]
    commands = {"munged": munged, "slurmctld": ["slurmctld", "-D", "-i"], "slurmd": ["slurmd", "-D", "-N", host]}
    processes = []
    try:
        for name, command in commands.items():
            out = (folder / f"{name}.out").open("w")
            processes.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, **environment},
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
            wait_for(lambda name=name: ready(name, folder, environment), 30, name, processes[-1], folder)
        yield environment
    finally:
        for process in reversed(processes):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                process.kill()


def ready(name, folder, environment):
    if name == "munged":
        return Path(folder, "munge.socket").exists()
    command = ["sinfo", "-h", "-o", "%t"] if name == "slurmd" else ["scontrol", "ping"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    return ("idle" if name == "slurmd" else "UP") in done.stdout


def wait_for(what, seconds, name, process, folder):
    end = time.time() + seconds
    while not what():
        if process.poll() is not None or time.time() > end:
            logs = [folder / f"{name}.out", folder / f"{name}.log"]
            said = "\n".join(path.read_text(errors="replace") for path in logs if path.exists()).strip()
            raise CannotStart(f"{name} does not start: {said.rpartition(chr(10))[2] or 'it says nothing'}")
        time.sleep(0.2)
