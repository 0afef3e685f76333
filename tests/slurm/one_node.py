"""A Slurm of one node on this machine, from Debian's packages, that leaves nothing behind.

Nothing is installed: packages are unpacked in a folder, and programs, configuration, keys, state and logs are in
there. Daemons listen on free ports of 127.0.0.1 only. No root is needed, and a Slurm of the machine is left alone.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge"]
PARTITIONS = ["cpu", "gpu"]  # as in profiles/slurm/partitions.yaml

SLURM_CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
PluginDir={plugins}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MpiDefault=none
MailProg=/bin/true
MessageTimeout=100
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MinJobAge=86400
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory_mb} Gres=gpu:2
"""


class OneNodeSlurm:
    """`start` it in an empty folder, run commands in its `environment`, and `stop` it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "programs"
        self.daemons = folder / "daemons"
        self.wrappers = folder / "wrappers"
        self._daemons: list[subprocess.Popen] = []

    @property
    def environment(self) -> dict[str, str]:
        libraries = self._libraries()
        return {
            **os.environ,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.wrappers}:{self.programs}/usr/bin:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{libraries}:{libraries}/slurm-wlm",
        }

    def start(self) -> None:
        """Fetch and unpack the packages, start the daemons, wait until the node is idle.

        Raises RuntimeError if the packages cannot be had, or a daemon does not come up.
        """
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        for folder in (self.folder, self.folder.parent):
            folder.chmod(0o755)  # munged insists that everyone can reach its socket
        self._unpack()
        self._link_daemons()
        self._write_configuration()
        self._wrap_srun()
        self._start_daemon(
            *("munged", "--foreground", f"--socket={self.folder}/munge.socket"),
            *(f"--key-file={self.folder}/munge.key", f"--pid-file={self.folder}/munged.pid"),
            *(f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/munged.seed"),
        )
        self._wait_for((self.folder / "munge.socket").exists, "munged")
        self._start_daemon("slurmctld", "-D")
        self._start_daemon("slurmd", "-D", "-N", _host(), "-d", str(self.daemons / "slurmstepd"))
        self._wait_for(self._is_idle, "the node to be idle")

    def stop(self) -> None:
        """End jobs and daemons; safe to call at any time."""
        if self._daemons:
            self._cancel_jobs()
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()

    def jobs(self) -> dict[str, dict[str, str]]:
        """{job id: fields} of all jobs since the start, as Slurm has them: JobState, Partition, TresPerJob, ..."""
        lines = self._ask("scontrol", "show", "job", "--oneliner").splitlines()
        jobs = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
        return {job["JobId"]: job for job in jobs if "JobId" in job}

    def _libraries(self) -> Path:
        return next((self.programs / "usr" / "lib").glob("*-linux-gnu"))

    def _unpack(self) -> None:
        """The packages and what they need beyond what is installed; apt's own lists and cache stay as they are."""
        if not shutil.which("apt-get"):
            raise RuntimeError("no apt-get: this test takes Slurm from Debian's packages")
        apt = self.folder / "apt"
        for name in ("lists/partial", "cache/archives/partial", "packages"):
            (apt / name).mkdir(parents=True)
        options = [f"-oDir::State::Lists={apt}/lists", f"-oDir::Cache={apt}/cache"]
        options.append(
            "-oAPT::Sandbox::User="
        )  # root would else fetch as a user who may not write here
        _run("apt-get", *options, "update")
        planned = _run(
            *("apt-get", *options, "--simulate", "install", "--no-install-recommends", *PACKAGES)
        )
        names = [line.split()[1] for line in planned.splitlines() if line.startswith("Inst ")]
        _run("apt-get", *options, "download", *(names or PACKAGES), folder=apt / "packages")
        for package in (apt / "packages").glob("*.deb"):
            _run("dpkg", "--extract", str(package), str(self.programs))

    def _link_daemons(self) -> None:
        """Under the names that an installation gives them: they read their own names (without: no GPU)."""
        self.daemons.mkdir()
        for path in (self.programs / "usr" / "sbin").iterdir():
            (self.daemons / path.name.removesuffix("-wlm")).symlink_to(path)

    def _write_configuration(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        conf = SLURM_CONF.format(
            folder=self.folder,
            plugins=self._libraries() / "slurm-wlm",
            user=getpass.getuser(),
            host=_host(),
            controller_port=_free_port(),
            node_port=_free_port(),
            cores=os.cpu_count(),
            memory_mb=memory_mb * 9 // 10,
        )
        for name in PARTITIONS:
            default = "YES" if name == PARTITIONS[0] else "NO"
            conf += f"PartitionName={name} Nodes=ALL Default={default} MaxTime=INFINITE State=UP\n"
        (self.folder / "slurm.conf").write_text(conf)
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null,/dev/zero\n")

    def _wrap_srun(self) -> None:
        """Inside a job Snakemake's plugin calls srun without SLURM_CONF, and there is no /etc/slurm here."""
        self.wrappers.mkdir()
        srun = self.wrappers / "srun"
        srun.write_text(
            f"#!/bin/sh\nSLURM_CONF='{self.folder}/slurm.conf' exec '{self.programs}/usr/bin/srun' \"$@\"\n"
        )
        srun.chmod(0o755)

    def _start_daemon(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("w") as out:
            self._daemons.append(
                subprocess.Popen(
                    [self.daemons / command[0], *command[1:]],
                    env=self.environment,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for the caller, who calls `stop`
                )
            )

    def _ask(self, *command: str) -> str:
        """What a Slurm command prints; nothing if it gets no answer."""
        program = self.programs / "usr" / "bin" / command[0]
        with contextlib.suppress(subprocess.TimeoutExpired):
            return subprocess.run(
                [program, *command[1:]],
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=60,
            ).stdout.strip()
        return ""

    def _is_idle(self) -> bool:
        states = self._ask("sinfo", "--noheader", "--format=%T").split()
        return bool(states) and set(states) == {"idle"}

    def _cancel_jobs(self) -> None:
        if self._ask("squeue", "--noheader", "--format=%i"):
            self._ask("scancel", f"--user={getpass.getuser()}")
            with contextlib.suppress(RuntimeError):  # the daemons have to end all the same
                self._wait_for(
                    lambda: not self._ask("squeue", "--noheader", "--format=%i"), "jobs to end"
                )

    def _wait_for(
        self, condition: Callable[[], bool], what: str, *, timeout_s: float = 120
    ) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            dead = [daemon.args[0].name for daemon in self._daemons if daemon.poll() is not None]
            if dead or time.monotonic() > end:
                reason = f"{dead[0]} ended" if dead else f"waited {timeout_s:.0f} s"
                outputs = [p.read_text()[-2000:] for p in sorted(self.folder.glob("*.out"))]
                raise RuntimeError(f"{reason}; Slurm needs {what}. Output:\n{''.join(outputs)}")
            time.sleep(0.5)


def _run(*command: str, folder: Path | None = None) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
